"""Directions and class means are estimates: how much of their length is noise of the images they were made from?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glowkit.intervals import Estimate
from glowkit.study import Study


def noise_floor(study: Study, attribute: str, encoding: str | None = None) -> float:
    """E |noise|^2 in the squared norm of a direction: the latents' variance, summed, times (1/n+ + 1/n-)."""
    return float(study.moments(encoding)[1].sum(dtype=float)) * study.noise_factor(attribute)


def signal_length(study: Study, attribute: str) -> float:
    """Length of a direction with the noise floor taken off its square; 0 where the floor is all there is."""
    return np.sqrt(max(0, np.square(study.direction(attribute)).sum() - noise_floor(study, attribute)))


def noise_share(study: Study, attribute: str, encoding: str | None = None) -> Estimate:
    """The noise floor's share of |direction|^2; the interval is for the noise of |direction|^2 itself."""
    variance = study.moments(encoding)[1].astype(float) * study.noise_factor(attribute)
    square = study.direction(attribute, encoding).astype(float) ** 2
    whole, floor = square.sum(), noise_floor(study, attribute, encoding)
    # |s + e|^2 has variance 4 sum(v s^2) + 2 sum(v^2); seen is (s + e)^2, so its excess over v is s^2.
    signal = (square - variance).clip(min=0)
    spread = np.sqrt(4 * (variance * signal).sum() + 2 * np.square(variance).sum())
    low, high = floor / (whole + 1.96 * spread), floor / max(whole - 1.96 * spread, floor / 2)
    return Estimate(float(floor / whole), (float(low), float(high)), study.count(attribute))


def noise_share_of_halves(cosine: float) -> float:
    """What the cosine between two half-sample directions says of the same share.

    Halving the images doubles the noise F: the cosine is S / (S + 2F), so F / (S + F) = (1 - cosine) /
    (1 + cosine).
    """
    return (1 - cosine) / (1 + cosine)


def spread_of_means(study: Study, attributes: Sequence[str], positive: bool = True, draws: int = 0) -> np.ndarray:
    """Mean distance between the class means of several attributes (`positive=False`: of their complements).

    Sampling noise lengthens every distance; its expected square is subtracted. Returns (1 + draws,): the
    estimate, and what it becomes when that noise is added once more, independent draws (for an interval).
    """
    rng = np.random.default_rng(0)
    means = np.stack([study.class_mean(attribute, positive) for attribute in attributes]).astype(float)
    n = np.array([study.count(attribute) for attribute in attributes])
    first, second = np.triu_indices(len(attributes), 1)
    # Complements are mostly the same images and share most of their noise: what differs is who is left out.
    share = 1 / n if positive else 1 / (study.n - n) - 1 / study.n
    total, scale = study.moments()[1].sum(dtype=float), np.sqrt(study.moments()[1].astype(float))
    floor = total * (share[first] + share[second])

    def spread(points: np.ndarray, floors: float) -> float:
        square = np.square(points[first] - points[second]).sum(1) - floors * floor
        return float(np.sqrt(square.clip(min=0)).mean())

    noisy = (means + rng.standard_normal(means.shape) * scale * np.sqrt(share)[:, None] for _ in range(draws))
    return np.array([spread(means, 1), *(spread(points, 2) for points in noisy)])
