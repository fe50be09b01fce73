"""Confidence intervals: every number the book prints carries its n and one of these.

>>> print(wilson(889, 1000))
0.889 [0.868, 0.907] (n = 1,000)
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from glowkit.errors import GlowkitError


class Estimate(NamedTuple):
    """A number, its confidence interval (95% unless told) and the number of observations behind it.

    The fields are named as `claims.record` takes them: ``claims.record(id, **estimate._asdict(), ...)``.
    """

    estimate: float
    ci: tuple[float, float]
    n: int

    @property
    def brief(self) -> str:
        """Number and interval without n, for where n is given once for all.

        It has as many decimals as the interval's width makes meaningful.

        >>> wilson(889, 1000).brief
        '0.889 [0.868, 0.907]'
        """
        width = self.ci[1] - self.ci[0]
        places = 1 - math.floor(math.log10(width)) if width > 0 else 4
        shape = f".{max(0, places)}f" if places <= 6 else ".2g"
        return f"{self.estimate:{shape}} [{self.ci[0]:{shape}}, {self.ci[1]:{shape}}]"

    def __str__(self) -> str:
        return f"{self.brief} (n = {self.n:,})"

    def through(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of function(quantity), for an increasing function: it keeps the interval's coverage.

        >>> print(wilson(889, 1000).through(lambda share: 100 * share))
        88.9 [86.8, 90.7] (n = 1,000)
        """
        estimate, low, high = (float(function(value)) for value in (self.estimate, *self.ci))
        return Estimate(estimate, (low, high), self.n)


def wilson(successes: float, n: float, level: float = 0.95) -> Estimate:
    """The share successes / n with Wilson's score interval (right even at 0 and at n successes)."""
    if not 0 <= successes <= n or n < 1:
        raise GlowkitError(f"wilson: {successes} successes of {n}: want 0 <= successes <= n and n >= 1")
    p, z = successes / n, float(stats.norm.ppf(0.5 + level / 2))
    centre, shrink = p + z * z / (2 * n), 1 + z * z / n
    margin = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return Estimate(p, (min(p, (centre - margin) / shrink), max(p, (centre + margin) / shrink)), int(n))


def german_tank(highest: int, seen: int, level: float = 0.95) -> Estimate:
    """How many things there are in all, if they carry the numbers 1 to N and the highest of `seen` ones is known.

    The German tank problem, for `seen` things drawn at random without replacement. The unbiased estimate
    m + m/k - 1, and every total N under which a maximum of m or less is not a rare event:
    P(max <= m | N) = C(m, k) / C(N, k) >= 1 - level.
    """
    m, k = int(highest), int(seen)
    if not 1 <= k <= m:
        raise GlowkitError(f"german_tank: highest {highest} of {seen} seen: want 1 <= seen <= highest")

    def log_share(total: int) -> float:  # log C(m, k) - log C(total, k)
        a, b, c, d = special.gammaln([m + 1, total - k + 1, m - k + 1, total + 1])
        return float(a + b - c - d)

    rare = math.log(1 - level) - 1e-9  # a tie counts as not rare, whichever way it was rounded
    low, high = m, 2 * m + 2
    while log_share(high) >= rare:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_share(middle) >= rare else (low, middle)
    return Estimate(m + m / k - 1, (m, low), k)


def mean(values, groups=None, level: float = 0.95) -> Estimate:
    """The mean of values (n,) with Student's interval.

    The values are independent, or, with `groups` (n,), values of different groups are: images of one person
    are alike, so where identities are known it is the people that are counted.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise GlowkitError(f"mean: want a flat array of at least two values, got shape {values.shape}")
    centre = float(values.mean())
    sums = group_sums(values - centre, groups)
    error = math.sqrt(float((sums**2).sum()) * len(sums) / (len(sums) - 1)) / len(values)
    margin = float(stats.t.ppf(0.5 + level / 2, len(sums) - 1)) * error
    return Estimate(centre, (centre - margin, centre + margin), len(values))


def share(hits, groups=None, level: float = 0.95) -> Estimate:
    """The share of true values in hits (n,), with Wilson's interval; `groups` (n,) as in `mean`.

    Groups that agree within themselves hold less evidence than n single values: as many as would give the
    variance that is seen between the groups, and at least one a group.
    """
    hits = np.asarray(hits).astype(bool)
    p, people = float(hits.mean()), len(group_sums(hits, groups))
    between, within = float((group_sums(hits - p, groups) ** 2).sum()), len(hits) * p * (1 - p)
    evidence = len(hits) if groups is None else people
    if groups is not None and within > 0:
        evidence = min(len(hits), max(people, len(hits) * within / between)) if between > 0 else len(hits)
    return wilson(p * evidence, evidence, level)._replace(estimate=p, n=len(hits))


def share_difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second, of two independent shares, from their Wilson intervals (Newcombe 1998, method 10)."""
    below = np.hypot(first.estimate - first.ci[0], second.ci[1] - second.estimate)
    above = np.hypot(first.ci[1] - first.estimate, second.estimate - second.ci[0])
    difference = first.estimate - second.estimate
    return Estimate(difference, (difference - float(below), difference + float(above)), first.n + second.n)


def weighted_share(hits: ArrayLike, sizes: Sequence[int]) -> Estimate:
    """The share in a whole population, from hits bool (L, k) of k members drawn in each of L strata of these `sizes`.

    Wilson's interval in each stratum, joined by the squares of their margins (Zou and Donner, 2008), so that a
    stratum in which all or none hit still counts as uncertain.
    """
    hits = np.asarray(hits, bool)
    weights = np.asarray(sizes) / np.sum(sizes)
    strata = [wilson(int(stratum.sum()), len(stratum)) for stratum in hits]
    share = float(sum(w * stratum.estimate for w, stratum in zip(weights, strata, strict=True)))
    margins = [
        float(np.sqrt(sum((w * (stratum.ci[side] - stratum.estimate)) ** 2
                          for w, stratum in zip(weights, strata, strict=True))))
        for side in (0, 1)
    ]  # fmt: skip
    return Estimate(share, (max(0.0, share - margins[0]), min(1.0, share + margins[1])), int(hits.size))


def pearson(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Pearson's correlation of x (n,) and y (n,), with Fisher's interval."""
    found = stats.pearsonr(x, y)
    low, high = found.confidence_interval(level)
    return Estimate(float(found.statistic), (float(low), float(high)), len(np.asarray(x)))


def spearman(x: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, resamples: int = 1000) -> Estimate:
    """Spearman's rank correlation of x (n,) and y (n,), with a bootstrap interval; `groups` (n,) as in `bootstrap`."""
    return bootstrap(lambda a, b: stats.spearmanr(a, b).statistic, x, y, groups=groups, resamples=resamples)


def group_sums(values, groups=None) -> np.ndarray:
    """Sums of values (n,) within each group of `groups` (n,); without groups every value is its own."""
    values = np.asarray(values, dtype=np.float64)
    if groups is None:
        return values
    if len(groups) != len(values):
        raise GlowkitError(f"groups: want one for each of the {len(values)} values, got {len(groups)}")
    return np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], weights=values)


def bootstrap(
    statistic: Callable[..., float],
    *arrays,
    groups=None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """statistic(*arrays) with a percentile bootstrap interval over the first axis, resampled together.

    `groups` (n,) resamples whole groups instead of single rows: images of one person are not independent, so
    where identities are known the people are what is drawn.
    """
    arrays = tuple(np.asarray(array) for array in arrays)
    n = len(arrays[0])
    if any(len(array) != n for array in arrays) or (groups is not None and len(groups) != n):
        raise GlowkitError(f"bootstrap: arrays (and groups) must have equal lengths, the first has {n}")
    rng = np.random.default_rng(seed)
    if groups is None:

        def draw() -> np.ndarray:
            return rng.integers(n, size=n)
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])

        def draw() -> np.ndarray:
            return np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])

    replicates = []
    for _ in range(resamples):
        rows = draw()
        replicates.append(statistic(*(array[rows] for array in arrays)))
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(statistic(*arrays)), (float(low), float(high)), n)
