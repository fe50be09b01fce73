"""Displaced faces and layers beyond their range, against a flow whose edits stay in place and against counting."""

import numpy as np
import pytest
import torch
from measures.toy_stage import Planted, stage_of

from glowkit import intervals, ranges
from glowkit.measures import places
from glowkit.study import CENTRES

SEES = {
    "Smiling": lambda x: x.mean((1, 2, 3)) - 0.4,
    "Male": lambda x: x[:, 0].mean((1, 2)) - 0.5,
    "Young": lambda x: x[:, 1].mean((1, 2)) - 0.5,
}


@pytest.fixture(scope="module")
def stage():
    return stage_of((Planted(SEES),) * 2, lambda x: x.mean((1, 2, 3)) < 2, n=500)


def test_an_edit_of_a_linear_flow_stays_in_place(stage):
    row = places.c20(stage)
    assert row.estimate.estimate == pytest.approx(1, abs=0.1) and row.estimate.ci[0] > 0.2
    assert row.centres.estimate == pytest.approx(1, abs=0.1) and row.estimate.n == 40
    assert [found[0] for found in row.details["pixels_stay"]] == pytest.approx([1, 1, 1], abs=0.1)
    assert len(row.details["seen"]["true"][1]) == 4 and len(row.details["stays"]) == 3


def test_an_edit_that_follows_comes_out_below(stage, monkeypatch):
    """A decoder that moves the change to where the face is."""
    moves = iter([move for _ in range(2) for move in [(0, 0), *places.MOVES]])
    decode = stage.flow.decode

    def following(z):
        x, (dx, dy) = decode(z), next(moves)
        rows = stage.faces(~stage.has("Smiling"), 40)
        change = (
            torch.from_numpy(stage.study.pixel_direction("Smiling")).view(1, 3, 32, 32).expand(len(rows), -1, -1, -1)
        )
        home = places.placement.displace(change, dx, dy)
        return x - change + home

    monkeypatch.setattr(stage.flow, "decode", following)
    row = places.c20(stage)
    assert row.estimate.ci[1] < -0.2


def test_the_first_layer_beyond_the_range_and_its_level():
    level_of = np.array([3, 3, 2, 1])
    beyond = np.array([[1.0, 1.1, 5, 5], [0.5, 0.5, 0.5, np.nan], [0.9, 1.0, 1, 1], [0, 0, 1.2, 0]])
    levels = places.first_levels(level_of, beyond)
    assert levels.tolist() == [3, 1, 0, 2]
    assert places.commonest(np.array([0, 0, 0, 2, 3, 3])) == 3
    assert places.commonest(np.zeros(4, int)) == 1


def test_unedited_faces_are_taken_off(stage):
    row = places.b06(stage)
    rows, attributes = places._drawn_attributes(stage)
    assert len(rows) == 100 and not any(stage.has(name)[row] for row, name in zip(rows, attributes, strict=True))
    others = stage.faces(~np.isin(stage.people, rows), 300)
    usual = ranges.inverse_ranges(stage.flow, stage.z[CENTRES][others])[1].max(0)
    first = []
    for name_of in (attributes, None):
        z = stage.z[CENTRES][rows].clone()
        for k, name in enumerate(name_of or ()):
            z[k] += 3 * torch.from_numpy(stage.study.direction(name, CENTRES))
        level_of, found = ranges.inverse_ranges(stage.flow, z)
        first.append([next((lv for lv, out in zip(level_of, r > usual, strict=True) if out), 0) for r in found])
    levels = np.array(first)
    commonest = max((1, 2), key=lambda level: (levels[0] == level).sum())
    expected = intervals.paired_difference(levels[0] == commonest, levels[1] == commonest)
    assert row.centres.estimate == pytest.approx(expected.estimate) and row.centres.ci == pytest.approx(expected.ci)
    assert sum(row.details["first"]["edited"].values()) == 100
    assert set(row.details["quartiles"]) == {"edited", "unedited"}
