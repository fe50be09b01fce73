"""Other directions: scaled alike, tried on other faces than those that decide, and the better one is found."""

from dataclasses import replace

import numpy as np
import pytest

from glowkit.measures import better, success
from glowkit.measures.sweep import sweep


class Reader:
    def passes(self, x):
        return np.ones(len(x), bool)


@pytest.fixture(scope="module")
def own(stage, tmp_path_factory):
    made = replace(stage, folder=tmp_path_factory.mktemp("better"), each={"noise": 20, "centres": 10, "pixel": 20})
    vars(made)["looks"] = Reader()
    return made


def test_the_mean_difference_is_the_edit_of_the_sweep_and_others_choose(own):
    made = sweep(own)
    for name in own.attributes:
        final, choosing = better._edits(own, name, "mean", False), better._edits(own, name, "mean", True)
        swept = made[name, True, "noise"]
        assert np.array_equal(final.rows, swept.rows) and np.array_equal(final.seen, swept.seen)
        assert not set(choosing.people) & set(final.people) and len(choosing.rows) == 4
        assert not own.has(name)[choosing.rows].any()


def test_directions_of_classifiers_and_of_the_study_are_there(own):
    found = better.all_directions(own)
    assert list(found) == ["mean", "partial", "conditional", "shrunk", better.LDA, better.LOGISTIC]
    for line in found.values():
        assert line.shape == (len(own.attributes), own.flow.dim) and line.isfinite().all()


def test_directions_that_carry_another_attribute_along_are_told_from_each_other(own, tmp_path, monkeypatch):
    own = replace(own, folder=tmp_path)
    vars(own)["looks"] = Reader()
    plain = better.all_directions(own)["mean"]
    dirty = {"a little": plain + 0.5 * plain.roll(1, 0), "a lot": plain + 2.0 * plain.roll(1, 0)}
    monkeypatch.setattr(better, "all_directions", lambda stage: {"mean": plain, **dirty})
    monkeypatch.setattr(success, "ENOUGH", 2)
    found = better.b13(own)
    assert found.details["best"] == "a little"
    assert found.details["choosing"]["a lot"]["aside"] > found.details["choosing"]["a little"]["aside"] > 1
    assert found.estimate.ci[0] > 1 and found.second.ci[0] > 1
    assert better.b10(own) is None  # nobody knows the truth about these pictures
