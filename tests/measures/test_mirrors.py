"""Mirror images against planted judges, all pairs counted one by one, and moves that are known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from measures.toy_stage import Planted, stage_of

from glowkit import intervals, traits
from glowkit.dataset import open_dataset
from glowkit.measures import mirrors
from glowkit.study import CENTRES, NOISE

# men have bright pictures, hair the colour of the quarter that is brightest
SEES = {"Male": lambda x: x.mean((1, 2, 3)) - 0.5} | {
    name: lambda x, k=k: x[:, k % 3, 16 * (k // 2) :].mean((1, 2)) for k, name in enumerate(traits.HAIR)
}


@pytest.fixture(scope="module")
def stage():
    return stage_of((Planted(SEES),) * 2, lambda x: x.mean((1, 2, 3)) < 0.55, n=400)


def test_people_beyond_chance_are_all_pairs_and_the_interval_is_the_jackknife_s():
    rng = np.random.default_rng(0)
    start, changed = rng.integers(0, 4, 60), rng.integers(0, 4, 60)

    def difference(rows):
        differ = [start[i] != start[j] for i, j in itertools.permutations(rows, 2)]
        return (start[rows] != changed[rows]).mean() - np.mean(differ)

    found = traits.beyond_chance(start, changed)
    left_out = [difference(np.delete(np.arange(60), k)) for k in range(60)]
    error = np.sqrt(59 / 60 * np.square(left_out - np.mean(left_out)).sum())
    assert found.estimate == pytest.approx(difference(np.arange(60))) and found.n == 60
    assert (found.ci[1] - found.ci[0]) / 2 == pytest.approx(2.001 * error, rel=0.03)
    assert traits.beyond_chance(start, start).ci[1] < 0 < traits.beyond_chance(start, start + 1).ci[0]


def test_the_specular_image_of_a_linear_flow_is_the_negative(stage):
    rows = stage.faces(n=100)
    for encoding in (NOISE, CENTRES):
        found = mirrors.mirrored(stage, encoding)
        assert found.names == ["hair", "gender", "pose"]
        negative = (1 - stage.flow.decode(stage.z[encoding][rows])).clamp(0, 1)
        male = stage.judges[0].says(negative, "Male")
        assert (found.traits[mirrors.WHOLE][1] == male).mean() >= 0.99
        assert found.passes[mirrors.HALF].shape == (100,) and found.finite[mirrors.HALF].all()


def test_rows_of_traits_and_of_looks(stage):
    found = mirrors.mirrored(stage, NOISE)
    row = mirrors.ROWS["C19-gender"](stage)
    assert row.estimate == traits.beyond_chance(found.start[1], found.traits[mirrors.HALF][1])
    assert row.estimate.ci[0] > 0  # bright becomes dark: more than two people
    pose = mirrors.ROWS["C19-pose"](stage)
    assert pose.details["noise"][mirrors.HALF]["pose"][0] == pytest.approx(found.differs("pose", mirrors.HALF).mean())
    one = mirrors.ROWS["C19-one"](stage)
    passes = found.passes
    assert one.estimate == intervals.paired_difference(passes[mirrors.WHOLE], passes[mirrors.HALF])


def test_without_landmarks_pose_is_not_decided():
    bare = stage_of(
        (Planted(SEES),) * 2,
        lambda x: x.mean((1, 2, 3)) < 2,
        n=30,
        album=replace(open_dataset("faces32"), landmarks=None),
    )
    assert mirrors.ROWS["C19-pose"](bare) is None
    assert mirrors.ROWS["C19-hair"](bare).estimate.n == 30


def test_the_other_hemisphere_is_held_against_a_step_as_long(stage):
    row = mirrors.c39(stage)
    rows = stage.faces(n=200)
    z, mean = stage.z[NOISE][rows], torch.from_numpy(stage.study.moments(NOISE)[0])
    heights = (z @ mean) / mean.norm()
    assert row.details["noise"]["step"] == pytest.approx(float(2 * heights.abs().mean()), rel=1e-3)
    assert row.estimate.n == 200
    # here the mean is dark: mirrored faces turn bright, a step along it turns them black, which is nearer or farther
    views = [
        stage.judges[0].features(stage.flow.decode(z + sign * 2 * heights[:, None] * mean / mean.norm())).mean()
        for sign in (-1, 1)
    ]
    real = stage.judges[0].features(stage.pixels(rows)).mean()
    mirrored, along = (abs(float(view - real)) for view in views)
    assert (row.estimate.estimate > 1) == (mirrored > along)
