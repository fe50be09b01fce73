"""Midpoints against a planted reader of contrast, which double exposures lack, and against one that lets all pass."""

import numpy as np
import pytest
from measures.toy_stage import Planted, stage_of

from glowkit.measures import paths
from glowkit.measures.paths import ENDS, FADE, MEAN, ORIGIN, STRAIGHT, Halfway
from glowkit.measures.stage import pairs
from glowkit.study import CENTRES, NOISE

JUDGES = (Planted({"Smiling": lambda x: x.mean((1, 2, 3))}),) * 2


def contrast(x):
    return x.flatten(1).std(1)


@pytest.fixture(scope="module")
def stage():
    stage = stage_of(JUDGES, contrast, n=120)
    limit = contrast(stage.pixels(range(120))).quantile(0.6)
    vars(stage)["looks"].rule = lambda x: contrast(x) >= limit
    return stage


def test_midpoints_of_a_linear_flow_are_cross_fades(stage):
    a, b = np.array(list(pairs(stage, 250))).T
    for encoding in (NOISE, CENTRES):
        found, z = paths.halfway(stage, encoding), stage.z[encoding]
        assert found.passes[ENDS].shape == (60, 2) and not found.blind
        np.testing.assert_array_equal(found.passes[STRAIGHT], stage.looks.passes(stage.flow.decode((z[a] + z[b]) / 2)))
        np.testing.assert_array_equal(found.passes[ENDS][:, 1], stage.looks.passes(stage.flow.decode(z[b])))
        assert found.passes[STRAIGHT].mean() == pytest.approx(found.passes[FADE].mean(), abs=0.1)
        assert found.norms[STRAIGHT][0] == pytest.approx(float((z[a] + z[b]).norm(dim=1).mean()) / 2, rel=1e-4)
        assert found.norms[ORIGIN][0] == pytest.approx(found.norms[ENDS][0], rel=1e-4)
        assert set(found.bits) == {STRAIGHT, ORIGIN, MEAN, FADE, ENDS} and np.isfinite(list(found.bits.values())).all()


def test_rows_divide_and_subtract_and_name_the_cross_fades(stage):
    found = paths.halfway(stage, NOISE).passes
    row = paths.c11(stage)
    assert row.estimate.estimate == pytest.approx(found[STRAIGHT].mean() / found[ENDS].mean())
    assert row.estimate.n == 60 and row.estimate.ci[1] < 0.5 and row.centres.ci[1] < 0.8
    assert "cross-fades" in row.control and row.details["passes"][FADE][3] == 60
    row = paths.c12(stage)  # stretching restores the contrast
    assert row.estimate.estimate == pytest.approx(found[STRAIGHT].mean() - found[ORIGIN].mean())
    assert row.estimate.ci[1] < 0


def test_what_lets_cross_fades_pass_decides_nothing():
    every = np.ones(50, bool)
    kinds = dict.fromkeys((STRAIGHT, ORIGIN, MEAN, FADE), every) | {ENDS: np.ones((50, 2), bool)}
    found = Halfway(kinds, {}, {})
    assert found.blind and paths.realistic(found) == (1.0, (0.0, 1.0), 50)
    assert paths.straighter(found) == (0.0, (-1.0, 1.0), 50)
    some = np.arange(50) % 10 == 0
    found = Halfway(kinds | {FADE: some, ORIGIN: some}, {}, {})
    assert paths.realistic(found).ci[0] > 0.8 and paths.straighter(found).ci[0] > 0.5
