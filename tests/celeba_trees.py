"""Small CelebA trees for tests: four aligned images and their lists in the official formats."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = [f"{i:06d}.jpg" for i in (1, 2, 5, 9)]  # a subset of ids, as real subsets are
ATTRIBUTES = ["Male", "Smiling", "Young"]
LABELS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]], bool)


def picture(width=178, height=218, seed=0) -> Image.Image:
    """A smooth picture with some texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def write_tree(folder: Path) -> Path:
    """A small tree of aligned images, its lists in the official formats but for the landmarks."""
    (folder / "img_align_celeba").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        picture(seed=i).save(folder / "img_align_celeba" / name, quality=95)
    rows = [name + " " + " ".join(f"{v:2d}" for v in row) for name, row in zip(NAMES, 2 * LABELS - 1, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["4", " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} {k}\n" for n, k in zip(NAMES, (7, 7, 8, 9), strict=True)))
    # One line more than there are attributes: the other lists may be the complete ones.
    partition = zip([*NAMES, "000010.jpg"], (0, 0, 1, 2, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {k}\n" for n, k in partition))
    return folder


LANDMARK_HEAD = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)


def write_landmarks(path: Path, rows: list[list[int]]) -> None:
    lines = [f"{n} " + " ".join(map(str, row)) for n, row in zip(NAMES, rows, strict=True)]
    path.write_text("\n".join([str(len(rows)), LANDMARK_HEAD, *lines]) + "\n")


def edit_line(path: Path, number: int, text: str | None) -> None:
    """Replace a line, counted from 1, or drop it."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


def as_zip(folder: Path, path: Path, prefix: str = "img_align_celeba/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((folder / "img_align_celeba").iterdir()):
            archive.write(file, prefix + file.name)
    return path
