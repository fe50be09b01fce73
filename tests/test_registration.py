"""Displacements against shifts that are known: of a smooth pattern, and of faces painted elsewhere."""

import numpy as np
import pytest
import torch

from glowkit import faces
from glowkit.registration import displacement, rms_distance


def pattern(shift_x, shift_y):
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    x, y = x - shift_x, y - shift_y
    return torch.stack([torch.sin(x / 3) * torch.cos(y / 4), torch.sin(y / 3), torch.cos((x + y) / 5)])[None]


def test_a_smooth_pattern_to_a_hundredth_of_a_pixel():
    points = np.array([[[20.0, 22.0], [27.5, 24.25]]])
    for shift in ((0.0, 0.0), (0.4, -0.3), (-1.2, 0.9)):
        found = displacement(pattern(*shift), pattern(0, 0), points, 4)
        assert np.abs(found - shift).max() < 0.01


def test_faces_painted_somewhere_else():
    size, moves = 96, np.array([[0.0, 0.0], [0.7, -0.4], [-1.3, 1.1]])
    for i, move in enumerate(moves):
        f = faces.factors([8 * i])
        shift = np.array([0.5, faces.EYES[0][1]]) * size - 0.5
        here, points = faces.render_similar(f, size, 0.0, tuple(shift), size, size)
        there, moved = faces.render_similar(f, size, 0.0, tuple(shift + move), size, size)
        assert np.allclose(moved - points, move)
        found = displacement(there[None], here[None], points[None, :2], 6)
        assert np.abs(found[0] - move).max() < 0.1


def test_rms_distance_is_a_loop_over_points():
    offsets = np.random.default_rng(0).normal(size=(5, 2, 2))
    squares = [x * x + y * y for x, y in offsets.reshape(-1, 2)]
    assert rms_distance(offsets) == pytest.approx((sum(squares) / 10) ** 0.5)
