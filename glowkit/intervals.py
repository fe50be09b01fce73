"""Confidence intervals: every number the book prints carries its n and one of these.

Observations that share a person (or whatever else `groups` names) are not independent: what is counted, and what n
says, are the people. How often each interval covers the truth is measured by `tests/campaigns/coverage.py`.

>>> print(wilson(889, 1000))
0.889 [0.868, 0.907] (n = 1,000)
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from glowkit.errors import GlowkitError

# A number and its interval, or an n in brackets, as an Estimate prints them.
_WHOLE = re.compile(r"(?:[-\d.,e]+ )?\[[-\d.,e]+, [-\d.,e]+\]|\(n = [\d,]+\)")


class Estimate(NamedTuple):
    """A number, its confidence interval (95% unless told) and the number of independent observations behind it.

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


def unbroken(text: str) -> str:
    """The text with no-break spaces where an interval, or the n behind it, would else fall apart at a line's end.

    >>> unbroken("0.889 [0.868, 0.907] (n = 1,000)")
    '0.889\\xa0[0.868,\\xa00.907] (n\\xa0=\\xa01,000)'
    """
    return _WHOLE.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def wilson(successes: float, n: float, level: float = 0.95) -> Estimate:
    """The share successes / n with Wilson's score interval (right even at 0 and at n successes)."""
    if not 0 <= successes <= n or n < 1:
        raise GlowkitError(f"wilson: {successes} successes of {n}: want 0 <= successes <= n and n >= 1")
    return Estimate(successes / n, _score(successes / n, n, level), int(n))


def _score(p: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a share p of n."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre, shrink = p + z * z / (2 * n), 1 + z * z / n
    margin = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return min(p, (centre - margin) / shrink), max(p, (centre + margin) / shrink)


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
    are alike, so where identities are known it is the people that are counted. GlowkitError where there is one only.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise GlowkitError(f"mean: want a flat array of at least two values, got shape {values.shape}")
    centre = float(values.mean())
    sums = group_sums(values - centre, groups)
    if len(sums) < 2:
        raise GlowkitError(f"mean: all {len(values)} values are of one group; an interval takes at least two groups")
    error = math.sqrt(float((sums**2).sum()) * len(sums) / (len(sums) - 1)) / len(values)
    margin = float(stats.t.ppf(0.5 + level / 2, len(sums) - 1)) * error
    return Estimate(centre, (centre - margin, centre + margin), len(sums))


def mean_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of first (n,) less that of second (m,), independent values, with Student's interval of two samples of
    one variance; the n of the estimate is n + m."""
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if min(len(first), len(second)) < 1 or len(first) + len(second) < 3:
        raise GlowkitError(f"mean_difference: {len(first)} and {len(second)} values; want three, some of each")
    found = stats.ttest_ind(first, second).confidence_interval(level)
    difference = float(first.mean() - second.mean())
    return Estimate(difference, (float(found.low), float(found.high)), len(first) + len(second))


def share(hits, groups=None, level: float = 0.95) -> Estimate:
    """The share of true values in hits (n,), with Wilson's interval; `groups` (n,) as in `mean`.

    Groups that agree within themselves hold less evidence than n single values: as many as would give the variance
    that is seen between the groups, and fewer again for that variance being an estimate (Korn and Graubard 1998),
    but no fewer than if every group agreed wholly (Kish 1965). Of a single group the interval is [0, 1].
    """
    hits = np.asarray(hits).astype(bool)
    if not len(hits):
        raise GlowkitError("share: no values, want at least one")
    n, p = len(hits), float(hits.mean())
    if groups is None:
        return wilson(p * n, n, level)
    sizes, parts = group_sums(np.ones(n), groups), group_sums(hits - p, groups)
    people = len(parts)
    if people < 2:
        return Estimate(p, (0.0, 1.0), people)
    evidence = n**2 / float((sizes**2).sum())  # if every group agrees wholly
    if 0 < p < 1:
        seen = float((parts**2).sum()) * people / (people - 1)
        more = min(n, n**2 * p * (1 - p) / seen) if seen > 0 else n
        single, fewest, few = stats.t.ppf(0.5 + level / 2, [n - 1, people - 1, degrees_of_freedom(parts)])
        evidence = float(max(more * (single / few) ** 2, evidence * (single / fewest) ** 2))
    return Estimate(p, _score(p, evidence, level), people)


def paired_difference(first, second, groups=None, level: float = 0.95) -> Estimate:
    """The share of true values in first (n,) less that in second (n,), of the same images; `groups` (n,) as in `mean`.

    As the mean of their differences, had two more people been seen (as many images of each as count for one), with
    differences of 1 and of -1: so that images that all agree are not taken for certainty (Bonett and Price 2012). Of a
    single group it is [-1, 1].
    """
    (first, second), n = _together("paired_difference", (first, second), groups)
    if not n:
        raise GlowkitError("paired_difference: no values, want at least one pair")
    gains = np.asarray(first, bool).astype(float) - np.asarray(second, bool)
    sums, sizes = group_sums(gains, groups), group_sums(np.ones(len(gains)), groups)
    if len(sums) < 2:
        return Estimate(float(gains.mean()), (-1.0, 1.0), len(sums))
    more = design_effect(gains, sums)
    parts, sizes = np.append(sums, [more, -more]), np.append(sizes, [more, more])
    centre = parts.sum() / sizes.sum()
    margin = _margin(parts - centre * sizes, level) / sizes.sum()
    return Estimate(float(gains.mean()), (max(-1.0, centre - margin), min(1.0, centre + margin)), len(sums))


def paired_ratio(first, second, groups=None, level: float = 0.95) -> Estimate:
    """The share of true values in first (n,) over that in second (n,), of the same images; `groups` (n,) as in `mean`.

    The interval is that of the logarithm, had two more people been seen, each true in one of the two alone (as in
    `paired_difference`). GlowkitError where second is true nowhere, or where there is one group only.
    """
    first, second = (
        array.astype(bool).astype(float) for array in _together("paired_ratio", (first, second), groups)[0]
    )
    if not second.any():
        raise GlowkitError(f"paired_ratio: none of {len(second)} is true in the second, want at least one to divide by")
    a, b = (group_sums(values, groups) for values in (first, second))
    people, more = len(a), design_effect(first - second, a - b)
    if people < 2:
        raise GlowkitError(f"paired_ratio: all {len(first)} values are of one group; want at least two groups")
    a, b = np.append(a, [more, 0]), np.append(b, [0, more])
    centre = math.log(a.sum() / b.sum())
    margin = _margin(a / a.sum() - b / b.sum(), level)
    ratio = float(first.mean() / second.mean())
    return Estimate(ratio, (min(ratio, math.exp(centre - margin)), max(ratio, math.exp(centre + margin))), people)


def share_difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second, of two independent shares, from their Wilson intervals (Newcombe 1998, method 10)."""
    below = np.hypot(first.estimate - first.ci[0], second.ci[1] - second.estimate)
    above = np.hypot(first.ci[1] - first.estimate, second.estimate - second.ci[0])
    difference = first.estimate - second.estimate
    return Estimate(difference, (difference - float(below), difference + float(above)), first.n + second.n)


def pearson(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Pearson's correlation of x (n,) and y (n,), with Fisher's interval. GlowkitError if either is constant."""
    (x, y), n = _together("pearson", (x, y))
    if n < 2:
        raise GlowkitError(f"pearson: {n} values, want at least two")
    _check_varied("pearson", x, y)
    found = stats.pearsonr(x, y)
    low, high = found.confidence_interval(level)
    return Estimate(float(found.statistic), (float(low), float(high)), n)


def spearman(x: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation of x (n,) and y (n,); `groups` (n,) as in `mean`.

    The interval is Student's on Fisher's scale, artanh, with the error that a jackknife finds: it leaves out one group
    at a time, or, of more than 200, a 200th of them. (Resampled ranks have ties, which would make it too wide.)
    GlowkitError if x or y is constant, or would be without one of those.
    """
    (x, y), n = _together("spearman", (x, y), groups)
    found = _Groups(n, groups)
    people = len(found)
    if people < 3:
        raise GlowkitError(f"spearman: want at least 3 independent points or groups, got {people}")

    def fisher(rows: np.ndarray) -> float:
        _check_varied("spearman", x[rows], y[rows], of=n)
        rank = np.corrcoef(stats.rankdata(x[rows]), stats.rankdata(y[rows]))[0, 1]
        return math.atanh(min(max(rank, -1 + 1e-12), 1 - 1e-12))

    centre = fisher(np.arange(n))
    shuffled = np.random.default_rng(0).permutation(people)
    blocks = np.array_split(shuffled, min(people, 200))
    left_out = np.array([fisher(found.rows(np.setdiff1d(shuffled, block))) for block in blocks])
    error = math.sqrt((len(blocks) - 1) * float(left_out.var()))
    margin = float(stats.t.ppf(0.5 + level / 2, len(blocks) - 1)) * error
    return Estimate(
        float(stats.spearmanr(x, y).statistic), (math.tanh(centre - margin), math.tanh(centre + margin)), people
    )


def group_sums(values, groups=None) -> np.ndarray:
    """Sums of values (n,) within each group of `groups` (n,); without groups every value is its own."""
    values = np.asarray(values, dtype=np.float64)
    if groups is None:
        return values
    if len(groups) != len(values):
        raise GlowkitError(f"groups: want one for each of the {len(values)} values, got {len(groups)}")
    return np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], weights=values)


def design_effect(values: np.ndarray, sums: np.ndarray) -> float:
    """How many of a person's values tell as much as one independent value; values (n,), their sums by person (G,).

    1 if the values of a person have nothing in common, all n / G if they are equal (Kish 1965).
    """
    most = len(values) / len(sums)
    return min(most, max(1.0, float((sums**2).sum() / (values**2).sum()))) if values.any() else most


def degrees_of_freedom(parts: ArrayLike) -> float:
    """How many normal values would tell a variance as well as the sum of squares of independent `parts` (G,) does.

    G - 1, or fewer where a few parts make up most of it: Satterthwaite's, from the fourth moment.
    """
    parts = np.asarray(parts, float)
    groups, square = len(parts), float((parts**2).sum())
    excess = float((parts**4).sum()) / square**2 - 3 / groups if square > 0 else 0.0
    return 2 / (2 / (groups - 1) + max(excess, 0.0))


def _margin(parts: np.ndarray, level: float) -> float:
    """Student's margin of a sum of independent parts (G,), which add up to about 0."""
    error = math.sqrt(float((parts**2).sum()) * len(parts) / (len(parts) - 1))
    return float(stats.t.ppf(0.5 + level / 2, len(parts) - 1)) * error


def bootstrap(
    statistic: Callable[..., float],
    *arrays,
    groups=None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """statistic(*arrays) with a bootstrap interval over the first axis, resampled together.

    `groups` (n,) resamples whole groups instead of single rows: images of one person are not independent, so
    where identities are known the people are what is drawn. For the ends see `_ends`; below ten people they are still
    too narrow, and of fewer than five GlowkitError.
    """
    arrays, n = _together("bootstrap", arrays, groups)
    found = _Groups(n, groups)
    people = len(found)
    if people < 5:
        raise GlowkitError(f"bootstrap: want at least 5 independent rows or groups, got {people}")

    def draw(rng: np.random.Generator) -> np.ndarray:
        return found.rows(rng.integers(people, size=people))

    return _resampled(statistic, arrays, draw, people, resamples, level, seed)


def hierarchical(
    statistic: Callable[..., float],
    *arrays,
    outer,
    inner=None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """statistic(*arrays) over two nested samples: of attributes, `outer` (n,), and in each of people, `inner` (n,).

    Attributes are resampled, then within each the people (single rows without `inner`), so that the interval is for
    attributes and people like these. n counts the attributes. The draws within add to the spread between what is
    already in it (Davison and Hinkley 1997, section 3.8): a little too wide, unless an attribute has many people.
    """
    arrays, n = _together("hierarchical", arrays, outer, inner)
    inner = np.arange(n) if inner is None else np.unique(np.asarray(inner), return_inverse=True)[1]
    outer = np.unique(np.asarray(outer), return_inverse=True)[1]
    people = _Groups(n, outer * n + inner)  # in the order of their attributes
    each = np.bincount(outer[people.order[people.starts]])
    attributes, first = len(each), np.cumsum(each) - each
    if attributes < 5:
        raise GlowkitError(f"hierarchical: want at least 5 groups of the outer level, got {attributes}")

    def draw(rng: np.random.Generator) -> np.ndarray:
        chosen = rng.integers(attributes, size=attributes)
        return people.rows(np.repeat(first[chosen], each[chosen]) + rng.integers(np.repeat(each[chosen], each[chosen])))

    return _resampled(statistic, arrays, draw, attributes, resamples, level, seed)


def two_way(
    statistic: Callable[..., float],
    *arrays,
    rows,
    columns,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """statistic(*arrays) over two crossed samples, `rows` (n,) and `columns` (n,): faces and directions, two people.

    The pigeonhole bootstrap (Owen 2007): rows and columns are resampled independently of each other, and a value
    counts as often as its row times as often as its column. n counts the fewer of the two. Too wide where neither
    matters (a spread of single values is counted three times), and right where either does.
    """
    arrays, n = _together("two_way", arrays, rows, columns)
    row, column = (np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (rows, columns))
    counts = int(row.max()) + 1, int(column.max()) + 1
    if min(counts) < 5:
        raise GlowkitError(f"two_way: want at least 5 rows and 5 columns, got {counts[0]} and {counts[1]}")

    def draw(rng: np.random.Generator) -> np.ndarray:
        times = [np.bincount(rng.integers(count, size=count), minlength=count) for count in counts]
        chosen = np.repeat(np.arange(n), times[0][row] * times[1][column])
        return chosen if len(chosen) else draw(rng)

    return _resampled(statistic, arrays, draw, min(counts), resamples, level, seed)


def _together(name: str, arrays: Sequence, *labels) -> tuple[tuple[np.ndarray, ...], int]:
    """The arrays, and their common length."""
    arrays = tuple(np.asarray(array) for array in arrays)
    n = len(arrays[0])
    if any(len(array) != n for array in (*arrays, *labels) if array is not None):
        raise GlowkitError(f"{name}: arrays (and groups) must have equal lengths, the first has {n}")
    return arrays, n


def _check_varied(name: str, *arrays: np.ndarray, of: int | None = None) -> None:
    """A correlation needs numbers that differ, in each of two arrays; they may be some `of` more."""
    for which, array in zip("xy", arrays, strict=True):
        if not np.isfinite(array).all():
            raise GlowkitError(f"{name}: want finite numbers, {which} has {array[~np.isfinite(array)][0]}")
        if (array == array[0]).all():
            of = of or len(array)
            some = f"all {of}" if of == len(array) else f"all but {of - len(array)} of {of}"
            raise GlowkitError(f"{name}: {some} values of {which} are {float(array[0]):.4g}; want values that differ")


class _Groups:
    """Which rows belong to each group of `groups` (n,); without groups every row is its own."""

    def __init__(self, n: int, groups) -> None:
        label = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        self.order, self.sizes = np.argsort(label, kind="stable"), np.bincount(label)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """The rows of all chosen groups, of a group chosen twice twice."""
        sizes = self.sizes[chosen]
        ends = np.cumsum(sizes)
        return self.order[np.repeat(self.starts[chosen] - ends + sizes, sizes) + np.arange(ends[-1])]


def _resampled(
    statistic: Callable[..., float],
    arrays: tuple[np.ndarray, ...],
    draw: Callable[[np.random.Generator], np.ndarray],
    units: int,
    resamples: int,
    level: float,
    seed: int,
) -> Estimate:
    rng = np.random.default_rng(seed)
    drawn = (draw(rng) for _ in range(resamples))
    replicates = [statistic(*(array[rows] for array in arrays)) for rows in drawn]
    if lost := np.count_nonzero(np.isnan(replicates)):
        raise GlowkitError(f"not a number in {lost} of {resamples} resamples; want more values, and such that differ")
    low, high = np.quantile(replicates, _ends(units, level))
    return Estimate(float(statistic(*arrays)), (float(low), float(high)), units)


def _ends(units: int, level: float) -> tuple[float, float]:
    """Which quantiles of the replicates make an interval, when so many independent units were resampled.

    Those of a normal curve at level would be too narrow: resampling n units loses a share 1/n of the variance, and
    what is left is an estimate (Hesterberg 2015). Student's quantile mends both. It has half the n - 1 degrees of
    freedom, which is right for units with an excess kurtosis of 2, between a normal's 0 and an exponential's 6.
    """
    end = float(stats.t.ppf(0.5 + level / 2, (units - 1) / 2)) * math.sqrt(units / (units - 1))
    return float(stats.norm.cdf(-end)), float(stats.norm.cdf(end))
