"""What the runs of a plan say together: one number of each run, by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from glowkit import intervals
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.replications.components import Components, components
from glowkit.replications.results import Result

BITS, AUC = "bits/dim", "AUC"

GLOW = "affine-capped"
SHAPES = (GLOW, "affine-relu", "additive-capped", "additive-relu")
IMAGES = (GLOW, "images-10000", "images-2000")
GLOWS = (*SHAPES, "narrow", *IMAGES[1:], "faces64")
"""Cells of `configs/replications.toml`: trained Glows that differ in their coupling and its activation alone, or in the
number of their training images alone; and all trained Glows."""


def estimate(result: Result, measure: str) -> Estimate | None:
    """What one run says of BITS, AUC (the mean of all attributes), or a row; None where it has none."""
    if measure in (BITS, AUC):
        return result.bits_per_dim if measure == BITS else result.auc
    row = result.rows.get(measure)
    return row and row.estimate


def value(result: Result, measure: str) -> float:
    """The number of one run's `estimate`; nan where it has none."""
    found = estimate(result, measure)
    return found.estimate if found else float("nan")


def by_cell(results: Iterable[Result], measure: str) -> dict[str, np.ndarray]:
    """The numbers of each cell's runs, one a training seed, in the order of the results."""
    found: dict[str, list[float]] = {}
    for result in results:
        found.setdefault(result.cell, []).append(value(result, measure))
    return {cell: np.asarray(values) for cell, values in found.items()}


def spread(results: Iterable[Result], measure: str, cells: Sequence[str]) -> Components:
    """Of these cells' runs: the standard deviation between seeds of a cell, and that between the cells' true means.

    A run that has no number is left out. Raises GlowkitError, as `components` does, if too few are left.
    """
    numbers = by_cell(results, measure)
    known = [(number, cell) for cell in numbers if cell in cells for number in numbers[cell] if not np.isnan(number)]
    return components([number for number, _ in known], [cell for _, cell in known])


def typical_half_width(results: Iterable[Result], measure: str) -> float:
    """Half the interval of one run, the mean of the runs: what a single model's result says of its own error."""
    found = [estimate(result, measure) for result in results]
    return float(np.mean([(each.ci[1] - each.ci[0]) / 2 for each in found if each]))


def flips(verdicts: Sequence[Hashable]) -> tuple[Hashable, Estimate]:
    """The verdict that most runs reach, and how often a run reaches another (with Wilson's interval).

    Raises GlowkitError without a verdict.
    """
    if not verdicts:
        raise GlowkitError("flips: no verdicts; want that of one run at least")
    (common, times), *_ = Counter(verdicts).most_common(1)
    return common, intervals.wilson(len(verdicts) - times, len(verdicts))
