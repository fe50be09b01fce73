"""A panel to play with where someone is there: any attribute, as much of it as you like, on another face or your own.

A page shows frames that were drawn beforehand, so its sliders have few stops. With a kernel behind it each picture is
computed when it is asked for. The chapter's cell is one line, `playground(model, attribute)`; run by papermill it
shows nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageDraw
from torch import Tensor

from glowkit import affine, bundled, celeba, checkpoint
from glowkit.book.pictures import open_pictures
from glowkit.book.widgets import Shown, encode, image, live
from glowkit.book.words import words
from glowkit.dataset import PROCEDURAL, Dataset
from glowkit.errors import GlowkitError
from glowkit.image_flow import ImageFlow
from glowkit.judge import FIRST, Judge, open_judge
from glowkit.study import FILE as STUDY
from glowkit.study import Study, open_study

MOST = 4.0  # of alpha, either way
PREVIEW = 256  # pixels: the longer side of a picture of one's own while its eyes are pointed at
_SHOWN = 176  # CSS pixels: how wide a face is shown


class Playground:
    """What `playground` returns; a notebook displays it."""

    def __init__(self, model: str, attribute: str, alpha: float, data: str) -> None:
        self.own_model, self.data, self.rng = model, data, np.random.default_rng(0)
        self.start = attribute, alpha
        self.row = 0  # of the album
        self.photograph: Image.Image | None = None  # of one's own, in the place of the row
        self.held = False

    def _ipython_display_(self) -> None:
        if live():
            panel = self.panel()
            display(panel)
            self.shown.display()

    def panel(self) -> ipywidgets.VBox:
        """The controls, bound to the kernel; `shown` is the picture that follows them."""
        models = [self.own_model, *(name for name in with_study_and_judge() if name != self.own_model)]
        attribute, alpha = self.start
        self.model = ipywidgets.Dropdown(options=models, description="model")
        self.attribute = ipywidgets.Dropdown(description="attribute")
        self.alpha = ipywidgets.FloatSlider(
            value=alpha, min=-MOST, max=MOST, step=0.05, description="α", layout={"width": "28em"}
        )
        self.another = ipywidgets.Button(description="another face", icon="refresh")
        self.upload = ipywidgets.FileUpload(
            accept="image/*", description="a face of your own", layout={"width": "auto"}
        )
        self.eyes = [
            ipywidgets.FloatSlider(description=name, step=0.5, readout_format=".1f")
            for name in ("left eye: x", "y", "right eye: x", "y")
        ]
        self.preview = ipywidgets.HTML()
        hint = ipywidgets.HTML("Move the two crosses onto the eyes; left is left in the picture.")
        sliders = ipywidgets.VBox([hint, *self.eyes])
        self.pointing = ipywidgets.HBox([self.preview, sliders], layout={"display": "none"})
        self.message = ipywidgets.HTML()
        self.shown = Shown()

        self._list_attributes(attribute)
        self._choose(self._lacking(attribute))
        self.model.observe(lambda _: self._change_model(), "value")
        self.attribute.observe(lambda _: self._draw(), "value")
        self.alpha.observe(lambda _: self._draw(), "value")
        self.another.on_click(lambda _: self._choose(self.stage.people))
        self.upload.observe(lambda _: self._read(), "value")
        for slider in self.eyes:
            slider.observe(lambda _: self._look(), "value")
        buttons = ipywidgets.HBox([self.model, self.another, self.upload])
        return ipywidgets.VBox([buttons, ipywidgets.HBox([self.attribute, self.alpha]), self.pointing, self.message])

    @property
    def stage(self) -> Stage:
        """The chosen model and what belongs to it."""
        name = self.model.value
        return _open(name, self.data if name == self.own_model else "")

    def _list_attributes(self, wanted: str) -> None:
        names = self.stage.study.attributes
        chosen = wanted if wanted in names else names[0]
        with self._held():
            self.attribute.options = [(words(name), name) for name in names]
            self.attribute.value = chosen

    def _lacking(self, attribute: str) -> np.ndarray:
        people = self.stage.people
        lacking = people[~self.stage.album.has(attribute)[people]]
        return lacking if len(lacking) else people

    def _change_model(self) -> None:
        self._list_attributes(self.attribute.value)
        if self.photograph is None:
            self._choose(self.stage.people)
        else:
            self._look()

    def _choose(self, rows: np.ndarray) -> None:
        """Take one of these faces of the album."""
        self.row, self.photograph = int(self.rng.choice(rows)), None
        self.pointing.layout.display = "none"
        self._look()

    def _read(self) -> None:
        """Take the picture that was uploaded, its eyes where those of an aligned face are."""
        if not self.upload.value:
            return
        file = self.upload.value[0]
        try:
            picture = upright(file.name, bytes(file.content))
        except GlowkitError as error:
            self._say(str(error))
            return
        guess = celeba.frame_eyes(picture.size).ravel()
        with self._held():
            for slider, value, side in zip(self.eyes, guess, picture.size * 2, strict=True):
                slider.max, slider.value = side - 1, float(value)
        self.photograph = picture
        self.pointing.layout.display = ""
        self._look()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Several controls are set here before anything is drawn."""
        self.held = True
        yield
        self.held = False

    def _look(self) -> None:
        """Encode the face that was chosen, then draw."""
        if self.held:
            return
        try:
            face = self.stage.album.images([self.row]) if self.photograph is None else self._cropped()
        except GlowkitError as error:  # eyes that coincide, say
            self._say(str(error))
            return
        self.x = self.stage.flow.quantise(face)
        # Noise as in training: at bin centres an edit does less.
        self.z = self.stage.flow.encode(face, noise=torch.Generator().manual_seed(0))
        self._draw()

    def _cropped(self) -> Tensor:
        """uint8 (1, 3, H, W), of one's own picture"""
        points = [[slider.value for slider in pair] for pair in (self.eyes[:2], self.eyes[2:])]
        left, right = sorted(points)  # left is left in the picture, whichever was moved there
        self.preview.value = image(*_crosses(self.photograph, left, right), alt="Your picture, a cross on each eye")
        return celeba.crop(self.photograph, left, right, self.stage.flow.config.image_size)[None]

    def _draw(self) -> None:
        """Show the face, the face with the attribute added, and, of a drawn one, what would be right."""
        if self.held:
            return
        stage, name, alpha = self.stage, self.attribute.value, self.alpha.value
        self._say("")
        added = f"{alpha:.2f} × {words(name)}".replace("-", "\u2212")
        edited = stage.flow.decode(affine.add(self.z, stage.study.direction(name), alpha))
        faces = {
            "as it is": (self.x, "A face as it is"),
            f"with {added}": (edited, f"The same face with {added} in the latent space"),
        }
        if self.photograph is None and stage.album.kind == PROCEDURAL and alpha:
            truth = stage.album.counterfactual([self.row], **{name: alpha > 0})
            kind = "with" if alpha > 0 else "without"
            faces[f"drawn {kind} it"] = (stage.flow.quantise(truth), f"The same face drawn {kind} {words(name)}")
        self.shown.show(_row(faces) + _judged(stage.judge, name, faces))

    def _say(self, text: str) -> None:
        self.message.value = f'<p role="alert">{escape(text)}</p>' if text else ""


def playground(model: str = "faces64", attribute: str = "Smiling", alpha: float = 1.0, data: str = "") -> Playground:
    """The panel, beginning with this model, attribute and step, on the pictures of `open_pictures(model, data)`.

    It offers every attribute of the model's study, alpha from -4 to 4, each bundled model with a study and a judge,
    another held-out face, and a picture of one's own, which is cropped by its eyes as `glowkit edit` does.
    """
    return Playground(model, attribute, alpha, data)


def with_study_and_judge() -> list[str]:
    """The bundled models that can be played with."""
    folders = {name: checkpoint.folder_of(name) for name in bundled.models()}
    return [name for name, folder in folders.items() if (folder / STUDY).exists() and (folder / FIRST.file).exists()]


class Stage(NamedTuple):
    """A model with its study, its judge, its pictures and which of them are held out."""

    flow: ImageFlow
    study: Study
    judge: Judge
    album: Dataset
    people: np.ndarray


@cache
def _open(model: str, data: str) -> Stage:
    album = open_pictures(model, data)
    return Stage(checkpoint.load(model), open_study(model), open_judge(model), album, album.subset("test"))


def upright(name: str, data: bytes) -> Image.Image:
    """The picture in the bytes of a file of this name, turned as a camera noted.

    Raises GlowkitError, as for a file on disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(name).name or "picture")
        path.write_bytes(data)
        try:
            return celeba.File(str(path)).image()
        except GlowkitError as error:
            raise GlowkitError(str(error).replace(str(path), path.name)) from None


def _crosses(picture: Image.Image, left: list[float], right: list[float]) -> tuple[bytes, int]:
    """The picture made small, with a cross on each eye, encoded, and its width."""
    scale = PREVIEW / max(picture.size)
    small = picture.resize([max(1, round(scale * side)) for side in picture.size])
    draw = ImageDraw.Draw(small)
    for x, y in (left, right):
        x, y = scale * x, scale * y
        for colour, width in (("black", 3), ("white", 1)):
            draw.line((x - 8, y, x + 8, y), colour, width)
            draw.line((x, y - 8, x, y + 8), colour, width)
    return encode(torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255)[0], small.width


def _row(faces: dict[str, tuple[Tensor, str]]) -> str:
    """Faces (1, 3, H, W) side by side, each above its caption."""
    figures = "".join(
        f"<figure>{image(encode(x)[0], _SHOWN, alt)}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, (x, alt) in faces.items()
    )
    return f'<div style="display: flex; flex-wrap: wrap; text-align: center">{figures}</div>'


def _judged(judge: Judge, name: str, faces: dict[str, tuple[Tensor, str]]) -> str:
    """What the judge sees of the attribute in each face, in a line; nothing if it does not know it."""
    if name not in judge.attributes:
        return ""
    seen = [f"{judge(x)[0, judge.attributes.index(name)]:.0%} {caption}" for caption, (x, _) in faces.items()]
    return f"<p>How sure the judge is of <em>{escape(words(name))}</em>: {escape('; '.join(seen))}.</p>"
