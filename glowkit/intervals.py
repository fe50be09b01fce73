"""Confidence intervals: every number the book prints carries its n and one of these.

>>> print(wilson(889, 1000))
0.889 [0.868, 0.907] (n = 1,000)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from glowkit.errors import GlowkitError


class Estimate(NamedTuple):
    """A number, its confidence interval (95% unless told) and the number of observations behind it.

    The fields are named as `claims.record` takes them: ``claims.record(id, **estimate._asdict(), ...)``.
    """

    estimate: float
    ci: tuple[float, float]
    n: int

    def __str__(self) -> str:
        """As many decimals as the interval's width makes meaningful."""
        width = self.ci[1] - self.ci[0]
        places = 1 - math.floor(math.log10(width)) if width > 0 else 4
        shape = f".{max(0, places)}f" if places <= 6 else ".2g"
        return f"{self.estimate:{shape}} [{self.ci[0]:{shape}}, {self.ci[1]:{shape}}] (n = {self.n:,})"


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """The share successes / n with Wilson's score interval (right even at 0 and at n successes)."""
    if not 0 <= successes <= n or n < 1:
        raise GlowkitError(f"wilson: {successes} successes of {n}: want 0 <= successes <= n and n >= 1")
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return Estimate(successes / n, (float(interval.low), float(interval.high)), int(n))


def mean(values, level: float = 0.95) -> Estimate:
    """The mean of independent values (n,) with Student's interval."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise GlowkitError(f"mean: want a flat array of at least two values, got shape {values.shape}")
    centre = float(values.mean())
    margin = stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values)
    return Estimate(centre, (float(centre - margin), float(centre + margin)), len(values))


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
