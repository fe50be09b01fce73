"""What every row of the ledger is measured with: a model, its judges, and faces that no rule has seen.

Drawn faces are the test split of data seed 1; photographs those of the people of the test split. Each is encoded once,
with dequantisation noise and at bin centres, and each row takes its faces from these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import checkpoint
from glowkit.dataset import PROCEDURAL, Dataset, cache_folder, kind_of, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import sealed, sealing
from glowkit.image_flow import BIN_CENTRES, ImageFlow
from glowkit.judge import FIRST, SECOND, Judge, open_judge
from glowkit.linear import LinearConfig, LinearFlow
from glowkit.randomness import stream
from glowkit.realism import LooksReader
from glowkit.study import CENTRES, FILE, NOISE, Study, open_study

DATA_SEED = 1
"""Of the drawn faces that decide: those of seed 0 trained the models, and were shown by the first edition."""
ENCODINGS = (NOISE, CENTRES)
PIXEL = "pixel"
EACH = {NOISE: 100, CENTRES: 50, PIXEL: 100}


@dataclass(frozen=True, eq=False)
class Stage:
    """A model and the m faces at `where` in `album` that its claims are measured on.

    judges: the two of them. attributes (A): those that the study and both judges know. labels bool (m, A), people
    (m,), x uint8 (m, 3, H, W); z[encoding] (m, D), mapped from disk. folder: where what takes long is kept, in the
    cache; with another model, study or judge, other faces or another `each` it is another one. each[space]: how many
    faces an attribute is added to and removed from, in each space of the sweep: the first ones of the same list.
    """

    name: str
    flow: ImageFlow
    study: Study
    judges: tuple[Judge, Judge]
    album: Dataset
    where: np.ndarray
    attributes: list[str]
    labels: np.ndarray
    people: np.ndarray
    x: Tensor
    z: dict[str, Tensor]
    folder: Path
    each: Mapping[str, int] = field(default_factory=EACH.copy)
    _found: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False)  # by functions that look `once`

    @property
    def drawn(self) -> bool:
        """Whether every true counterfactual is known."""
        return self.album.kind == PROCEDURAL

    @property
    def described(self) -> str:
        """The faces, for a reader."""
        if self.drawn:
            return f"{self.album.name} of data seed {self.album.seed}, test split"
        return "photographs of the people of the test split"

    def has(self, attribute: str) -> np.ndarray:
        """bool (m,)"""
        return self.labels[:, self.attributes.index(attribute)]

    def faces(self, wanted: ArrayLike | None = None, n: int | None = None) -> np.ndarray:
        """Rows of at most n faces of those `wanted` bool (m,), each of another person, in an order drawn once."""
        rows = self._shuffled if wanted is None else self._shuffled[np.asarray(wanted)[self._shuffled]]
        first = np.sort(np.unique(self.people[rows], return_index=True)[1])
        return rows[first][:n]

    def pixels(self, rows: ArrayLike, encoding: str = CENTRES) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] as they were encoded: at bin centres, or with the same noise."""
        return torch.cat([self._dequantised(row, encoding) for row in np.asarray(rows)]) + 0.5

    def truth(self, rows: ArrayLike, attribute: str, wanted: bool) -> Tensor:
        """The true counterfactual as the model sees it: the same faces with the attribute, or without it."""
        return self.flow.quantise(self.album.counterfactual(self.where[rows], **{attribute: wanted}))

    def decode(self, z: Tensor) -> Tensor:
        """(B, 3, H, W)"""
        return self.flow.decode(z)

    @cached_property
    def looks(self) -> LooksReader:
        """Trained on training images: does a picture show one face?"""
        return _reader_of_looks(self.seen, self.flow.bits)

    @cached_property
    def seen(self) -> Dataset:
        """The set whose training and validation images made the model."""
        return _opened(self.study.data, self.flow.image_size) if self.drawn else self.album

    @cached_property
    def _shuffled(self) -> np.ndarray:
        return np.random.default_rng(0).permutation(len(self.where))

    def _dequantised(self, row: int, encoding: str) -> Tensor:
        """Centred pixels (1, 3, H, W) of a face: its noise depends on nothing but which face it is."""
        noise = BIN_CENTRES if encoding == CENTRES else stream(DATA_SEED, int(self.where[row]))
        return self.flow.dequantise(self.x[row : row + 1], noise)


def open_stage(
    name: str | Path,
    data: str | None = None,
    n: int | None = None,
    judges: str | Path | None = None,
    each: Mapping[str, int] = EACH,
) -> Stage:
    """The stage for a bundled model or a folder, with at most n faces; `data` as `open_dataset` takes it.

    judges: a model of the same kind of faces whose judges are to be asked; its own unless said. Latents are kept in the
    cache, and the next call reads them. Raises GlowkitError if the model has no study with noise or not both judges.
    """
    folder = checkpoint.folder_of(name)
    flow, study = checkpoint.load(folder), open_study(folder)
    both = open_judge(judges or folder), open_judge(judges or folder, second=True)
    if study.encoding != NOISE:
        raise GlowkitError(f"{name}: its study has no class means with noise; make it: `glowkit study {name}`")
    data = str(data or study.data)
    seed = {"seed": DATA_SEED} if kind_of(data) == PROCEDURAL else {}
    album = open_dataset(data, size=flow.image_size, **seed)
    where = album.subset("test")[:n]
    known = [album.attributes, *(judge.attributes for judge in both)]
    attributes = [attribute for attribute in study.attributes if all(attribute in names for names in known)]
    columns = [album.attributes.index(attribute) for attribute in attributes]
    people = np.arange(len(where)) if album.identities is None else album.identities[where]
    theirs = checkpoint.folder_of(judges or folder)
    files = folder / checkpoint.WEIGHTS, folder / FILE, theirs / FIRST.file, theirs / SECOND.file
    made_of = album.name, album.seed, where.tolist(), sorted(each.items()), [checkpoint.sha256(file) for file in files]
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    stage = Stage(
        folder.name, flow, study, both, album, where, attributes,
        np.asarray(album.labels, bool)[where][:, columns], people, album.images(where), {},
        cache_folder() / "measures" / f"{folder.name}-{key}", each,
    )  # fmt: skip
    for encoding in ENCODINGS:
        stage.z[encoding] = _encoded(stage, encoding)
    return stage


def once(look: Callable) -> Callable:
    """look(stage, *others), done once: what it finds is kept with the stage, and goes when the stage goes."""

    @wraps(look)
    def found(stage: Stage, *others: Any) -> Any:
        key = look, *others
        if key not in stage._found:
            stage._found[key] = look(stage, *others)
        return stage._found[key]

    return found


# Of models of one data set, these are the same.


@cache
def _opened(data: str, size: int) -> Dataset:
    return open_dataset(data, size=size)


@cache
def _reader_of_looks(seen: Dataset, bits: int) -> LooksReader:
    flow = LinearFlow(LinearConfig(seen.size, 1, bits))
    training, others = seen.subset("train")[:4000], seen.subset("valid")[:1000]
    return LooksReader(*(flow.quantise(seen.images(where)).detach() for where in (training, others)))


def _encoded(stage: Stage, encoding: str) -> Tensor:
    def make() -> Tensor:
        bar = tqdm(batches(len(stage.where)), f"encoding, {encoding}", unit="batch")
        return torch.cat(
            [stage.flow(torch.cat([stage._dequantised(row, encoding) for row in rows]))[0] for rows in bar]
        )

    return kept(stage.folder / f"{encoding}.npy", make)


@torch.no_grad()
def kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """What `make` returns, mapped from the file at `path`: made and written first if there is none that is whole."""
    if not sealed(path):
        made = make().numpy()
        with sealing(path) as unfinished:
            np.save(unfinished, made)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def batches(n: int, size: int = 64) -> list[range]:
    """Rows 0 to n - 1, `size` at a time."""
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def pairs(stage: Stage, n: int) -> Iterator[tuple[int, int]]:
    """At most n pairs of two people each, no person in two pairs."""
    rows = stage.faces()[: 2 * n]
    return zip(rows[::2].tolist(), rows[1::2].tolist(), strict=False)
