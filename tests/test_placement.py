"""Where an edit lands, on edits that stay in place or follow the face by construction."""

import numpy as np
import pytest
import torch

from glowkit import placement
from glowkit.errors import GlowkitError


def test_displacement_moves_pixels_and_refuses_to_leave_the_picture():
    x = torch.zeros(1, 3, 16, 16)
    x[:, :, 5, 7] = 1
    moved = placement.displace(x, 3, -2)
    assert moved.sum() == 3 and (moved[0, :, 3, 10] == 1).all()
    torch.testing.assert_close(placement.displace(torch.ones(1, 3, 16, 16), 5, 5), torch.ones(1, 3, 16, 16))
    with pytest.raises(GlowkitError, match="smaller than the picture"):
        placement.displace(x, 16, 0)


def test_an_edit_in_image_coordinates_stays_and_one_in_face_coordinates_follows():
    g = torch.Generator().manual_seed(0)
    change = torch.rand(4, 3, 24, 24, generator=g) * (torch.arange(24) > 8) * (torch.arange(24) < 15)
    moved, noise = placement.displace(change, 3, -2), 0.01 * torch.rand(4, 3, 24, 24, generator=g)
    np.testing.assert_allclose(placement.stay_and_follow(change, change + noise, 3, -2), [[1, 0]] * 4, atol=0.03)
    np.testing.assert_allclose(placement.stay_and_follow(change, moved + noise, 3, -2), [[0, 1]] * 4, atol=0.03)
    np.testing.assert_allclose(placement.stay_and_follow(change, noise, 3, -2), [[0, 0]] * 4, atol=0.03)
    seen = 0.3 * change + 0.5 * moved + noise
    templates = np.stack([change[1].flatten(), moved[1].flatten()], 1)
    expected = np.linalg.lstsq(templates, seen[1].flatten().numpy(), rcond=None)[0]
    np.testing.assert_allclose(placement.stay_and_follow(change, seen, 3, -2)[1], expected, rtol=1e-4)


def test_a_broken_decode_has_no_coordinates_and_a_face_that_stands_still_tells_nothing():
    x = torch.rand(2, 3, 8, 8)
    broken = x.clone()
    broken[1, 0, 0, 0] = torch.nan
    found = placement.stay_and_follow(x, broken, 1, 0)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    with pytest.raises(GlowkitError, match="has not moved"):
        placement.stay_and_follow(x, x, 0, 0)


def test_coordinates_compare_each_move_with_the_face_in_place():
    g = torch.Generator().manual_seed(0)
    change = torch.rand(3, 3, 16, 16, generator=g) * (torch.arange(16) > 5) * (torch.arange(16) < 11)
    moves = [(2, 0), (0, -3)]
    following = torch.stack([change, *(placement.displace(change, *move) for move in moves)])
    np.testing.assert_allclose(placement.coordinates(following, moves), np.tile([0, 1], (2, 3, 1)), atol=1e-6)
    staying = change.expand(3, -1, -1, -1, -1)
    np.testing.assert_allclose(placement.coordinates(staying, moves), np.tile([1, 0], (2, 3, 1)), atol=1e-6)
