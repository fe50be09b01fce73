"""The row on levels, with directions that are planted in one level or in two."""

from dataclasses import replace

import numpy as np
import pytest

from glowkit.measures import levels
from glowkit.study import NOISE


class Planted:
    """A study whose directions lie in the pixels' own latents, with the parts of some levels only."""

    def __init__(self, study, kept):
        self.study, self.kept = study, kept

    def direction(self, name, encoding=NOISE):
        found = 1.5 * self.study.direction(name, encoding)
        found[[not kept for kept in self.kept]] = 0
        return found


def kept(stage, *wanted):
    where = np.zeros(stage.flow.dim, bool)
    for level in wanted:
        where[stage.flow.level_slices[level]] = True
    return replace(stage, study=Planted(stage.study, where))


def test_a_direction_in_one_level_is_kept_whole(stage):
    found = levels.b07(kept(stage, 1))
    assert found.estimate.estimate == pytest.approx(1, abs=0.02) and found.second.estimate == pytest.approx(1, abs=0.02)
    success = dict(zip(found.details["attributes"], np.array(found.details["success"]), strict=True))
    assert success["Left"].shape == (2, 3)
    assert (success["Left"][:, 1] == success["Left"][:, 2]).all() and not success["Left"][:, 0].any()


def test_a_direction_that_does_nothing_decides_nothing(stage):
    assert levels.b07(kept(stage)) is None


def test_an_attribute_that_takes_all_levels_is_kept_less(stage):
    found = levels.b07(kept(stage, 0, 1))  # what the second judge wants, no level does alone for every face
    success = np.array(found.details["success"])[:, 1]
    assert (success[:4, :2].max(1) < 0.9).all() and (success[:4, 2] == 1).all()
    assert found.second.ci[0] < found.second.estimate < 0.85
    # of levels that do equally well, the one chosen on some faces fares on others as on all
    assert found.second.estimate == pytest.approx(success[:, :2].max(1).mean() / success[:, 2].mean(), abs=0.05)
