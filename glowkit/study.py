"""What a data set looks like through a model: one streaming pass for means and class means, one for projections.

Memory is O(attributes x D), never O(images x D): see `moments`. The first pass reads training images, at bin centres
and with dequantisation noise, the second held-out ones, so that no direction is judged on what made it. A third reads
the held-out ones again, to ask on which side of the origin they are. Every process of torchrun takes a share of each
pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import checkpoint, devices, distributed, fields, randomness
from glowkit.checkpoint import Form
from glowkit.dataset import Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.image_flow import BIN_CENTRES, ImageFlow
from glowkit.moments import ClassSums

FILE = "study.safetensors"
SPACES = ("latent", "pixel")
BATCH = 64  # images encoded at a time
NOISE, CENTRES = "noise", "centres"  # the encodings: with dequantisation noise as in training, or at bin centres
THINNED = (1, 4, 16)
"""Reliabilities are known for all training images, for a 4th and for a 16th of them: how they grow with n (B03)."""
# What a study says of itself; `weights` is the SHA-256 sum of the model.safetensors that it was made with.
ABOUT = {
    "attributes": fields.Names(),
    "n": fields.Whole(1, 2**40),
    "data": fields.Text(),
    "seed": fields.Whole(0, fields.SEED),
    "weights": fields.Text(),
    "draws": fields.Whole(0, 64),
}


@dataclass(frozen=True)
class Noise:
    """Moments (D,) of latents with noise, averaged over an image's draws; within (L,), the variance between the draws
    of an image, summed over each level; thinned and counts (3, A), reliabilities of fewer images and positives there.
    """

    mean: np.ndarray
    variance: np.ndarray
    within: np.ndarray
    thinned: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Study:
    """A model's study, as `open_study` reads it. Arrays are float32 unless said otherwise.

    mean, variance (D,): moments of the latents of `n` training images at bin centres. Class means, directions and
    reliabilities are of latents with noise unless asked for at the CENTRES of bins: `draws` latents of each image,
    averaged (or none: then only centres are known). projections[space][kind] (m, A): m held-out images at bin centres
    on each attribute's unit direction, space "latent" or "pixel", kind "opposite" (mean+ - mean-) or "zero" (mean+).
    labels (m, A) bool and held_out (m,): their attributes and indices in the
    data set, identities (m,) their people where those are known. norms["centres" | "noise"] (m, L): norm of each level
    of their latents, encoded at bin centres or with dequantisation noise. The latter are split by person into halves
    (m,), 0 or 1, with means half_means (2, D); along_mean (m,) are their projections on the mean of the other half.
    """

    name: str
    data: str
    attributes: list[str]
    n: int
    draws: int
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
    _class_means: dict[str, np.ndarray]
    _pixel_class_means: np.ndarray
    _reliability: dict[str, np.ndarray]
    _noise: Noise | None = None

    @property
    def encoding(self) -> str:
        """Of which latents class means are, unless asked otherwise: NOISE, or CENTRES where no noise was drawn."""
        return NOISE if self.draws else CENTRES

    def index(self, attribute: str) -> int:
        if attribute not in self.attributes:
            raise GlowkitError(f"attribute {attribute!r}: {self.name} has {', '.join(self.attributes)}")
        return self.attributes.index(attribute)

    def count(self, attribute: str) -> int:
        """Positives among the n training images."""
        return int(self.counts[self.index(attribute)])

    def moments(self, encoding: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (D,) of what class means are means of: latents, of `draws` with noise their average."""
        return (
            (self._noise.mean, self._noise.variance) if self._which(encoding) == NOISE else (self.mean, self.variance)
        )

    def class_mean(self, attribute: str, positive: bool = True, encoding: str | None = None) -> np.ndarray:
        """mu_feature or mu_not_feature (D,) of eq. 4.4; the latter by mu = p mu_feature + (1-p) mu_not_feature."""
        means = self._class_means[self._which(encoding)]
        return self._class_mean(self.moments(encoding)[0], means, attribute, positive)

    def pixel_class_mean(self, attribute: str, positive: bool = True) -> np.ndarray:
        """The same in pixel space: (D,), values in [0, 1] in the order (C, H, W)."""
        return self._class_mean(self.pixel_mean, self._pixel_class_means, attribute, positive)

    def direction(self, attribute: str, encoding: str | None = None) -> np.ndarray:
        """mu_feature - mu_not_feature (D,) of eq. 4.4, in latent space."""
        return self.class_mean(attribute, True, encoding) - self.class_mean(attribute, False, encoding)

    def pixel_direction(self, attribute: str) -> np.ndarray:
        """The same in pixel space."""
        return self.pixel_class_mean(attribute) - self.pixel_class_mean(attribute, positive=False)

    def reliability(self, attribute: str, encoding: str | None = None) -> float:
        """Cosine between the direction's two independent halves: 1 is certain, 0 is noise."""
        return float(self._reliability[self._which(encoding)][self.index(attribute)])

    def reliability_curve(self, attribute: str) -> dict[int, float]:
        """With noise, of fewer training images: {positives: cosine} for the parts of THINNED in which there are any."""
        self._which(NOISE)
        i = self.index(attribute)
        return dict(zip(self._noise.counts[:, i].astype(int).tolist(), self._noise.thinned[:, i].tolist(), strict=True))

    def noise_factor(self, attribute: str) -> float:
        """1/n+ + 1/n-: the variance of a direction, a difference of two means, in that of the latents.

        Raises GlowkitError if all images or none have the attribute.
        """
        positives = int(self.counts[self._told_of(attribute)])
        return 1 / positives + 1 / (self.n - positives)

    def noise_part(self, attribute: str) -> float:
        """The part in |direction|^2 of dequantisation noise alone: what more draws an image would take off."""
        self._which(NOISE)
        single = float(self._noise.within.sum())
        floor = single / self.draws * self.noise_factor(attribute)
        return floor / float(np.square(self.direction(attribute), dtype=float).sum())

    def _which(self, encoding: str | None) -> str:
        encoding = encoding or self.encoding
        if encoding not in self._class_means:
            raise GlowkitError(f"encoding {encoding!r}: {self.name} was studied with {', '.join(self._class_means)}")
        return encoding

    def _told_of(self, attribute: str) -> int:
        """The index of an attribute that some images have and some have not; GlowkitError of any other."""
        i = self.index(attribute)
        if not 0 < self.counts[i] < self.n:
            raise GlowkitError(
                f"attribute {attribute!r}: {self.counts[i]:,.0f} of the {self.n:,} images that {self.name} was studied "
                "with have it; it takes some with and some without"
            )
        return i

    def _class_mean(self, mean: np.ndarray, class_means: np.ndarray, attribute: str, positive: bool) -> np.ndarray:
        i = self._told_of(attribute)
        if positive:
            return class_means[i].astype(np.float32)
        p = self.counts[i] / self.n
        return ((mean - p * class_means[i]) / (1 - p)).astype(np.float32)


@distributed.processes()
def write_study(
    name: str | Path,
    data: str | Path | None = None,
    n: int = 12_000,
    held_out: int = 2_000,
    seed: int = 0,
    device: str | torch.device | None = None,
    draws: int = 2,
) -> Path:
    """Studies a model on `n` training and `held_out` test images of a data set; writes study.safetensors beside it.

    draws: latents with noise of each training image, two at least, or 0 for bin centres alone, in a third of the time.

    The data set is the one the model was trained on unless `data` names another. Under torchrun the processes share
    the images, and the first writes. `device`: see `devices.choose`.
    """
    if draws == 1:
        raise GlowkitError("study: draws = 1: want 2 or more, which tell how much noise is in them, or 0")
    device, folder = devices.choose(device), checkpoint.folder_of(name)
    lead = distributed.rank() == 0
    with alone_in(folder) if lead else nullcontext():
        model = checkpoint.load(folder, device)
        weights = checkpoint.weights_hash(folder)
        data = str(data or checkpoint.data_of(folder))
        dataset = open_dataset(data, size=model.config.image_size)
        training, test = dataset.subset("train")[:n], dataset.subset("test")[:held_out]
        if not len(training) or not len(test):
            raise GlowkitError(
                f"{dataset.name}: a study needs training and test images, there are {len(training)} and {len(test)}"
            )
        half = halves(dataset, test)
        dataset = varied(dataset, [training[training % 2 == 0], training[training % 2 == 1]], "study")
        about = {
            "attributes": dataset.attributes,
            "n": len(training),
            "data": data,
            "seed": seed,
            "weights": weights,
            "draws": draws,
        }
        fields.check(about, ABOUT, "")
        sums, within = class_sums(model, dataset, training, draws, seed)
        tensors = project(model, dataset, test, sums, half, seed)
        tensors["along_mean"] = sides(model, dataset, test, half, tensors["half.mean"], seed)
        if not lead:
            return folder / FILE
        for space in SPACES:
            tensors[f"{space}.mean"] = sums[space].mean()
            tensors[f"{space}.class_mean"] = sums[space].class_mean()
        tensors["counts"] = sums["latent"].class_count()
        tensors["variance"] = sums["latent"].variance()
        tensors["reliability"] = sums["latent"].reliability()
        if draws:
            thin = [sums[NOISE if every == 1 else f"{NOISE}/{every}"] for every in THINNED]
            tensors["noise.mean"], tensors["noise.variance"] = sums[NOISE].mean(), sums[NOISE].variance()
            tensors["noise.class_mean"] = sums[NOISE].class_mean()
            tensors["noise.within"] = within
            tensors["noise.reliability"] = torch.stack([part.reliability() for part in thin]).nan_to_num(0.0)
            tensors["noise.counts"] = torch.stack([part.class_count() for part in thin])
        tensors["half"] = half.to(torch.uint8)
        tensors["held_out"] = torch.from_numpy(test.astype(np.int64))
        tensors["labels"] = _labels(dataset)[test]
        if dataset.identities is not None:
            tensors["identities"] = torch.from_numpy(dataset.identities[test].astype(np.int64))
        tensors = {k: t.half() if k.startswith("projection.") else t for k, t in tensors.items()}
        tensors = {k: t.float() if t.dtype == torch.float64 else t for k, t in tensors.items()}
        checkpoint.write_tensors(folder / FILE, tensors, {"study": json.dumps(about)})
        return folder / FILE


def varied(dataset: Dataset, parts: Sequence[np.ndarray], reader: str) -> Dataset:
    """`dataset` with the attributes that some of the images at each of `parts`, indices, have and some have not.

    A line tells how many have each of the others, which the `reader`, a "study" say, can tell nothing of. Raises
    GlowkitError if none is left.
    """
    if not dataset.attributes:
        raise GlowkitError(f"{dataset.name}: no list of attributes, and without attributes there is no {reader}")
    labels = _labels(dataset)
    there = torch.stack([labels[part].any(0) & ~labels[part].all(0) for part in parts]).all(0).numpy()
    training = np.concatenate(parts)
    counts = [
        f"{name} ({n:,})"
        for name, n, kept in zip(dataset.attributes, labels[training].sum(0).tolist(), there, strict=True)
        if not kept
    ]
    if not there.any():
        raise GlowkitError(
            f"{dataset.name}: a {reader} needs an attribute that some training images have and some have not; of the "
            f"{len(training):,} there are, {', '.join(counts)}"
        )
    if counts and distributed.rank() == 0:
        tqdm.write(
            f"{dataset.name}: left out of the {reader}, since too few of the {len(training):,} training images have "
            f"them or have them not: {', '.join(counts)}"
        )
    attributes = [name for name, kept in zip(dataset.attributes, there, strict=True) if kept]
    return replace(dataset, attributes=attributes, labels=np.asarray(dataset.labels, bool)[:, there])


def class_sums(
    model: ImageFlow, dataset: Dataset, indices: np.ndarray, draws: int = 0, seed: int = 0
) -> tuple[dict[str, ClassSums], Tensor]:
    """The first pass, over the images at `indices`: sums of the pixels, of latents at bin centres, and of latents with
    noise, `draws` of an image averaged; those of THINNED parts too. And `Study`'s noise within, (L,).
    """
    labels, device = _labels(dataset), next(model.parameters()).device
    spaces = [*SPACES, *([NOISE, *(f"{NOISE}/{every}" for every in THINNED[1:])] if draws else ())]
    sums = {space: ClassSums(labels.shape[1], model.dim, device) for space in spaces}
    within = torch.zeros(len(model.level_slices), dtype=torch.float64, device=device)
    for rows, x in _batches(dataset, indices, "class means"):
        where = indices[rows]
        half = torch.from_numpy(where % 2)
        sums["latent"].add(model.encode(x, noise=BIN_CENTRES), labels[where], half)
        sums["pixel"].add(model.quantise(x).flatten(1), labels[where], half)
        if not draws:
            continue
        noisy = torch.stack([model.encode(x, _noise(seed + 1 + k, rows, device)) for k in range(draws)])
        square = noisy.var(0).sum(0)
        within += torch.stack([square[level].sum() for level in model.level_slices]) / len(indices)
        for every, space in zip(THINNED, spaces[len(SPACES) :], strict=True):
            kept = torch.from_numpy(where // 2 % every == 0)  # pairs of images stay together, one for each half
            sums[space].add(noisy.mean(0)[kept.to(device)], labels[where][kept], half[kept])
    for space in spaces:
        sums[space].merge()
    distributed.all_reduce_sum(within)
    return sums, within


def halves(dataset: Dataset, indices: np.ndarray) -> Tensor:
    """0 or 1 for each image (m,) such that no person is in both halves."""
    people = np.arange(len(indices)) if dataset.identities is None else dataset.identities[indices]
    if len(np.unique(people)) == 1:  # a person cannot be halved, two pictures can
        people = np.arange(len(indices))
    half = torch.from_numpy(np.unique(people, return_inverse=True)[1] % 2)
    if not half.any():
        raise GlowkitError(f"{dataset.name}: a study needs at least two held-out images")
    return half


def project(
    model: ImageFlow, dataset: Dataset, indices: np.ndarray, sums: dict[str, ClassSums], half: Tensor, seed: int
) -> dict[str, Tensor]:
    """The second pass: of the images at `indices`, projections on every direction, norms by level, means of halves."""
    lines, m, device = {}, len(indices), next(model.parameters()).device
    for space in SPACES:
        positive, mean = sums[space].class_mean().double(), sums[space].mean()
        p = sums[space].class_count() / sums[space].count[:, 0].sum()
        # mean+ - mean- = (mean+ - mean) / (1 - p), since mean = p mean+ + (1 - p) mean-
        for kind, line in (("opposite", (positive - mean) / (1 - p)[:, None]), ("zero", positive)):
            lines[f"{space}.{kind}"] = torch.nn.functional.normalize(line, dim=1).float()
    noisy = ClassSums(0, model.dim, device)
    found = {f"projection.{key}": torch.zeros(m, len(line), device=device) for key, line in lines.items()}
    found |= {f"norms.{key}": torch.zeros(m, len(model.level_slices), device=device) for key in ("centres", "noise")}
    for rows, x in _batches(dataset, indices, "projections"):
        vectors = {"latent": model.encode(x, noise=BIN_CENTRES), "pixel": model.quantise(x).flatten(1)}
        for key, line in lines.items():
            found[f"projection.{key}"][rows] = vectors[key.split(".")[0]] @ line.T
        z = model.encode(x, noise=_noise(seed, rows, device))
        noisy.add(z, torch.zeros(len(z), 0), half[rows])
        for key, latents in (("centres", vectors["latent"]), ("noise", z)):
            norms = [latents[:, level].norm(dim=1) for level in model.level_slices]
            found[f"norms.{key}"][rows] = torch.stack(norms, 1)
    noisy.merge()
    distributed.all_reduce_sum(*found.values())
    return found | {"half.mean": noisy.half_means()}


def sides(model: ImageFlow, dataset: Dataset, indices: np.ndarray, half: Tensor, means: Tensor, seed: int) -> Tensor:
    """The third pass: the latents with noise of the second (m,), each on the mean of the half that it is not in."""
    lines = torch.nn.functional.normalize(means.flip(0), dim=1)
    along = torch.zeros(len(indices)).to(lines)
    for rows, x in _batches(dataset, indices, "sides"):
        z = model.encode(x, noise=_noise(seed, rows, lines.device))
        along[rows] = (z * lines[half[rows]]).sum(1)
    distributed.all_reduce_sum(along)
    return along


def open_study(name: str | Path) -> Study:
    """The study of a bundled name ("faces64") or of a model's folder.

    Raises GlowkitError if there is none, or if it was made of other weights than those beside it.

    >>> study = glowkit.open_study("faces64")
    >>> smile = study.direction("Smiling")  # mean with minus mean without, eq. 4.4
    >>> smile.shape, study.count("Smiling") < study.n
    ((12288,), True)
    """
    folder = checkpoint.folder_of(name)
    path = folder / FILE
    if not path.exists():
        raise GlowkitError(f"{path}: no study there yet; make it with `glowkit study {name}`")
    tensors, metadata = checkpoint.read_tensors(path)
    try:
        about = {"draws": 0} | checkpoint.read_about(metadata, "study", ABOUT, optional=["draws"])
        checkpoint.check_weights(folder, about["weights"])
        checkpoint.check_tensors(tensors, forms(about, checkpoint.config_of(folder)))
    except GlowkitError as error:
        raise GlowkitError(f"{path}: not a study of this model ({error}); make it: `glowkit study {name}`") from None
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    projections = {key: array.astype(np.float32) for key, array in arrays.items() if key.startswith("projection.")}
    return Study(
        name=folder.name,
        data=about["data"],
        attributes=about["attributes"],
        n=about["n"],
        draws=about["draws"],
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
            space: {kind: projections[f"projection.{space}.{kind}"] for kind in ("opposite", "zero")}
            for space in SPACES
        },
        _class_means={CENTRES: arrays["latent.class_mean"]}
        | ({NOISE: arrays["noise.class_mean"]} if about["draws"] else {}),
        _pixel_class_means=arrays["pixel.class_mean"],
        _reliability={CENTRES: arrays["reliability"]}
        | ({NOISE: arrays["noise.reliability"][0]} if about["draws"] else {}),
        _noise=Noise(
            mean=arrays["noise.mean"],
            variance=arrays["noise.variance"],
            within=arrays["noise.within"],
            thinned=arrays["noise.reliability"],
            counts=arrays["noise.counts"],
        )
        if about["draws"]
        else None,
    )


def forms(about: dict, config: checkpoint.Config) -> dict[str, Form]:
    """What the tensors of a study have to be; m is how many images were held out."""
    a, d, n, levels = len(about["attributes"]), 3 * config.image_size**2, about["n"], config.levels
    single, half, whole = (torch.float32,), (torch.float16,), (torch.int64,)
    positive = (lambda t: (t >= 0).all(), "nowhere negative")
    # Coordinates are of the size of 1; from far beyond that differences and quotients of means leave the finite.
    moderate = (lambda t: (t.abs() <= 1e6).all(), "between -1e6 and 1e6 everywhere")
    found = {
        "counts": Form((a,), single, lambda t: ((t >= 0) & (t <= n) & (t == t.round())).all(), f"counts from 0 to {n}"),
        "variance": Form((d,), single, *positive),
        "reliability": Form((a,), single, lambda t: (t.abs() < 1.001).all(), "cosines"),
        "held_out": Form(("m",), whole, *positive),
        "labels": Form(("m", a), (torch.bool,)),
        "identities": Form(("m",), whole, optional=True),
        "half": Form(("m",), (torch.uint8,), lambda t: (t < 2).all(), "0 or 1 everywhere"),
        "half.mean": Form((2, d), single, *moderate),
        "along_mean": Form(("m",), single),
    }
    for space in SPACES:
        found[f"{space}.mean"] = Form((d,), single, *moderate)
        found[f"{space}.class_mean"] = Form((a, d), half, *moderate)
        found |= {f"projection.{space}.{kind}": Form(("m", a), single + half) for kind in ("opposite", "zero")}
    if about["draws"]:
        found |= {
            "noise.mean": Form((d,), single, *moderate),
            "noise.variance": Form((d,), single, *positive),
            "noise.class_mean": Form((a, d), half, *moderate),
            "noise.within": Form((levels,), single, *positive),
            "noise.reliability": Form((len(THINNED), a), single, lambda t: (t.abs() < 1.001).all(), "cosines"),
            "noise.counts": Form((len(THINNED), a), single, *positive),
        }
    return found | {f"norms.{key}": Form(("m", levels), single, *positive) for key in ("centres", "noise")}


def _labels(dataset: Dataset) -> Tensor:
    return torch.from_numpy(np.asarray(dataset.labels, bool))


def _noise(seed: int, rows: slice, device: torch.device) -> torch.Generator:
    """Of a batch: the same whichever process has it, and the same in each pass."""
    return randomness.stream(seed, rows.start, device)


def _batches(dataset: Dataset, indices: np.ndarray, what: str) -> Iterator[tuple[slice, Tensor]]:
    """This process's share of the images at `indices`, BATCH at a time: rows of `indices`, images (B, 3, H, W).

    Batches are cut before they are dealt out, so that no number depends on how many processes there are. The next one
    is read while the caller works on this one. A progress bar counts the images of the first process.
    """
    rank, size = distributed.rank(), distributed.size()
    batches = [slice(start, min(start + BATCH, len(indices))) for start in range(0, len(indices), BATCH)]
    share = batches[rank * len(batches) // size : (rank + 1) * len(batches) // size]
    total = sum(rows.stop - rows.start for rows in share)
    with ThreadPoolExecutor(1) as reader, tqdm(total=total, desc=what, unit="image", disable=rank > 0) as bar:
        ahead = (reader.submit(dataset.images, indices[rows]) for rows in share)
        coming = next(ahead, None)
        for rows in share:
            x, coming = coming.result(), next(ahead, None)
            yield rows, x
            bar.update(len(x))
