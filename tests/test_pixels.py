"""Bytes of real numbers: rounded, clipped, and failures in a colour of their own."""

import pytest
import torch

from glowkit.pixels import BROKEN, to_pixels


def test_pixels_are_scaled_rounded_and_clipped():
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5]).expand(1, 3, 1, 5)
    assert to_pixels(x)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_not_finite_in_any_channel_is_marked(bad):
    x = torch.zeros(2, 3, 4, 4)
    x[1, 2, 3, 0] = bad
    pixels = to_pixels(x)
    assert tuple(pixels[1, 3, 0]) == BROKEN
    assert (pixels != 0).any(axis=-1).sum() == 1
