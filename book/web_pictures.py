"""Sphinx extension: pictures as a reader's browser likes them: small, fetched when they come into view, of known size.

Chapters bring their figures as PNGs, and their sliders as text with every frame inside. A page gets WebP files in their
place, which lie beside it: a figure without loss where that is smaller than QUALITY, and as the PNG it was where
nothing is smaller; a slider's frames as they are, each once.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms.images import BaseImageConverter
from sphinx.util.osutil import relative_uri

QUALITY = 90  # as the frames of sliders have
FRAME = re.compile(r"data:image/webp;base64,([A-Za-z0-9+/=]+)")
PICTURE = re.compile(r'<img (?=[^>]*src="[^"]*_images/([^"/]+)")')


def smallest(png: Path) -> bytes | None:
    """The picture as WebP; None where the PNG is smaller."""
    image = Image.open(png)
    # Figures stand on white; what lies behind a transparent edge is white as well.
    ground = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    kinds = []
    for how in ({"lossless": True}, {"quality": QUALITY}):
        buffer = io.BytesIO()
        flat.save(buffer, "webp", method=4, **how)
        kinds.append(buffer.getvalue())
    best = min(kinds, key=len)
    return best if len(best) < png.stat().st_size else None


class AsWebP(BaseImageConverter):
    """Figures, on their way to a page, become WebP."""

    default_priority = 200  # when outputs have chosen what to show, and before pages are written

    def match(self, node: nodes.image) -> bool:
        return self.app.builder.format == "html" and node["uri"].endswith(".png") and node["uri"] in self.env.images

    def handle(self, node: nodes.image) -> None:
        png = Path(self.app.srcdir, node["uri"])
        if (data := smallest(png)) is not None:
            name = png.stem + ".webp"
            node["uri"] = kept(self.app, self.env.docname, name, data)
            node["candidates"] = {"*": node["uri"]}


class FramesBeside(BaseImageConverter):
    """Frames of sliders, on their way to a page, become files beside it."""

    default_priority = 200

    def apply(self, **kwargs: object) -> None:
        builder = self.app.builder
        if builder.format != "html":
            return
        folder = relative_uri(builder.get_target_uri(self.env.docname), builder.imagedir)

        def beside(found: re.Match[str]) -> str:
            data = base64.b64decode(found[1])
            path = kept(self.app, self.env.docname, f"frame-{hashlib.sha256(data).hexdigest()[:20]}.webp", data)
            builder.images[path] = self.env.images[path][1]  # as the builder notes a figure: to be copied
            return f"{folder}/{builder.images[path]}"

        for raw in list(self.document.findall(nodes.raw)):
            if FRAME.search(raw.astext()):
                raw.replace_self(nodes.raw("", FRAME.sub(beside, raw.astext()), format=raw["format"]))


def kept(app: Sphinx, docname: str, name: str, data: bytes) -> str:
    """Where a made picture waits to be copied; its name says what it shows."""
    path = Path(app.doctreedir, "images", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    app.env.images.add_file(docname, os.fspath(path))
    return os.fspath(path)


def when_in_view(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """html-page-context: a picture waits until it comes into view, and its place is kept until then."""
    paths = {name: Path(app.srcdir, path) for path, name in app.builder.images.items()}

    def attributes(found: re.Match[str]) -> str:
        path = paths.get(unquote(found[1]))
        if path is None or path.suffix == ".svg" or found[1].startswith("frame-"):
            return '<img loading="lazy" '
        with Image.open(path) as image:
            return f'<img loading="lazy" width="{image.width}" height="{image.height}" '

    if "body" in context:
        context["body"] = PICTURE.sub(attributes, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_post_transform(AsWebP)
    app.add_post_transform(FramesBeside)
    app.connect("html-page-context", when_in_view)
    return {"parallel_read_safe": True}
