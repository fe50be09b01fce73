"""What a data set looks like through a model: one streaming pass for means and class means, one for projections.

Memory is O(attributes x D), never O(images x D): at 256 px and 40 attributes about 250 MB, for any number of images.
The first pass reads training images, the second held-out ones, so that no direction is judged on what made it. A third
reads the held-out ones again, to ask on which side of the origin they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import checkpoint
from glowkit.dataset import Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.flow import Glow

FILE = "study.safetensors"
SPACES = ("latent", "pixel")
BATCH = 64  # images encoded at a time


class ClassSums:
    """Streaming first and second moments of vectors (D,), and their sums within the positives of each attribute.

    Sums are kept apart for even and odd images, so that each class mean comes with an independent replicate.
    """

    def __init__(self, attributes: int, dim: int) -> None:
        self.count = torch.zeros(2, dtype=torch.float64)
        self.total = torch.zeros(2, dim, dtype=torch.float64)
        self.square = torch.zeros(dim, dtype=torch.float64)
        self.class_count = torch.zeros(2, attributes, dtype=torch.float64)
        self.class_total = torch.zeros(2, attributes, dim, dtype=torch.float64)

    def add(self, vectors: Tensor, labels: Tensor, half: Tensor) -> None:
        """vectors (B, D); labels (B, A) bool; half (B,) 0 or 1, which replicate each image belongs to."""
        vectors = vectors.double().cpu()
        self.square += vectors.square().sum(0)
        for h in (0, 1):
            here = half == h
            y = labels[here].double()
            self.count[h] += here.sum()
            self.total[h] += vectors[here].sum(0)
            self.class_count[h] += y.sum(0)
            self.class_total[h] += y.T @ vectors[here]

    def mean(self) -> Tensor:
        """(D,)"""
        return self.total.sum(0) / self.count.sum()

    def variance(self) -> Tensor:
        """(D,), of the images about their mean."""
        return self.square / self.count.sum() - self.mean().square()

    def class_mean(self) -> Tensor:
        """(A, D), mean of the positives of each attribute; in float16, which is far finer than they are certain."""
        return (self.class_total.sum(0) / self.class_count.sum(0)[:, None]).half()

    def reliability(self) -> Tensor:
        """(A,), cosine between the directions (mean+ - mean-) that the two halves give independently."""
        positive = self.class_total / self.class_count[..., None]
        negative = (self.total[:, None] - self.class_total) / (self.count[:, None] - self.class_count)[..., None]
        return torch.cosine_similarity(*(positive - negative), dim=1)


@dataclass(frozen=True)
class Study:
    """A model's study, as `open_study` reads it. Arrays are float32 unless said otherwise.

    mean, variance (D,): moments of the latents of `n` training images at bin centres. projections[space][kind]
    (m, A): m held-out images on each attribute's unit direction, space "latent" or "pixel", kind "opposite"
    (mean+ - mean-) or "zero" (mean+). labels (m, A) bool and held_out (m,): their attributes and indices in the
    data set, identities (m,) their people where those are known. norms["centres" | "noise"] (m, L): norm of each level
    of their latents, encoded at bin centres or with dequantisation noise. The latter are split by person into halves
    (m,), 0 or 1, with means half_means (2, D); along_mean (m,) are their projections on the mean of the other half.
    """

    name: str
    data: str
    attributes: list[str]
    n: int
    counts: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    pixel_mean: np.ndarray
    held_out: np.ndarray
    labels: np.ndarray
    identities: np.ndarray | None
    norms: dict[str, np.ndarray]
    halves: np.ndarray
    half_means: np.ndarray
    along_mean: np.ndarray
    projections: dict[str, dict[str, np.ndarray]]
    _class_means: np.ndarray
    _pixel_class_means: np.ndarray
    _reliability: np.ndarray

    def index(self, attribute: str) -> int:
        if attribute not in self.attributes:
            raise GlowkitError(f"attribute {attribute!r}: {self.name} has {', '.join(self.attributes)}")
        return self.attributes.index(attribute)

    def count(self, attribute: str) -> int:
        """Positives among the n training images."""
        return int(self.counts[self.index(attribute)])

    def class_mean(self, attribute: str, positive: bool = True) -> np.ndarray:
        """mu_feature or mu_not_feature (D,) of eq. 4.4; the latter by mu = p mu_feature + (1-p) mu_not_feature."""
        return self._class_mean(self.mean, self._class_means, attribute, positive)

    def pixel_class_mean(self, attribute: str, positive: bool = True) -> np.ndarray:
        """The same in pixel space: (D,), values in [0, 1] in the order (C, H, W)."""
        return self._class_mean(self.pixel_mean, self._pixel_class_means, attribute, positive)

    def direction(self, attribute: str) -> np.ndarray:
        """mu_feature - mu_not_feature (D,) of eq. 4.4, in latent space."""
        return self.class_mean(attribute) - self.class_mean(attribute, positive=False)

    def pixel_direction(self, attribute: str) -> np.ndarray:
        """The same in pixel space."""
        return self.pixel_class_mean(attribute) - self.pixel_class_mean(attribute, positive=False)

    def reliability(self, attribute: str) -> float:
        """Cosine between the direction's two independent halves: 1 is certain, 0 is noise."""
        return float(self._reliability[self.index(attribute)])

    def _class_mean(self, mean: np.ndarray, class_means: np.ndarray, attribute: str, positive: bool) -> np.ndarray:
        i = self.index(attribute)
        if positive:
            return class_means[i].astype(np.float32)
        p = self.counts[i] / self.n
        return ((mean - p * class_means[i]) / (1 - p)).astype(np.float32)


def make(
    name: str | Path, data: str | Path | None = None, n: int = 12_000, held_out: int = 2_000, seed: int = 0
) -> Path:
    """Studies a model on `n` training and `held_out` test images of a data set; writes study.safetensors beside it.

    The data set is the one the model was trained on unless `data` names another.
    """
    folder, model = checkpoint.folder_of(name), checkpoint.load(name)
    data = str(data or checkpoint.data_of(name))
    dataset = open_dataset(data, size=model.config.image_size)
    training, test = dataset.subset("train")[:n], dataset.subset("test")[:held_out]
    if not len(training) or not len(test):
        raise GlowkitError(f"{dataset.name}: a study needs training and test images, there are "
                           f"{len(training)} and {len(test)}")
    sums = class_sums(model, dataset, training)
    tensors = {"counts": sums["latent"].class_count.sum(0), "reliability": sums["latent"].reliability()}
    tensors["variance"] = sums["latent"].variance()
    for space in SPACES:
        tensors[f"{space}.mean"] = sums[space].mean()
        tensors[f"{space}.class_mean"] = sums[space].class_mean()
    half = halves(dataset, test)
    tensors |= project(model, dataset, test, sums, half, seed)
    tensors["half"] = half.to(torch.uint8)
    tensors["along_mean"] = sides(model, dataset, test, half, tensors["half.mean"], seed)
    if dataset.identities is not None:
        tensors["identities"] = torch.from_numpy(dataset.identities[test].astype(np.int64))
    tensors = {k: t.float() if t.dtype == torch.float64 else t for k, t in tensors.items()}
    about = {"attributes": dataset.attributes, "n": len(training), "data": data, "seed": seed}
    checkpoint.write_tensors(folder / FILE, tensors, {"study": json.dumps(about)})
    return folder / FILE


def class_sums(model: Glow, dataset: Dataset, indices: np.ndarray) -> dict[str, ClassSums]:
    """The first pass: latents at bin centres, and the pixels themselves, of the images at `indices`."""
    sums = {space: ClassSums(len(dataset.attributes), model.dim) for space in SPACES}
    labels = torch.from_numpy(np.asarray(dataset.labels, bool))
    for where in _batches(indices, "class means"):
        x = dataset.images(where)
        half = torch.from_numpy(where % 2)
        sums["latent"].add(model.encode(x), labels[where], half)
        sums["pixel"].add(model.quantise(x).flatten(1), labels[where], half)
    return sums


def halves(dataset: Dataset, indices: np.ndarray) -> Tensor:
    """0 or 1 for each image (m,) such that no person is in both halves."""
    people = np.arange(len(indices)) if dataset.identities is None else dataset.identities[indices]
    if len(np.unique(people)) == 1:  # a person cannot be halved, two pictures can
        people = np.arange(len(indices))
    half = torch.from_numpy(np.unique(people, return_inverse=True)[1] % 2)
    if not half.any():
        raise GlowkitError(f"{dataset.name}: a study needs at least two held-out images")
    return half


def sides(model: Glow, dataset: Dataset, indices: np.ndarray, half: Tensor, means: Tensor, seed: int) -> Tensor:
    """The third pass: the latents with noise of the second (m,), each on the mean of the half that it is not in."""
    lines = torch.nn.functional.normalize(means.flip(0), dim=1)
    noise, along, rows = torch.Generator().manual_seed(seed), [], iter(half.split(BATCH))
    for where in _batches(indices, "sides"):
        z = model.encode(dataset.images(where), noise).cpu().double()
        along.append((z * lines[next(rows)]).sum(1))
    return torch.cat(along)


def project(
    model: Glow, dataset: Dataset, indices: np.ndarray, sums: dict[str, ClassSums], half: Tensor, seed: int
) -> dict[str, Tensor]:
    """The second pass: of the images at `indices`, projections on every direction, norms by level, means of halves."""
    lines = {}
    for space in SPACES:
        positive, p = sums[space].class_mean().double(), sums[space].class_count.sum(0) / sums[space].count.sum()
        negative = (sums[space].mean() - p[:, None] * positive) / (1 - p)[:, None]
        lines[f"{space}.opposite"], lines[f"{space}.zero"] = positive - negative, positive
    lines = {key: torch.nn.functional.normalize(line, dim=1).float() for key, line in lines.items()}
    noise = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {}
    totals, rows = torch.zeros(2, model.dim, dtype=torch.float64), iter(half.split(BATCH))
    for where in _batches(indices, "projections"):
        x = dataset.images(where)
        vectors = {"latent": model.encode(x).cpu(), "pixel": model.quantise(x).flatten(1).cpu()}
        found = {f"projection.{key}": vectors[key.split(".")[0]] @ line.T for key, line in lines.items()}
        noisy = model.encode(x, noise).cpu()
        totals.index_add_(0, next(rows), noisy.double())
        for key, z in (("centres", vectors["latent"]), ("noise", noisy)):
            found[f"norms.{key}"] = torch.stack([z[:, where_].norm(dim=1) for where_ in model.level_slices], 1)
        for key, value in found.items():
            parts.setdefault(key, []).append(value)
    result = {key: torch.cat(values) for key, values in parts.items()}
    result["half.mean"] = totals / torch.bincount(half, minlength=2)[:, None]
    result["held_out"] = torch.from_numpy(indices.astype(np.int64))
    result["labels"] = torch.from_numpy(np.asarray(dataset.labels, bool)[indices])
    return result


def open_study(name: str | Path) -> Study:
    """The study of a bundled name ("faces64") or of a model's folder."""
    folder = checkpoint.folder_of(name)
    path = folder / FILE
    if not path.exists():
        raise GlowkitError(f"{path}: no study there yet; make it with `glowkit study {name}`")
    tensors, metadata = checkpoint.read_tensors(path)
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    try:
        about = json.loads(metadata["study"])
        return Study(
            name=folder.name,
            data=about["data"],
            attributes=about["attributes"],
            n=about["n"],
            counts=arrays["counts"],
            mean=arrays["latent.mean"],
            variance=arrays["variance"],
            pixel_mean=arrays["pixel.mean"],
            held_out=arrays["held_out"],
            labels=arrays["labels"],
            identities=arrays.get("identities"),
            halves=arrays["half"],
            half_means=arrays["half.mean"],
            along_mean=arrays["along_mean"],
            norms={key: arrays[f"norms.{key}"] for key in ("centres", "noise")},
            projections={
                space: {kind: arrays[f"projection.{space}.{kind}"] for kind in ("opposite", "zero")}
                for space in SPACES
            },
            _class_means=arrays["latent.class_mean"],
            _pixel_class_means=arrays["pixel.class_mean"],
            _reliability=arrays["reliability"],
        )
    except (KeyError, json.JSONDecodeError) as error:
        raise GlowkitError(f"{path}: not a study ({error}); make it again with `glowkit study {name}`") from None


def _batches(indices: np.ndarray, what: str):
    """The indices BATCH at a time, with a progress bar counting images."""
    with tqdm(total=len(indices), desc=what, unit="image") as bar:
        for start in range(0, len(indices), BATCH):
            yield indices[start : start + BATCH]
            bar.update(len(indices[start : start + BATCH]))
