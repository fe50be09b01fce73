"""Procedural faces as a CelebA tree on disk: aligned and in the wild, with all lists in the official formats."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from glowkit.errors import GlowkitError
from glowkit.faces.geometry import HALF_EYES
from glowkit.faces.population import ATTRIBUTES, Factors, factors, uniform
from glowkit.faces.rendering import render_similar
from glowkit.files import expanded, scratch

MAX_FACES = 1_000_000  # in a tree
ALIGNED = (178, 218)  # width and height of CelebA's aligned images
ALIGNED_EYES = ((69.5, 111.5), (108.5, 111.5))  # where they put the eyes, in pixels


def _aligned(f: Factors, zoom: float):
    """The face in CelebA's aligned geometry, `zoom` times 178 x 218 pixels."""
    (left, eye_y), (right, _) = ALIGNED_EYES
    shift = ((left + right + 1) / 2 * zoom - 0.5, (eye_y + 0.5) * zoom - 0.5)
    width, height = (round(zoom * side) for side in ALIGNED)
    return render_similar(f, zoom * (right - left) / (2 * HALF_EYES), 0.0, shift, width, height)


def _in_the_wild(f: Factors, zoom: float):
    """The face somewhere in a larger picture, with its box (x, y, width, height)."""
    u = [float(uniform(f.seed, f.indices, f"wild {k}")[0]) for k in range(6)]
    width, height = round(zoom * (220 + 200 * u[0])), round(zoom * (240 + 220 * u[1]))
    scale = min(width, height) * (0.45 + 0.35 * u[2])
    angle = 0.5 * (u[3] - 0.5)
    shift = (width * (0.40 + 0.20 * u[4]), height * (0.38 + 0.16 * u[5]))
    picture, points = render_similar(f, scale, angle, shift, width, height)
    box = np.round([shift[0] - 0.36 * scale, shift[1] - 0.50 * scale, 0.72 * scale, 0.96 * scale]).astype(int)
    return picture, points, box


def write_tree(out: str | os.PathLike, n: int, size: int = 64, seed: int = 0) -> Path:
    """Write faces 0 .. n-1 of a seed as a CelebA tree: the images and all lists, in the official formats.

    `size` is the side of the square face crop that the images have detail for: up to 64 gives CelebA's own
    178 x 218 aligned images, up to 128 twice that, and so on; the images in the wild grow with them.
    Partition: the first 5/6 of the faces train, then 1/12 validation and 1/12 test, whole identities each.
    Nothing is left behind if the writing fails. GlowkitError if `out` exists and is not an empty folder.
    """
    out = expanded(out)
    if not 1 <= n <= MAX_FACES:
        raise GlowkitError(f"n = {n}: a tree has 1 to {MAX_FACES:,} faces")
    if not 32 <= size <= 256:
        raise GlowkitError(f"size = {size} is outside 32 .. 256 pixels")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GlowkitError(f"{out} exists and is not an empty folder; name a new one")
    f = factors(range(n), seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out) as folder:
        _write(folder, f, max(1, -(-size // 64)))
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
    return out


def _write(folder: Path, f: Factors, zoom: int) -> None:
    """The tree's images and lists, into an existing folder."""
    names = [f"{i + 1:06d}.jpg" for i in range(len(f))]
    wild, aligned, boxes = [], [], []
    for kind in ("img_celeba", "img_align_celeba"):
        (folder / kind).mkdir()
    for i, name in enumerate(tqdm(names, desc="faces", unit="face")):
        picture, points, box = _in_the_wild(f[i], zoom)
        _save(folder / "img_celeba" / name, picture)
        wild.append(np.round(points).astype(int).ravel())
        boxes.append(box)
        picture, points = _aligned(f[i], zoom)
        _save(folder / "img_align_celeba" / name, picture)
        aligned.append(np.round(points).astype(int).ravel())
    spots = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    _list(folder / "list_attr_celeba.txt", names, np.where(f.attributes, 1, -1), ATTRIBUTES)
    _list(folder / "list_landmarks_celeba.txt", names, wild, spots)
    _list(folder / "list_landmarks_align_celeba.txt", names, aligned, spots)
    _list(folder / "list_bbox_celeba.txt", names, boxes, ["image_id", "x_1", "y_1", "width", "height"])
    _list(folder / "identity_CelebA.txt", names, f.identities[:, None])
    identities = f.identities[-1]
    partition = np.digitize(f.identities, [identities * 5 // 6 + 1, identities * 11 // 12 + 1])
    _list(folder / "list_eval_partition.txt", names, partition[:, None])


def _save(path: Path, picture: Tensor) -> None:
    data = io.BytesIO()  # Pillow would not say why a file cannot be written
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(data, "JPEG", quality=95, subsampling=0)
    path.write_bytes(data.getvalue())


def _list(path: Path, names: list[str], rows, header=()) -> None:
    """One of CelebA's lists: with a header, the first line counts the rows."""
    lines = [str(len(names)), " ".join(header)] if header else []
    lines += [name + " " + " ".join(f"{value:2d}" for value in row) for name, row in zip(names, rows, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
