"""Variance components against scipy's analysis of variance and against draws whose components are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from glowkit.errors import GlowkitError
from glowkit.replications.components import components


@settings(deadline=None)
@given(st.lists(st.integers(2, 6), min_size=2, max_size=6), st.integers(0, 999))
def test_they_make_the_f_ratio_of_scipy(sizes, seed):
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=len(cells)) + 3 * rng.normal(size=len(sizes))[cells]
    found = components(values, cells)
    typical = (len(cells) - np.square(sizes).sum() / len(cells)) / (len(sizes) - 1)
    f = 1 + typical * found.cell.estimate**2 / found.seed.estimate**2
    expected = stats.f_oneway(*(values[cells == cell] for cell in range(len(sizes)))).statistic
    assert f == pytest.approx(max(1, expected))
    assert found.seed.ci[0] < found.seed.estimate < found.seed.ci[1]
    assert 0 <= found.cell.ci[0] <= found.cell.estimate <= found.cell.ci[1]
    # An interval that leaves 0 out and the F test say the same.
    p = stats.f_oneway(*(values[cells == cell] for cell in range(len(sizes)))).pvalue
    assert (found.cell.ci[0] > 0) == (p < 0.025)


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4, 4), (5, 3, 3)])
def test_known_components_are_found_and_covered(sizes):
    rng, seeds, between = np.random.default_rng(0), [], []
    cells = np.repeat(np.arange(len(sizes)), sizes)
    covered = np.zeros(2)
    for _ in range(1000):
        found = components(0.5 * rng.normal(size=len(cells)) + 2 * rng.normal(size=len(sizes))[cells], cells)
        seeds.append(found.seed.estimate**2)
        between.append(found.cell.estimate**2)
        covered += [one.ci[0] <= true <= one.ci[1] for one, true in ((found.seed, 0.5), (found.cell, 2.0))]
    assert np.mean(seeds) == pytest.approx(0.25, rel=0.05)
    assert np.mean(between) == pytest.approx(4, rel=0.15)
    assert np.all((0.93 <= covered / 1000) & (covered / 1000 <= 0.97))
    assert (found.seed.n, found.cell.n) == (len(cells), len(sizes))


def test_without_seeds_or_cells_there_is_nothing_to_tell():
    for cells in ([1, 2, 3], [1, 1, 1]):
        with pytest.raises(GlowkitError, match="want two cells, and seeds in them"):
            components([1.0, 2.0, 3.0], cells)
