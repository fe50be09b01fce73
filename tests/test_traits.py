"""Traits read from pixels against the factors that the faces were drawn from, and counting."""

import numpy as np
import torch
from scipy import stats

from glowkit import faces, traits


def test_pose_is_read_from_pixels_and_turns_with_the_mirror():
    drawn = faces.factors(range(500), seed=3)
    x = faces.render(drawn, 32).float() / 255
    reader = traits.PoseReader(x[:400], faces.landmarks(drawn[:400], 32))
    read = reader(x[400:])
    assert stats.spearmanr(read, drawn["yaw"][400:]).statistic > 0.8
    np.testing.assert_allclose(reader(x[400:].flip(3)), -read, atol=1e-5)


class Says:
    """A judge that reads its answers off the picture: hair colour in the first column, sex in the second."""

    attributes = ["Male", *traits.HAIR]

    def __call__(self, x):
        return torch.cat([x[:, 0, :1, 1], torch.nn.functional.one_hot((4 * x[:, 0, 0, 0]).long(), 4)], 1)

    def says(self, x, attribute):
        return (x[:, 0, 0, 1] > 0.5).numpy()


def test_traits_are_the_likeliest_hair_the_sex_and_the_side_the_face_looks_to():
    x = torch.zeros(4, 3, 32, 32)
    x[:, 0, 0, 0] = torch.tensor([0.0, 0.3, 0.6, 0.8])
    x[:, 0, 0, 1] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    plain = traits.TraitReader(Says())
    assert plain.names == ["hair", "gender"]
    np.testing.assert_array_equal(plain(x), [[0, 1, 2, 3], [0, 1, 0, 1]])
    whole = traits.TraitReader(Says(), lambda pictures: np.array([-1.0, 2.0, 0.5, -3.0]))
    assert whole.names == ["hair", "gender", "pose"]
    np.testing.assert_array_equal(whole(x)[2], [False, True, True, False])


def test_traits_that_the_judge_does_not_know_are_left_out():
    judge = Says()
    judge.attributes = ["Male", *traits.HAIR[1:]]
    x = torch.zeros(2, 3, 32, 32)
    x[1, 0, 0, 1] = 1.0
    reader = traits.TraitReader(judge)
    assert reader.names == ["gender"]
    np.testing.assert_array_equal(reader(x), [[0, 1]])
    judge.attributes = ["Smiling"]
    assert traits.TraitReader(judge)(x).shape == (0, 2)


def test_people_differ_by_chance_as_all_their_pairs_do():
    found = np.random.default_rng(0).integers(0, 3, (2, 7))
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    expected = np.mean([found[:, i] != found[:, j] for i, j in pairs])
    assert np.isclose(traits.difference_by_chance(found, reach=6), expected)
