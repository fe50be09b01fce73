"""One view of every data set: images by index, attributes, splits, landmarks.

`open_dataset("faces64")` is the procedural set, rendered on first use and kept on disk; `open_dataset(PATH)`
is a CelebA tree, cropped on the fly and kept in memory, or mapped from disk if it was cropped to one array.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch
from tqdm.auto import tqdm

from glowkit import celeba, distributed, faces
from glowkit.celeba.files import map_pixels
from glowkit.celeba.places import is_tree
from glowkit.errors import GlowkitError
from glowkit.files import expanded, replacing

FACES = 60_000  # procedural faces: 50,000 train, 5,000 valid, 5,000 test
FACES_SEED = 0
FACES_NAME = re.compile(r"faces([0-9]{1,99})")  # any other name is a path, that of a folder "faces_mine" for instance
PROCEDURAL, PHOTOGRAPHS, SAMPLES = "procedural", "photographs", "samples"  # what a set's images are
MEMORY_LIMIT = 4 * 2**30  # bytes of crops a Dataset of photographs keeps in memory


@dataclass(frozen=True, eq=False)
class Dataset:
    """N square face images with A attributes.

    labels: bool (N, A). splits: uint8 (N,), 0 train, 1 valid, 2 test. landmarks: float (N, 5, 2), x then y in
    pixels of the image, or None. identities: int (N,) or None. kind: PROCEDURAL faces, of which the factors are known
    and any can be drawn again with some of them changed; PHOTOGRAPHS; or SAMPLES of a model. seed: of PROCEDURAL faces.
    """

    name: str
    size: int
    attributes: list[str]
    labels: np.ndarray
    splits: np.ndarray
    landmarks: np.ndarray | None
    identities: np.ndarray | None
    _pixels: Callable[[np.ndarray], np.ndarray]  # indices (B,) -> uint8 (B, 3, size, size)
    kind: str = PHOTOGRAPHS
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Sequence[int] | slice) -> torch.Tensor:
        """The images at `indices`, in that order: uint8 (B, 3, size, size)."""
        return torch.from_numpy(self._pixels(self._checked(indices)))

    def has(self, attribute: str) -> np.ndarray:
        """Which images have the attribute: bool (N,). GlowkitError if the set has no labels for it."""
        if attribute not in self.attributes:
            raise GlowkitError(f"attribute {attribute!r}: {self.name} has {', '.join(self.attributes)}")
        return self.labels[:, self.attributes.index(attribute)]

    def factors(self, indices: Sequence[int] | slice) -> faces.Factors:
        """What the procedural faces at `indices` are drawn from; GlowkitError if this is another kind of set."""
        return faces.factors(self._checked(indices), self._seed())

    def counterfactual(self, indices: Sequence[int] | slice, **changes: bool | float | np.ndarray) -> torch.Tensor:
        """The true counterfactual: the same faces drawn again with some factors changed, uint8 (B, 3, size, size).

        changes: as `faces.counterfactual` takes them, `Smiling=True` say. GlowkitError if the set is not procedural.
        """
        return faces.render(faces.counterfactual(self.factors(indices), **changes), self.size)

    def draw(self, indices: Sequence[int], device: str | torch.device, seed: int | None = None) -> torch.Tensor:
        """Procedural faces drawn on `device`, without the cache on disk: uint8 (B, 3, size, size), on the device.

        They are faces `indices` (from 0, without end) of a seed, and by default of the set's own, of which the set has
        the first N. GlowkitError if this is another kind of set.
        """
        own = self._seed()
        return faces.render(faces.factors(indices, own if seed is None else seed), self.size, device)

    def subset(self, split: str) -> np.ndarray:
        """Indices of the images in a split: "train", "valid" or "test"."""
        if split not in celeba.SPLITS:
            raise GlowkitError(f"split {split!r}: choose one of {', '.join(celeba.SPLITS)}")
        return np.flatnonzero(self.splits == celeba.SPLITS.index(split))

    def _seed(self) -> int:
        if self.seed is None:
            raise GlowkitError(f"{self.name}: {self.kind} have no known factors; procedural faces (faces64) do")
        return self.seed

    def _checked(self, indices: Sequence[int] | slice) -> np.ndarray:
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            raise GlowkitError(f"{self.name}: index out of range; it holds images 0 to {len(self) - 1}")
        return indices


def kind_of(name: str | Path) -> str:
    """The kind of set that `open_dataset(name)` opens, without opening it: PROCEDURAL or PHOTOGRAPHS."""
    return PROCEDURAL if FACES_NAME.fullmatch(str(name)) else PHOTOGRAPHS


def open_dataset(name: str | Path, size: int | None = None, seed: int = FACES_SEED) -> Dataset:
    """Open "facesN" (the procedural faces at N pixels) or a CelebA tree cropped to `size` (64 unless given).

    A tree is named by its path, or as "celeba": the one at $GLOWKIT_CELEBA, or else the folder of that name. A
    tree in a folder with the name of a set is asked for as "./faces64", say. seed: of procedural faces, others than
    those that the bundled models have seen unless it is 0. Raises GlowkitError if there is no such set or tree, a name
    may mean two, or anything is wrong.

    >>> album = glowkit.open_dataset("faces64")
    >>> len(album), album.kind, album.images(album.subset("test")[:8]).shape
    (60000, 'procedural', torch.Size([8, 3, 64, 64]))
    >>> truth = album.counterfactual([0], Smiling=not album.has("Smiling")[0])  # the same face, drawn again
    """
    name = str(name)
    if match := FACES_NAME.fullmatch(name):
        if is_tree(Path(name)):
            raise GlowkitError(f"{name}: means procedural faces, but names a CelebA tree here; give ./{name} for that")
        if size not in (None, int(match[1])):
            raise GlowkitError(f"{name} has {match[1]} pixels, not {size}: open faces{size} instead")
        return _procedural(int(match[1]), seed)
    if name == "celeba":
        there, named = os.path.isdir(name), os.environ.get("GLOWKIT_CELEBA")
        if not (there or named):
            raise GlowkitError("celeba: give the path of a CelebA tree (--data PATH), or set GLOWKIT_CELEBA to it")
        if there and named and os.path.realpath(name) != os.path.realpath(expanded(named)) and is_tree(Path(name)):
            raise GlowkitError(f"celeba: a CelebA tree here and GLOWKIT_CELEBA, {named}; give ./celeba or that path")
        name = named or name
    return _photographs(name, 64 if size is None else size)


# ------------------------------------------------------------------------------------------- procedural faces


def _procedural(size: int, seed: int) -> Dataset:
    if not 32 <= size <= 256:
        raise GlowkitError(f"faces{size}: procedural faces have 32 to 256 pixels")
    drawn = faces.factors(np.arange(FACES), seed)
    return Dataset(
        name=f"faces{size}",
        size=size,
        attributes=list(faces.ATTRIBUTES),
        labels=np.asarray(drawn.attributes),
        splits=np.repeat(np.arange(3, dtype=np.uint8), (50_000, 5_000, 5_000)),
        landmarks=faces.landmarks(drawn, size),
        identities=drawn.identities,
        _pixels=Blocks(size, seed),
        kind=PROCEDURAL,
        seed=seed,
    )


def cache_folder() -> Path:
    """Where rendered faces are kept: $GLOWKIT_CACHE, or the user's cache folder."""
    return expanded(os.environ.get("GLOWKIT_CACHE") or pooch.os_cache("glowkit"))


def block_length(size: int) -> int:
    """Faces in a cached block: 1000 up to 64 px, beyond as many as make 12 MB."""
    return 1000 if size <= 64 else 1000 * 64**2 // size**2


class Blocks:
    """The procedural faces' pixels, rendered block by block when first asked for and kept as .npy files.

    The folder's name holds a hash of the renderer's source, so a changed renderer never meets an old picture.
    """

    def __init__(self, size: int, seed: int = FACES_SEED) -> None:
        sources = sorted(set(Path(faces.__file__).parent.glob("*.py")) - {Path(faces.tree.__file__)})
        key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
        self.folder = cache_folder() / f"faces{size}-seed{seed}-{key}"
        self.size, self.seed = size, seed
        self.length = block_length(size)
        self.open: dict[int, np.ndarray] = {}

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        block_of = indices // self.length
        needed = np.unique(block_of)
        missing = [int(b) for b in needed if b not in self.open and self._load(int(b)) is None]
        for b in tqdm(missing, f"rendering faces{self.size}", unit="block", disable=not missing):
            self._render(b)
        out = np.empty((len(indices), 3, self.size, self.size), np.uint8)
        for b in needed:
            here = block_of == b
            out[here] = self.open[b][indices[here] - b * self.length]
        return out

    def _load(self, b: int) -> np.ndarray | None:
        """Map block b from disk; None if it is not there or damaged."""
        path = self.folder / f"{b:04d}.npy"
        shape = (min(self.length, FACES - b * self.length), 3, self.size, self.size)
        try:
            block = map_pixels(path)
            # The four bytes after the array are its checksum; NumPy reads past them.
            with path.open("rb") as file:
                file.seek(-4, os.SEEK_END)
                checksum = int.from_bytes(file.read(), "little")
        except (OSError, GlowkitError):
            return None
        if block.shape != shape or zlib.crc32(block) != checksum:
            return None
        self.open[b] = block
        return block

    def _render(self, b: int) -> None:
        stop = min((b + 1) * self.length, FACES)
        block = np.concatenate(
            [  # in small batches: the renderer's layers then stay in the processor's cache
                faces.render(faces.factors(np.arange(i, min(i + 50, stop)), self.seed), self.size).numpy()
                for i in range(b * self.length, stop, 50)
            ]
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"{b:04d}.npy") as path, path.open("wb") as file:
            np.save(file, block)
            file.write(zlib.crc32(block).to_bytes(4, "little"))
        self._load(b)


# ------------------------------------------------------------------------------------------------ photographs


def _photographs(path: str, size: int) -> Dataset:
    celeba.check_size(size)
    tree = celeba.read(path, tell=distributed.rank() == 0)
    packed = tree.packed(size)
    return Dataset(
        name=path,
        size=size,
        attributes=tree.attributes,
        labels=tree.labels,
        splits=celeba.own_splits(tree) if tree.splits is None else tree.splits,
        landmarks=tree.cropped_landmarks(size),
        identities=tree.identities,
        _pixels=Crops(tree, size) if packed is None else lambda indices: packed[0][packed[1][indices]],
    )


class Crops:
    """The crops of a CelebA tree, made once and kept in memory where the whole set fits `MEMORY_LIMIT`."""

    def __init__(self, tree: celeba.Tree, size: int) -> None:
        self.tree, self.size = tree, size
        shape = (len(tree), 3, size, size)
        # Pages of an array of zeros take no memory before they are written.
        self.kept = np.zeros(shape, np.uint8) if np.prod(shape) <= MEMORY_LIMIT else None
        self.made = np.zeros(len(tree), bool)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        if self.kept is None:
            return self._crop(indices)
        new = np.unique(indices[~self.made[indices]])
        if new.size:
            self.kept[new] = self._crop(new)
            self.made[new] = True
        return self.kept[indices]

    def _crop(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), 3, self.size, self.size), np.uint8)
        for row, i in enumerate(tqdm(indices, "cropping", unit="image", leave=False, disable=len(indices) < 1000)):
            out[row] = self.tree.crop(i, self.size).numpy()
        return out
