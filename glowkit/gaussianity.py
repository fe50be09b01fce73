"""How Gaussian are the latents? Their norms, the norm of their mean, and the side of the origin they lie on.

Three questions of the thesis's section 4.1, each against an exact law of the standard normal in D dimensions:

- the norm of one point follows chi_D: mean sqrt(2) Gamma((D+1)/2) / Gamma(D/2), s.d. tending to 1/sqrt(2);
- the norm of the mean of n points follows chi_D / sqrt(n), because that mean is normal with variance 1/n;
- the projection on a line fixed beforehand is standard normal, so half of the points are on each side.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from glowkit import intervals
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.study import CENTRES, Study


def norm_law(dim: int, n: int = 1):
    """The exact law of the norm of the mean of n standard normal draws in R^dim, a frozen scipy law.

    n = 1 is the law of a single point's norm. ``.mean()``, ``.std()``, ``.cdf`` and ``.rvs`` as usual.
    """
    if dim < 1 or n < 1:
        raise GlowkitError(f"norm_law: dim = {dim}, n = {n}: both must be at least 1")
    return stats.chi(dim, scale=1 / np.sqrt(n))


def norm_of_mean_trials(dim: int, n: int, trials: int = 1000, seed: int = 0) -> np.ndarray:
    """(trials,) norms of the mean of n standard normal draws, drawn from their exact law (figure 5).

    The thesis drew n x D numbers a trial; the law needs one chi-square number a trial.
    """
    return norm_law(dim, n).rvs(size=trials, random_state=np.random.default_rng(seed))


def norm_of_mean_brute(dim: int, n: int, trials: int, seed: int = 0) -> np.ndarray:
    """The same (trials,) norms the long way, n x dim numbers a trial: the check of the shortcut."""
    rng = np.random.default_rng(seed)
    return np.array([np.linalg.norm(rng.standard_normal((n, dim)).mean(axis=0)) for _ in range(trials)])


def squared_bias(z, groups=None, level: float = 0.95) -> Estimate:
    """|E z|^2 of points z (n, D), without the D/n that noise adds to the square of their mean's norm.

    The mean product of points of different `groups` (n,): independent draws z, w have E[z.w] = |E z|^2. So it
    is right on average for any n, may come out negative, and is 0 +- sqrt(2 D) / n for centred normals. The
    interval is the jackknife's over groups, which for such pairs errs on the wide side.
    """
    z = np.asarray(z, dtype=np.float32)
    label = np.arange(len(z)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    people = int(label.max()) + 1
    if people < 3:
        raise GlowkitError(f"squared_bias: want at least 3 independent points or groups, got {people}")
    sums = np.zeros((people, z.shape[1]))
    np.add.at(sums, label, z)
    means = sums / np.bincount(label)[:, None]
    products = means @ means.T
    rows = products.sum(axis=1) - np.diagonal(products)  # of each group with all others
    estimate = rows.sum() / (people * (people - 1))
    without = (rows.sum() - 2 * rows) / ((people - 1) * (people - 2))
    error = np.sqrt((people - 1) / people * ((without - without.mean()) ** 2).sum())
    margin = float(stats.t.ppf(0.5 + level / 2, people - 1) * error)
    return Estimate(float(estimate), (float(estimate) - margin, float(estimate) + margin), people)


def halves_bias(study: Study, level: float = 0.95) -> Estimate:
    """|E z|^2 of latents with noise from a study's held-out images: the product of the means of its two halves.

    The halves share no person, so this is right on average for any n, as `squared_bias` is, and needs no image.
    Each half's projections on the other's mean, held fixed, give an error over people; the squares of the two are
    added, which counts the product of both halves' noise twice and so errs on the wide side.
    """
    means = study.half_means.astype(np.float64)
    estimate, lengths, margins, n = float(means[0] @ means[1]), np.linalg.norm(means, axis=1), [], 0
    for half in (0, 1):
        here = study.halves == half
        people = None if study.identities is None else study.identities[here]
        _, (low, high), counted = intervals.mean(study.along_mean[here] * lengths[1 - half], people, level)
        margins.append((high - low) / 2)
        n += counted
    margin = float(np.hypot(*margins))
    return Estimate(estimate, (estimate - margin, estimate + margin), n)


def along_training_mean(study: Study) -> np.ndarray:
    """(m,) projections of a study's held-out latents, at bin centres, on the line through the training mean.

    The study keeps those on class differences d and class means m+ only. With a share p of positives the mean is
    m+ - (1 - p) d, so the two projections on any one attribute's lines tell the third.
    """
    k = int(np.argmin(np.abs(study.counts / study.n - 0.5)))  # neither class mean is one of few images
    name, p = study.attributes[k], study.counts[k] / study.n
    lengths = [
        np.linalg.norm(line.astype(np.float64))
        for line in (study.class_mean(name, encoding=CENTRES), study.direction(name, CENTRES))
    ]
    on_class_mean, on_difference = (study.projections["latent"][kind][:, k] for kind in ("zero", "opposite"))
    products = lengths[0] * on_class_mean - (1 - p) * lengths[1] * on_difference
    return products / np.linalg.norm(study.mean.astype(np.float64))


def ks_distance(values, cdf, groups=None, level: float = 0.95) -> Estimate:
    """Kolmogorov-Smirnov distance between values (n,) and a law, in [0, 1], with its interval.

    By the Dvoretzky-Kiefer-Wolfowitz inequality (with Massart's constant) no point of the empirical
    distribution is farther than sqrt(log(2 / 0.05) / 2n) from the true one, so neither is the distance.
    Images of one person can be no worse than copies: with `groups` (n,), n is the number of people.
    """
    values = np.asarray(values, dtype=np.float64)
    distance = float(stats.kstest(values, cdf).statistic)
    independent = len(intervals.group_sums(values, groups))
    margin = float(np.sqrt(np.log(2 / (1 - level)) / (2 * independent)))
    return Estimate(distance, (max(0.0, distance - margin), min(1.0, distance + margin)), independent)


class NormReport(NamedTuple):
    """Norms against the chi law of their dimension."""

    dim: int
    mean: Estimate
    std: Estimate
    law_mean: float
    law_std: float
    ks: Estimate
    """Kolmogorov-Smirnov distance to chi_dim, in [0, 1]."""


def norm_report(norms, dim: int, groups=None) -> NormReport:
    """Mean and s.d. of norms (n,) of points in R^dim with their intervals, beside the chi law (figure 6)."""
    norms, law = np.asarray(norms, dtype=np.float64), norm_law(dim)
    variance = intervals.mean((norms - norms.mean()) ** 2, groups)
    return NormReport(
        dim,
        intervals.mean(norms, groups),
        length(variance),
        float(law.mean()),
        float(law.std()),
        ks_distance(norms, law.cdf, groups),
    )


def length(square: Estimate) -> Estimate:
    """|mu| with its interval from those of |mu|^2, a negative square counting as zero."""
    return square.through(lambda value: np.sqrt(max(value, 0.0)))


def norm_of_mean(square: ArrayLike, dim: int, n: ArrayLike) -> np.ndarray:
    """Expected norm of the mean of n independent latents in R^dim with |mu|^2 = square: sqrt(|mu|^2 + dim/n).

    square and n are numbers or arrays; a negative square, an estimate's, counts as zero.
    """
    return np.sqrt(np.maximum(square, 0) + dim / n)


def with_whole(norms: ArrayLike) -> np.ndarray:
    """(n, 1 + L): the norm of each latent, then those of its levels, which are given: norms (n, L)."""
    return np.hstack([np.linalg.norm(norms, axis=1, keepdims=True), norms])


def level_norms(z, levels: list[slice]) -> np.ndarray:
    """(n, 1 + L) norms of latents z (n, D): of the whole vector, then of each level's slice."""
    squares = np.asarray(z, dtype=np.float32) ** 2
    return np.sqrt(
        np.stack(
            [squares.sum(axis=1, dtype=np.float64)]
            + [squares[:, level].sum(axis=1, dtype=np.float64) for level in levels],
            axis=1,
        )
    )


def mean_products(a, b, levels: list[slice]) -> np.ndarray:
    """(n, L): the mean product of two latents of each image, a and b (n, D), over the coordinates of each level.

    Encoded with two independent draws of noise they share what the image determines: E[a_i b_i] = E[E[z_i | image]^2].
    """
    a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    return np.stack([(a[:, level] * b[:, level]).mean(axis=1, dtype=np.float64) for level in levels], axis=1)


def project(z, direction) -> np.ndarray:
    """(n,) signed lengths of points z (n, D) along a direction (D,), which need not have norm 1."""
    direction = np.asarray(direction, dtype=np.float64)
    length = np.linalg.norm(direction)
    if not length > 0:
        raise GlowkitError("project: the direction is zero (or not finite); want one with positive norm")
    return np.asarray(z) @ (direction / length).astype(np.asarray(z).dtype)


def held_out_projection(z, groups=None, seed: int = 0) -> np.ndarray:
    """(n,) projections on the line through the mean, each half of z read on the other half's line (figure 7).

    Read on its own line, even a true normal sample sits at +sqrt(D/n): every point helped to choose the line.
    `groups` (n,) stay whole: images of one person are all in the same half.
    """
    z = np.asarray(z)
    label = np.arange(len(z)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(label.max() + 1)
    half = np.isin(label, order[: len(order) // 2])
    projections = np.empty(len(z), dtype=z.dtype)
    projections[half] = project(z[half], z[~half].mean(axis=0))
    projections[~half] = project(z[~half], z[half].mean(axis=0))
    return projections


def share_positive(projections, groups=None) -> Estimate:
    """The share of projections above zero, with Wilson's interval: 0.5 for a centred normal."""
    return intervals.share(np.asarray(projections) > 0, groups)
