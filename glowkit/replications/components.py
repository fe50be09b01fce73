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
    """Standard deviations: between seeds of one cell, with its interval; and between the true means of cells."""

    seed: Estimate
    cell: float


def components(values: ArrayLike, cells: Sequence, level: float = 0.95) -> Components:
    """Of values (n,) of runs, cells (n,) says which cell each is of.

    The mean squares of an analysis of variance, of unequal cells where they are (Searle 1971, chapter 10); the interval
    is that of normal seeds. A component that comes out negative is 0. Raises GlowkitError with fewer than two cells, or
    without a cell of two runs.
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
    tails = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], within)
    low, high = np.sqrt(within * square_within / tails)
    seed = Estimate(float(np.sqrt(square_within)), (float(low), float(high)), len(values))
    return Components(seed, float(np.sqrt(max(0.0, (square_between - square_within) / typical))))
