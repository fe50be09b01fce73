"""Arithmetic on latents against geometry."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit import affine
from glowkit.errors import GlowkitError

T = np.linspace(0, 1, 11)
seeds = st.integers(0, 2**31 - 1)


def vectors(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ----------------------------------------------------------------------------------------------------- paths


@given(seeds, st.integers(2, 40))
@settings(max_examples=20, deadline=None)
def test_paths_join_their_ends_and_have_the_norms_their_equations_say(seed, dim):
    a, b = vectors(seed, 2, dim) * torch.tensor([[1.0], [3.0]])
    lines = {
        "straight": affine.straight(a, b, T),
        "origin": affine.norm_preserving(a, b, T),
        "centre": affine.norm_preserving(a, b, T, centre=np.full(dim, 0.1)),
        "slerp": affine.slerp(a, b, T),
    }
    for line in lines.values():
        assert line.shape == (11, dim)
        torch.testing.assert_close(line[[0, -1]], torch.stack([a, b]))
    norms = torch.from_numpy(1 - T) * a.norm() + torch.from_numpy(T) * b.norm()
    torch.testing.assert_close(lines["origin"].norm(dim=1), norms)
    radii = torch.from_numpy(1 - T) * (a - 0.1).norm() + torch.from_numpy(T) * (b - 0.1).norm()
    torch.testing.assert_close((lines["centre"] - 0.1).norm(dim=1), radii)
    # eq. 4.2 keeps each point on the ray of eq. 4.1
    torch.testing.assert_close(
        torch.cosine_similarity(lines["origin"], lines["straight"]), torch.ones(11, dtype=torch.float64)
    )


@given(seeds, st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_slerp_turns_at_constant_speed_and_meets_the_norm_preserving_path_half_way(seed, t):
    a, b = torch.nn.functional.normalize(vectors(seed, 2, 12), dim=1)
    whole = torch.acos(a @ b)
    point = affine.slerp(a, b, t)
    torch.testing.assert_close(torch.acos((a @ point).clamp(-1, 1)), t * whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(affine.slerp(a, b, 0.5), affine.norm_preserving(a, b, 0.5))


def test_paths_take_batches_and_one_t_for_all():
    a, b = vectors(0, 5, 8), vectors(1, 5, 8)
    for path in (affine.straight, affine.norm_preserving, affine.slerp):
        batch = path(a, b, 0.3)
        assert batch.shape == (5, 8)
        torch.testing.assert_close(batch[2], path(a[2], b[2], [0.3])[0])


def test_opposite_ends_are_refused_and_equal_ends_are_not():
    a = vectors(3, 6)
    with pytest.raises(GlowkitError, match="meets the centre"):
        affine.norm_preserving(a, -a, 0.5)
    with pytest.raises(GlowkitError, match="opposite"):
        affine.slerp(a, -a, 0.5)
    torch.testing.assert_close(affine.slerp(a, 2 * a, 0.5), 1.5 * a)


# ------------------------------------------------------------------------------------------------- arithmetic


@given(seeds, st.floats(0, 4))
@settings(max_examples=30, deadline=None)
def test_adding_takes_back_what_it_added(seed, alpha):
    z, delta = vectors(seed, 3, 10), vectors(seed + 1, 10)
    edited = affine.add(z, delta, alpha)
    torch.testing.assert_close((edited - z).norm(dim=1), alpha * delta.norm().expand(3))
    torch.testing.assert_close(affine.add(edited, delta.numpy(), -alpha), z)
    each = affine.add(z, delta, torch.tensor([0.0, 1.0, alpha]))
    torch.testing.assert_close(each, torch.stack([z[0], z[1] + delta, edited[2]]))


@given(seeds, st.floats(0.1, 2))
@settings(max_examples=30, deadline=None)
def test_reflections_mirror_in_their_centre(seed, alpha):
    z, centre = vectors(seed, 4, 9), vectors(seed + 1, 9)
    torch.testing.assert_close(affine.reflect(z, alpha), -alpha * z)
    mirrored = affine.reflect(z, 1.0, centre)
    torch.testing.assert_close((z + mirrored) / 2, centre.expand(4, 9))
    torch.testing.assert_close(affine.reflect(affine.reflect(z, alpha, centre), 1 / alpha, centre), z)


def test_the_calibrated_alpha_lands_on_the_class_mean_s_projection():
    z, delta, mean = vectors(0, 7, 20), vectors(1, 20), vectors(2, 20)
    landed = affine.add(z, delta, affine.calibrated_alpha(z, delta, mean))
    torch.testing.assert_close(landed @ delta, (mean @ delta).expand(7))


def test_pixel_arithmetic_is_a_shift_and_a_clamp():
    x = torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    shifted = affine.add_to_pixels(x, np.full(48, 0.2), 1.0)
    torch.testing.assert_close(shifted[0, :, 0, 0], torch.tensor([0.3, 0.7, 1.0]))


def test_a_batch_of_directions_is_refused():
    with pytest.raises(GlowkitError, match=r"one vector \(D,\)"):
        affine.add(vectors(0, 2, 5), vectors(1, 2, 5))
