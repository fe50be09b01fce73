"""How much of a number is the training seed, and how much the cell: variance components of a one-way layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate


class Components(NamedTuple):
    """Standard deviations, with their intervals: between seeds of one cell, and between the true means of cells.

    The n of `seed` counts the runs, that of `cell` the cells.
    """

    seed: Estimate
    cell: Estimate


def components(values: ArrayLike, cells: Sequence, level: float = 0.95) -> Components:
    """Of values (n,) of runs, cells (n,) says which cell each is of.

    The mean squares of an analysis of variance, of unequal cells where they are (Searle 1971, chapter 10). The
    intervals are those of normal seeds and, between cells, of normal cells (Williams 1962), which few cells leave wide.
    A component that comes out negative is 0. Raises GlowkitError with fewer than two cells, or without a cell of two
    runs.
    """
    values, (_, cell) = np.asarray(values, float), np.unique(np.asarray(cells), return_inverse=True)
    sizes = np.bincount(cell)
    between, within = len(sizes) - 1, len(values) - len(sizes)
    if between < 1 or within < 1:
        raise GlowkitError(f"components: {len(values)} runs of {len(sizes)} cells; want two cells, and seeds in them")
    means = np.bincount(cell, values) / sizes
    square_within = np.square(values - means[cell]).sum() / within
    square_between = (sizes * np.square(means - values.mean())).sum() / between
    typical = (len(values) - np.square(sizes).sum() / len(values)) / between
    tails = np.array([0.5 + level / 2, 0.5 - level / 2])
    limits = within * square_within / stats.chi2.ppf(tails, within)
    # Williams: what the seeds make of the mean square between is taken off at the tails of F, not at its mean.
    left = square_between - square_within * stats.f.ppf(tails, between, within)
    others = between * left / (typical * stats.chi2.ppf(tails, between))
    return Components(
        _deviation(square_within, limits, len(values)),
        _deviation((square_between - square_within) / typical, others, len(sizes)),
    )


def _deviation(variance: float, limits: np.ndarray, n: int) -> Estimate:
    """The standard deviation of a variance and of the limits of its interval, none of them below 0."""
    found, low, high = np.sqrt(np.maximum(0.0, [variance, *limits]))
    return Estimate(float(found), (float(low), float(high)), n)
