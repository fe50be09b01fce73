"""Maps that keep the normal law against autograd, scipy's laws and matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from glowkit import gaussian_maps as maps
from glowkit.errors import GlowkitError

DOUBLE = torch.float64


def logdet(f, x):
    return torch.linalg.slogdet(torch.autograd.functional.jacobian(f, x)).logabsdet


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_rotation_is_orthogonal_and_inverts(dim, block, seed):
    rotation = maps.Rotation(dim, seed, block, dtype=DOUBLE)
    matrix = rotation(torch.eye(dim, dtype=DOUBLE))
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(dim, dtype=DOUBLE))
    torch.testing.assert_close(rotation.inverse(matrix), torch.eye(dim, dtype=DOUBLE))


def test_small_rotations_are_haar_and_large_ones_mix():
    axes = torch.eye(3, dtype=DOUBLE)
    first = [maps.Rotation(3, seed, dtype=DOUBLE)(axes)[0, 0].item() for seed in range(500)]
    # Archimedes: a coordinate of a uniform point of the sphere in R^3 is uniform
    assert stats.kstest(first, stats.uniform(-1, 2).cdf).pvalue > 0.01
    spike = torch.zeros(1, 12_288)
    spike[0, 5] = 1
    assert (maps.Rotation(12_288)(spike) != 0).sum() > 2000


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 15), st.floats(-3, 3), st.integers(0, 50))
def test_twist_has_unit_jacobian_keeps_norms_and_inverts(dim, strength, seed):
    z = torch.randn(3, dim, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    twisted = maps.twist(z, strength, seed)
    torch.testing.assert_close(twisted.norm(dim=1), z.norm(dim=1))
    torch.testing.assert_close(maps.untwist(twisted, strength, seed), z)
    for point in z:
        assert abs(logdet(lambda x: maps.twist(x[None], strength, seed)[0], point)) < 1e-10


@settings(deadline=None)
@given(st.floats(-2, 2))
def test_swirl_has_unit_jacobian_keeps_norms_and_inverts(strength):
    z = torch.tensor([[0.3, -0.7], [1.5, 0.2], [0.0, 0.0]], dtype=DOUBLE)
    swirled = maps.swirl(z, strength)
    torch.testing.assert_close(swirled.norm(dim=1), z.norm(dim=1))
    torch.testing.assert_close(maps.swirl(swirled, -strength), z)
    for point in z:
        assert abs(logdet(lambda x: maps.swirl(x[None], strength)[0], point)) < 1e-10


def test_twisted_normals_are_normal_and_not_linear():
    z = torch.randn(20_000, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    w = maps.twist(z, 1.0).numpy()
    assert min(stats.kstest(w[:, k], "norm").pvalue for k in range(8)) > 0.001
    assert np.cov(w.T) == pytest.approx(np.eye(8), abs=0.05)
    assert maps.linear_share(z, w) == pytest.approx(np.exp(-1), abs=0.02)
    assert maps.linear_share(z, maps.Rotation(8, dtype=DOUBLE)(z)) == pytest.approx(1)


@pytest.mark.parametrize("there_and_back", [maps.twist, maps.untwist])
def test_points_are_twisted_where_they_are(there_and_back):
    """On the device of shapes, which refuses whatever lies on another."""
    for device in ("cpu", "meta", "cpu"):
        assert there_and_back(torch.zeros(2, 9, device=device), 1.0).device.type == device


def test_twist_needs_two_pairs_of_pairs():
    with pytest.raises(GlowkitError, match="want at least 8"):
        maps.twist(torch.zeros(1, 7), 1.0)


def test_the_likelihood_change_of_a_stretch_is_in_closed_form():
    z = torch.randn(5, 40, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    largest = (z.square().sum(1) * (1.01**2 - 1) / 2).max() * 1000 / 40
    assert maps.likelihood_change(lambda v: -v.square().sum(1) / 2, z, 1.01 * z) == pytest.approx(float(largest))
    assert maps.likelihood_change(lambda v: -v.square().sum(1) / 2, z, -z) == 0
