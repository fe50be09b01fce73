"""An edit to look at: a strip of enlarged, labelled pictures, or an animation that goes there and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from glowkit.files import replacing
from glowkit.pixels import to_pixels

TILE, FACE = 192, 256  # pixels a side of a picture in a strip, and of one that moves; of larger ones their own
GAP, MARGIN = 8, 14
FRAMES = 24  # of an animation, there and back
DURATION = 70  # milliseconds a frame; 500 at the ends
INK, PALE, BLUE, LINE = "#1a1a1a", "#6b6b6b", "#0072B2", "#e4e4e4"


def strip(original: Tensor, pictures: Tensor, labels: Sequence[str], notes: Sequence[str], title: str) -> Image.Image:
    """The original (3, S, S) uint8, then pictures (n, 3, S, S) float in [0, 1], with a label below each picture and a
    fainter note below that."""
    tiles = [_enlarged(pixels, TILE) for pixels in (original, *pictures)]
    side = tiles[0].width
    step, extra = side + GAP, 2 * GAP  # a wider gap after the original
    width = 2 * MARGIN + len(tiles) * step - GAP + extra
    sheet = Image.new("RGB", (width, MARGIN + 34 + side + 62), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), title, INK, _font(19, bold=True))
    top = MARGIN + 34
    for k, (tile, label, note) in enumerate(zip(tiles, ("original", *labels), ("", *notes), strict=True)):
        left = MARGIN + k * step + (extra if k else 0)
        sheet.paste(tile, (left, top))
        middle = left + side / 2
        draw.text((middle, top + side + 8), label, INK, _font(16), anchor="ma")
        draw.text((middle, top + side + 31), note, PALE, _font(14), anchor="ma")
    return sheet


def there_and_back(alpha: float) -> list[float]:
    """The alphas of the first half of an animation, 0 to alpha, slow at both ends: the second half is the way back."""
    steps = np.arange(FRAMES // 2 + 1) / (FRAMES // 2)
    return (alpha * (1 - np.cos(np.pi * steps)) / 2).tolist()


def frames(pictures: Tensor, alphas: Sequence[float], title: str) -> list[Image.Image]:
    """The frames of an animation, pictures (n, 3, S, S) there and back, each with its alpha and a bar below it."""
    way = []
    for x, alpha in zip(pictures, alphas, strict=True):
        face = _enlarged(x, FACE)
        frame = Image.new("RGB", (face.width, face.height + 44), "white")
        frame.paste(face, (0, 0))
        draw = ImageDraw.Draw(frame)
        draw.text((10, face.height + 9), title, INK, _font(15, bold=True))
        draw.text((face.width - 10, face.height + 9), said(alpha), INK, _font(15), anchor="ra")
        share, room = (alpha / alphas[-1] if alphas[-1] else 0.0), face.width - 20
        y = face.height + 34
        draw.rectangle((10, y, 10 + room, y + 4), LINE)
        draw.rectangle((10, y, 10 + max(1, round(share * room)), y + 4), BLUE)
        way.append(frame)
    return way + way[-2:0:-1]


def said(alpha: float) -> str:
    """An alpha as a reader meets it, with its sign, to two places or, of a small one, as many as it takes.

    >>> said(0.5).split()[-1], said(0.005).split()[-1], said(0).split()[-1]
    ('+0.50', '+0.005', '0')
    """
    number = f"{alpha:+.2f}" if abs(alpha) >= 0.1 else f"{alpha:+.1g}"
    return "\N{GREEK SMALL LETTER ALPHA} = " + (number.replace("-", "\N{MINUS SIGN}") if alpha else "0")


def save(path: Path, image: Image.Image | Sequence[Image.Image]) -> None:
    """Write a picture, or the frames of one that loops, in the format of the path's suffix."""
    data, kind = io.BytesIO(), Image.registered_extensions()[path.suffix.lower()]
    if isinstance(image, Image.Image):
        image.save(data, kind, quality=95)
    else:
        durations = [500 if k in (0, len(image) // 2) else DURATION for k in range(len(image))]
        moving = _few_colours(image) if kind == "GIF" else image
        moving[0].save(data, kind, save_all=True, append_images=moving[1:], duration=durations, loop=0, quality=90)
    with replacing(path) as temporary:  # Pillow would not say why a file cannot be written
        temporary.write_bytes(data.getvalue())


def _few_colours(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """In 256 colours, the same for all: colours that change from frame to frame would flicker."""
    joined = Image.new("RGB", (pictures[0].width * len(pictures), pictures[0].height))
    for k, picture in enumerate(pictures):
        joined.paste(picture, (k * picture.width, 0))
    palette = joined.quantize(256, Image.Quantize.MEDIANCUT)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _enlarged(x: Tensor, side: int) -> Image.Image:
    picture = Image.fromarray(to_pixels(x[None])[0] if x.is_floating_point() else x.permute(1, 2, 0).numpy())
    return picture if picture.width >= side else picture.resize((side, side), Image.Resampling.BICUBIC)


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own, which is everywhere the same and has Greek."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
