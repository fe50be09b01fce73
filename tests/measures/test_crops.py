"""The crop is judged by pixels: a crop that is off by a known amount is found out."""

import numpy as np
import pytest

from glowkit import celeba
from glowkit.measures import crops
from glowkit.registration import rms_distance


def test_eyes_are_in_place_after_the_crop_and_not_before():
    after, before, people = crops.eyes(8)
    assert after.shape == before.shape == (8, 2, 2) and len(set(people)) == 2
    assert rms_distance(after) < 1.5 < 5 < rms_distance(before - before.mean(0))


def test_a_crop_in_the_wrong_place_is_found_out(monkeypatch):
    right = celeba.Tree.crop
    monkeypatch.setattr(celeba.Tree, "crop", lambda tree, i, size: right(tree, i, size).roll(3, 2))
    after, _, _ = crops.eyes(4)
    assert after[..., 0] == pytest.approx(np.full((4, 2), 6.0), abs=2)  # 3 of 128 pixels
