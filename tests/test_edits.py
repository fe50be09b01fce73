"""Judged edits against a judge that is right by construction, counting, and loops over pixels."""

import numpy as np
import pytest
import torch

from glowkit import edits
from glowkit.flow import Glow, GlowConfig
from glowkit.judge import Judge


def test_a_broken_picture_never_counts_as_a_success():
    torch.manual_seed(0)
    judge = Judge(["Smiling"], width=4).eval()
    x = torch.rand(4, 3, 64, 64)
    seen = judge.says(x, "Smiling")
    np.testing.assert_array_equal(edits.succeeded(judge, x, "Smiling"), seen)
    np.testing.assert_array_equal(edits.succeeded(judge, x, "Smiling", wanted=False), ~seen)
    x[1, 0, 3, 3], x[2] = torch.nan, torch.inf
    np.testing.assert_array_equal(edits.finite(x), [True, False, False, True])
    for wanted in (True, False):
        assert not edits.succeeded(judge, x, "Smiling", wanted)[[1, 2]].any()


def test_cross_fitting_scores_each_half_with_the_choice_of_the_other():
    success = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]])
    # even faces: row 0 is best; odd faces: row 1. Each half is scored with the other's row.
    np.testing.assert_array_equal(edits.cross_fitted(success), [0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(edits.cross_fitted(np.array([[0, 0, 0], [1, 1, 1]])), [1, 1, 1])
    noise = np.random.default_rng(0).random((5, 4000)) < 0.5  # nothing to choose: no gain from choosing
    assert abs(edits.cross_fitted(noise).mean() - 0.5) < 0.03


class Colours:
    """A judge whose log-odds are what the mean colour says: "red", "green", "blue"."""

    attributes = ["red", "green", "blue"]

    def logits(self, x):
        return 10 * x.mean((2, 3))

    def __call__(self, x):
        return self.logits(x).sigmoid()


def test_side_effects_are_all_changes_but_the_wanted_one():
    before, after = torch.full((2, 3, 4, 4), 0.0), torch.full((2, 3, 4, 4), 0.0)
    after[0, 0], after[0, 1], after[1, 2] = 0.3, 0.1, -0.2  # log-odds 3, 1, 0 and 0, 0, -2
    moved = np.abs(1 / (1 + np.exp(-np.array([[3, 1, 0], [0, 0, -2.0]]))) - 0.5)
    for k, name in enumerate(Colours.attributes):
        expected = np.mean([moved[face, other] for face in (0, 1) for other in range(3) if other != k])
        assert edits.side_effects(Colours(), before, after, name) == pytest.approx(expected, rel=1e-5)
    after[0, 0, 0, 0] = torch.nan  # an exploded pixel is read as black
    assert np.isfinite(edits.side_effects(Colours(), before, after, "green"))


def test_the_error_to_the_truth_is_a_root_mean_square_over_the_pixels_asked_for():
    model = Glow(GlowConfig(8, 1, 1, 4, "additive"))
    truth = model.quantise(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    pictures = truth.clone()
    step = 3 / 2**model.config.bits
    pictures[0, 1, 2, 3] += step if truth[0, 1, 2, 3] < 0.5 else -step
    error = edits.rms_error(model, pictures, truth)
    assert error == pytest.approx([step / np.sqrt(3 * 64), 0], abs=1e-6)
    where = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    where[:, :, 2, 3] = True
    assert edits.rms_error(model, pictures, truth, where) == pytest.approx([step / np.sqrt(3), 0], abs=1e-6)
    assert edits.rms_error(model, pictures, truth, ~where) == pytest.approx([0, 0], abs=1e-6)
    assert edits.rms_error(model, pictures, truth, where & False) == pytest.approx([0, 0])
    broken = torch.where(where, torch.nan, truth)
    expected = (truth[:, :, 2, 3] - 0.5 / 2**model.config.bits).square().mean(1).sqrt().numpy()
    assert edits.rms_error(model, broken, truth, where) == pytest.approx(expected, abs=1e-6)
