"""What an edit looks like in a run: the same drawn faces, an attribute added, and the truth beneath it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from glowkit import affine
from glowkit.errors import GlowkitError
from glowkit.files import replacing
from glowkit.measures.stage import Stage
from glowkit.pixels import to_pixels
from glowkit.study import NOISE

ATTRIBUTES = ("Smiling", "Eyeglasses")
FACES = 6
ROWS = ("face", *(f"{attribute}, {what}" for attribute in ATTRIBUTES for what in ("added", "drawn")))
"""Of the picture, from top to bottom. It is compressed: colours are off by a few levels."""


@torch.no_grad()
def write(stage: Stage, path: Path) -> None:
    """Writes the picture: FACES faces without the ATTRIBUTES as they are encoded, edited at alpha 1, and drawn anew.

    Raises GlowkitError where an attribute is unknown to the study or a judge, or so many faces are not there.
    """
    if unknown := [attribute for attribute in ATTRIBUTES if attribute not in stage.attributes]:
        raise GlowkitError(f"{unknown[0]} is unknown to the study or to a judge")
    rows = stage.faces(~np.any([stage.has(attribute) for attribute in ATTRIBUTES], axis=0), FACES)
    if len(rows) < FACES:
        raise GlowkitError(f"{len(rows)} faces without {' and '.join(ATTRIBUTES)}, of the {FACES} that it shows")
    pictures = [stage.pixels(rows, NOISE)]
    for attribute in ATTRIBUTES:
        added = affine.add(stage.z[NOISE][rows], stage.study.direction(attribute, NOISE))
        pictures += [stage.decode(added), stage.truth(rows, attribute, True)]
    sheet = torch.cat([torch.cat(list(row), dim=2) for row in pictures], dim=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        Image.fromarray(to_pixels(sheet[None])[0]).save(unfinished, "webp", quality=90)


def read(path: Path, size: int) -> dict[str, np.ndarray]:
    """uint8 (FACES, size, size, 3) for each of ROWS."""
    sheet = np.asarray(Image.open(path)).reshape(len(ROWS), size, FACES, size, 3)
    return dict(zip(ROWS, sheet.swapaxes(1, 2), strict=True))
