"""Numbers of many runs together, against the same by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.measured import Found
from glowkit.replications import across, results

ONE = results.read(Path(__file__).parent / "tiny-seed1.json")


def result(cell, seed, auc, row=None):
    rows = {"C21": Found(Estimate(row, (row - 0.1, row + 0.3), 9), "") if row is not None else None}
    return results.Result(
        **vars(ONE) | {"cell": cell, "seed": seed, "auc": Estimate(auc, (auc - 0.01, auc + 0.01), 9), "rows": rows}
    )


RUNS = [
    result("a", 1, 0.90, 1.0), result("a", 2, 0.92, 1.5), result("a", 3, 0.97, 2.0),
    result("b", 1, 0.70, 0.0), result("b", 2, 0.72, 0.5),
    result("c", 1, 0.50),
]  # fmt: skip


def test_numbers_by_cell():
    assert {cell: list(values) for cell, values in across.by_cell(RUNS, across.AUC).items()} == {
        "a": [0.90, 0.92, 0.97], "b": [0.70, 0.72], "c": [0.50],
    }  # fmt: skip
    assert across.value(RUNS[0], across.BITS) == ONE.bits_per_dim.estimate
    assert across.value(RUNS[0], "C21") == 1.0 and np.isnan(across.value(RUNS[5], "C21"))


def test_the_spread_is_that_of_an_analysis_of_variance_of_the_cells_asked_for():
    seed, cell = across.spread(RUNS, across.AUC, ["a", "b"])
    a, b = np.array([0.90, 0.92, 0.97]), np.array([0.70, 0.72])
    within = (np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / 3
    assert seed.estimate == pytest.approx(np.sqrt(within)) and seed.n == 5
    f = stats.f_oneway(a, b).statistic
    assert cell.estimate == pytest.approx(np.sqrt((f - 1) * within / (5 - (9 + 4) / 5))) and cell.n == 2


def test_a_run_without_a_number_is_left_out_of_the_spread():
    without = [*RUNS, result("a", 4, 0.1), result("b", 3, 0.1)]
    assert across.spread(without, "C21", ["a", "b", "c"]) == across.spread(RUNS[:5], "C21", ["a", "b"])


def test_without_runs_enough_no_spread_is_made_up():
    for cells in (["a"], ["a", "c"], ["c"], ["none of them"]):
        with pytest.raises(GlowkitError, match="want two cells, and seeds in them"):
            across.spread(RUNS, "C21", cells)


def test_the_error_that_a_run_states_itself():
    assert across.typical_half_width(RUNS, across.AUC) == pytest.approx(0.01)
    assert across.typical_half_width(RUNS, "C21") == pytest.approx(0.2)


def test_how_often_a_verdict_flips():
    common, share = across.flips(["yes", "yes", "no", "yes"])
    assert common == "yes" and share.estimate == 0.25 and share.n == 4
    with pytest.raises(GlowkitError, match="no verdicts"):
        across.flips([])
