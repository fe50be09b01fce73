"""The row on better lines than the difference of means: what do classifiers gain from the whole training set?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import classifiers
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage, kept
from glowkit.measures.twists import common
from glowkit.randomness import stream
from glowkit.study import NOISE

TRAINING, VALIDATION = 17_000, 1000
"""Images that classifiers are fitted to, at most, and that choose penalties and the best classifier."""
BLOCK = 500  # images in a file of latents
NOISE_SEED = 2  # of training images; those of the stage have another
LARGEST = 2**14
"""Numbers of a latent of which a covariance fits into memory, and a factorisation into minutes."""
LDA = "LDA, shrinkage"


class Encoded(NamedTuple):
    """Latents (n, D) with noise of images at `indices` (n,) of the training album, and attributes bool (n, A)."""

    z: Tensor
    labels: np.ndarray
    indices: np.ndarray


def c22(stage: Stage) -> Found | None:
    """AUC of the opposite projection less that of the best of three classifiers; None where latents are too large."""
    if stage.flow.dim > LARGEST:
        return None
    training, validation = encoded(stage, "train", TRAINING), encoded(stage, "valid", VALIDATION)
    chosen = [k for k in common(stage) if all(0 < part.labels[:, k].mean() < 1 for part in (training, validation))]
    tests = stage.z[NOISE], stage.labels[:, chosen]
    latent = fitted(training.z, validation.z, tests[0], training.labels[:, chosen], validation.labels[:, chosen])
    pixels = [_pixels(stage, part.indices) for part in (training, validation)]
    image = fitted(
        *pixels, stage.pixels(range(len(stage.where)), NOISE).flatten(1) - 0.5,
        training.labels[:, chosen], validation.labels[:, chosen], [LDA],
    )  # fmt: skip
    opposite = {space: found.pop("opposite")[1] for space, found in (("latent", latent), ("image", image))}
    best = max(latent, key=lambda name: latent[name][0])

    def less(space: str, scores: np.ndarray) -> Estimate:
        return classifiers.auc_difference(opposite[space], scores, tests[1], stage.people)

    gains = {name: less("latent", scores) for name, (_, scores) in latent.items()}
    return Found(
        gains[best],
        f"{len(training.z):,} training images, {len(chosen)} attributes; against {best}, the best on other images; in "
        f"image space against {LDA} {less('image', image[LDA][1]).brief}",
        details={
            "attributes": [stage.attributes[k] for k in chosen],
            "training": len(training.z),
            "latent": {name: _areas(scores, tests[1]) for name, (_, scores) in latent.items()}
            | {"opposite": _areas(opposite["latent"], tests[1])},
            "image": {LDA: _areas(image[LDA][1], tests[1]), "opposite": _areas(opposite["image"], tests[1])},
            "gains": {name: rounded([gain.estimate, *gain.ci]) for name, gain in gains.items()},
        },
    )


def fitted(
    training: Tensor,
    validation: Tensor,
    test: Tensor,
    labels: np.ndarray,
    others: np.ndarray,
    names: Sequence[str] = (LDA, *classifiers.LOSSES),
) -> dict[str, tuple[float, np.ndarray]]:
    """By classifier, "opposite" among them: the mean AUC on validation points and scores (m, A) of the test points."""
    found = lines(training, validation, labels, others, names)
    return {name: (area, (test @ line).numpy()) for name, (area, line) in found.items()}


def lines(
    training: Tensor, validation: Tensor, labels: np.ndarray, others: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[float, Tensor]]:
    """By classifier, "opposite" among them: the mean AUC on validation points, and its directions (D, A).

    Points (n, D), (v, D); labels bool (n, A), others (v, A). Each attribute has the penalty that does best on the
    validation points.
    """
    made = {"opposite": classifiers.mean_differences(training, labels)[None]}
    for name in tqdm(names, "classifiers"):
        if name == LDA:
            made[name] = classifiers.discriminants(training, labels)
        else:
            made[name] = classifiers.penalised(training, labels, name)
    found = {}
    for name, line in made.items():
        areas = np.array([_areas((validation @ each).numpy(), others) for each in line])  # (K, A)
        best = areas.argmax(0)
        kept = torch.stack([line[k, :, attribute] for attribute, k in enumerate(best)], 1)
        found[name] = float(areas.max(0).mean()), kept
    return found


def encoded(stage: Stage, split: str, n: int) -> Encoded:
    """At most n images of a split of the training album. Latents are kept in the stage's folder, block by block."""
    album = stage.seen
    indices = album.subset(split)[:n]
    z = torch.empty(len(indices), stage.flow.dim)
    for start in tqdm(range(0, len(indices), BLOCK), f"encoding, {split}", unit="block"):
        here = slice(start, start + BLOCK)

        def block(here: slice = here) -> Tensor:
            return torch.cat([stage.flow(part)[0] for part in _dequantised(stage, indices[here]).split(64)])

        z[here] = kept(stage.folder / f"{split}-{start:06d}.npy", block)
    columns = [album.attributes.index(name) for name in stage.attributes]
    return Encoded(z, np.asarray(album.labels, bool)[indices][:, columns], indices)


def _pixels(stage: Stage, indices: np.ndarray) -> Tensor:
    """The same images (n, D) with the same noise, before the flow."""
    starts = range(0, len(indices), BLOCK)
    return torch.cat([_dequantised(stage, indices[start : start + BLOCK]).flatten(1) for start in starts])


def _dequantised(stage: Stage, indices: np.ndarray) -> Tensor:
    """Centred pixels (n, 3, H, W) of a block of training images."""
    return stage.flow.dequantise(stage.seen.images(indices), stream(NOISE_SEED, int(indices[0])))


def _areas(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    return rounded([classifiers.auc(score, label).estimate for score, label in zip(scores.T, labels.T, strict=True)])


ROWS = {"C22": c22}
