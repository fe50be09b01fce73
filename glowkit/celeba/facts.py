"""What is known of CelebA without its images: its counts, its file sums, and how often its attributes occur.

`facts.toml` has the numbers and says where each is from. They tell a whole set from a part of one, and
a stand-in from the real thing.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glowkit.celeba.files import FOLDERS
from glowkit.celeba.tree import Tree

_FACTS = tomllib.loads((Path(__file__).parent / "facts.toml").read_text(encoding="utf-8"))

COUNTS: dict[str, int] = _FACTS["counts"]
"""images, identities, landmarks (a face), attributes."""
PART: dict[str, int] = _FACTS["part"]
"""Of the part of CelebA that we have counted: images, identities, attributes, and the highest number of each."""
MD5: dict[str, str] = _FACTS["md5"]
"""Sums of the official files by name."""
MOST: dict[str, int] = _FACTS["most"]
"""Bytes that none of the official files has, by name."""
DRIVE: dict[str, list[str]] = _FACTS["drive"]
"""The official files' folder and identifier on Google Drive, by name."""
SHARES: dict[str, float] = _FACTS["shares"]
"""Positives of each of the 40 attributes, percent of all images."""


class Correlations(NamedTuple):
    """How the attributes of CelebA go together."""

    attributes: list[str]
    matrix: np.ndarray
    """(40, 40), two decimals."""
    n: int
    """Labelled images behind it."""


def correlations() -> Correlations:
    """How CelebA's attributes go together: Pearson correlations of the labels."""
    names, rows = list(SHARES), _FACTS["correlations"]["rows"]
    matrix = np.eye(len(names))
    for k, row in enumerate(rows):
        matrix[k, :k] = matrix[:k, k] = np.array(row) / 100
    return Correlations(names, matrix, _FACTS["correlations"]["images"])


def counts(tree: Tree) -> dict[str, int]:
    """The counts of COUNTS, of a tree on disk; 0 where it has no such file."""
    return {
        "images": len(tree),
        "identities": 0 if tree.identities is None else len(np.unique(tree.identities)),
        "landmarks": 0 if tree.landmarks is None else tree.landmarks.shape[1],
        "attributes": len(tree.attributes),
    }


def located(path: str | Path) -> dict[str, Path]:
    """Where the files of MD5 lie in the tree at `path` or its Anno, Eval or Img, by name; only those that do."""
    places = {name: [Path(path) / folder / name for folder in FOLDERS] for name in MD5}
    return {name: next(filter(Path.is_file, where)) for name, where in places.items() if any(map(Path.is_file, where))}


def official(path: str | Path) -> dict[str, bool]:
    """Which files of MD5 lie in the tree at `path` or its Anno, Eval or Img, and whether each has its sum."""
    return {name: is_official(file, name) for name, file in located(path).items()}


def is_official(file: Path, name: str) -> bool:
    """Whether a file is the official one of this name, by its md5 sum; of one that is too long, none is taken."""
    if file.stat().st_size > MOST[name]:
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest() == MD5[name]
