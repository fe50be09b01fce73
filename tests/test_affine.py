"""Arithmetic on latents against geometry, scipy and planted answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from glowkit import affine, faces
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig
from glowkit.judge import Judge
from glowkit.study import Study

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


# ---------------------------------------------------------------------------------------------- did it work?


def test_a_broken_picture_never_counts_as_a_success():
    torch.manual_seed(0)
    judge = Judge(["Smiling"], width=4).eval()
    x = torch.rand(4, 3, 64, 64)
    seen = judge.says(x, "Smiling")
    np.testing.assert_array_equal(affine.succeeded(judge, x, "Smiling"), seen)
    np.testing.assert_array_equal(affine.succeeded(judge, x, "Smiling", wanted=False), ~seen)
    x[1, 0, 3, 3], x[2] = torch.nan, torch.inf
    np.testing.assert_array_equal(affine.finite(x), [True, False, False, True])
    for wanted in (True, False):
        assert not affine.succeeded(judge, x, "Smiling", wanted)[[1, 2]].any()


def test_cross_fitting_scores_each_half_with_the_choice_of_the_other():
    success = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]])
    # even faces: row 0 is best; odd faces: row 1. Each half is scored with the other's row.
    np.testing.assert_array_equal(affine.cross_fitted(success), [0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(affine.cross_fitted(np.array([[0, 0, 0], [1, 1, 1]])), [1, 1, 1])
    noise = np.random.default_rng(0).random((5, 4000)) < 0.5  # nothing to choose: no gain from choosing
    assert abs(affine.cross_fitted(noise).mean() - 0.5) < 0.03


def test_faces_pass_as_faces_and_what_is_none_does_not():
    real = faces.render(faces.factors(range(300), seed=5), 32).float() / 255
    others = faces.render(faces.factors(range(60), seed=6), 32).float() / 255
    reader = affine.FaceReader(real)
    assert reader(others).mean() >= 0.95
    assert reader(others.flip(2)).mean() <= 0.05  # upside down
    assert reader(others.roll(12, 3)).mean() <= 0.2  # half of it out of the picture
    generator = torch.Generator().manual_seed(0)
    assert not reader(torch.rand(60, 3, 32, 32, generator=generator)).any()
    assert not reader(torch.zeros(1, 3, 32, 32)).any()
    assert not reader(torch.where(torch.arange(32) == 3, torch.nan, others)).any()


def test_shuffled_pictures_keep_their_tiles():
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    shuffled = affine._shuffled(x, 4, torch.Generator().manual_seed(1))
    assert shuffled.shape == x.shape and not torch.equal(shuffled, x)

    def tiles(picture):
        corners = [(i, j) for i in range(0, 8, 2) for j in range(0, 8, 2)]
        return {tuple(picture[:, i : i + 2, j : j + 2].flatten().tolist()) for i, j in corners}

    assert tiles(shuffled[0]) == tiles(x[0])


def test_frechet_distance_against_scipy_s_matrix_root():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(150, 5)) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real
    )
    assert affine.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert affine.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_the_frechet_ratio_covers_a_known_one():
    # Means shifted by 1 and by 2 in one direction, equal covariances: distances 1 and 4.
    covered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        real, base = rng.normal(size=(4000, 3)), rng.normal(size=(400, 3))
        found = affine.frechet_ratio(base + [1, 0, 0], base + [2, 0, 0], real, components=3)
        assert found.ci[0] < found.estimate < found.ci[1] and found.n == 400
        covered += found.ci[0] <= 0.25 <= found.ci[1]
    assert covered >= 24


def test_pose_is_read_from_pixels_and_turns_with_the_mirror():
    drawn = faces.factors(range(500), seed=3)
    x = faces.render(drawn, 32).float() / 255
    reader = affine.PoseReader(x[:400], faces.landmarks(drawn[:400], 32))
    read = reader(x[400:])
    assert stats.spearmanr(read, drawn["yaw"][400:]).statistic > 0.8
    np.testing.assert_allclose(reader(x[400:].flip(3)), -read, atol=1e-5)


# ------------------------------------------------------------------------ means and directions are estimates


def study_of(z, labels, attributes):
    """A study of vectors (n, D), as `study.make` would have found it; what only a model knows is left out."""
    return Study(
        name="planted", data="planted", attributes=attributes, n=len(z), counts=labels.sum(0),
        mean=z.mean(0), variance=z.var(0), pixel_mean=z.mean(0), held_out=np.arange(0), labels=labels,
        identities=None, norms={}, halves=np.arange(0), half_means=np.zeros((2, 0)), along_mean=np.arange(0),
        projections={}, _class_means=np.stack([z[y].mean(0) for y in labels.T]),
        _pixel_class_means=np.zeros((len(attributes), z.shape[1])), _reliability=np.zeros(len(attributes)),
    )  # fmt: skip


def test_the_noise_floor_is_what_random_labels_give_and_the_share_covers_the_truth():
    rng = np.random.default_rng(0)
    dim, n = 400, 2000
    signal = np.zeros(dim)
    signal[:20] = 0.5  # |signal|^2 = 5
    pure, covered = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.stack([rng.random(n) < 0.05, rng.random(n) < 0.05], 1)
        z = rng.normal(size=(n, dim)) + labels[:, :1] * signal
        found = study_of(z, labels, ["Planted", "Nothing"])
        pure.append(np.square(found.direction("Nothing")).sum() / affine.noise_floor(found, "Nothing"))
        truth = affine.noise_floor(found, "Planted") / (5 + affine.noise_floor(found, "Planted"))
        share = affine.noise_share(found, "Planted")
        covered += share.ci[0] <= truth <= share.ci[1]
    assert np.mean(pure) == pytest.approx(1, abs=0.03)
    assert covered >= 17


def test_half_sample_cosines_say_the_same_share():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=20_000)
    halves = signal + 1.5 * rng.normal(size=(2, 20_000))  # noise of variance 2.25 a half, 1.125 the whole
    cosine = halves[0] @ halves[1] / np.prod(np.linalg.norm(halves, axis=1))
    assert affine.noise_share_of_halves(cosine) == pytest.approx(1.125 / 2.125, abs=0.02)


def test_distances_between_means_are_free_of_their_noise():
    rng = np.random.default_rng(2)
    n, dim = 4000, 300
    labels = np.stack([np.arange(n) % 40 == 0, np.arange(n) % 40 == 1], 1)  # rare and disjoint, p = 1/40
    shifts = np.zeros((2, dim))
    shifts[0, :50], shifts[1, 50:100] = 0.3, -0.3
    found = study_of(rng.normal(size=(n, dim)) + labels @ shifts, labels, ["A", "B"])
    apart = np.linalg.norm(shifts[0] - shifts[1])
    classes = affine.spread_of_means(found, ["A", "B"], draws=20)
    assert classes.shape == (21,)
    assert classes[0] == pytest.approx(apart, rel=0.15)
    assert classes[1:].mean() == pytest.approx(apart, rel=0.15)
    # mixture identity: the complements are p/(1-p) times as far apart, hidden in noise of the same size
    assert affine.spread_of_means(found, ["A", "B"], positive=False)[0] < 3 * apart / 39


# --------------------------------------------------------------------------- where an edit lands (fig. 24)


def test_displacement_moves_pixels_and_refuses_to_leave_the_picture():
    x = torch.zeros(1, 3, 16, 16)
    x[:, :, 5, 7] = 1
    moved = affine.displace(x, 3, -2)
    assert moved.sum() == 3 and (moved[0, :, 3, 10] == 1).all()
    torch.testing.assert_close(affine.displace(torch.ones(1, 3, 16, 16), 5, 5), torch.ones(1, 3, 16, 16))
    with pytest.raises(GlowkitError, match="smaller than the picture"):
        affine.displace(x, 16, 0)


def test_an_edit_in_image_coordinates_stays_and_one_in_face_coordinates_follows():
    g = torch.Generator().manual_seed(0)
    change = torch.rand(4, 3, 24, 24, generator=g) * (torch.arange(24) > 8) * (torch.arange(24) < 15)
    moved, noise = affine.displace(change, 3, -2), 0.01 * torch.rand(4, 3, 24, 24, generator=g)
    np.testing.assert_allclose(affine.stay_and_follow(change, change + noise, 3, -2), [[1, 0]] * 4, atol=0.03)
    np.testing.assert_allclose(affine.stay_and_follow(change, moved + noise, 3, -2), [[0, 1]] * 4, atol=0.03)
    np.testing.assert_allclose(affine.stay_and_follow(change, noise, 3, -2), [[0, 0]] * 4, atol=0.03)
    seen = 0.3 * change + 0.5 * moved + noise
    templates = np.stack([change[1].flatten(), moved[1].flatten()], 1)
    expected = np.linalg.lstsq(templates, seen[1].flatten().numpy(), rcond=None)[0]
    np.testing.assert_allclose(affine.stay_and_follow(change, seen, 3, -2)[1], expected, rtol=1e-4)


def test_a_broken_decode_has_no_coordinates_and_a_face_that_stands_still_tells_nothing():
    x = torch.rand(2, 3, 8, 8)
    broken = x.clone()
    broken[1, 0, 0, 0] = torch.nan
    found = affine.stay_and_follow(x, broken, 1, 0)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    with pytest.raises(GlowkitError, match="has not moved"):
        affine.stay_and_follow(x, x, 0, 0)


# --------------------------------------------------------------------------------------- inside the inverse


def test_the_ranges_inside_the_inverse_end_at_the_pixels():
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_size=8, levels=2, steps=2, width=8, coupling="additive")).double().eval()
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    z = torch.randn(3, model.dim, dtype=torch.float64)
    levels, ranges = affine.inverse_ranges(model, z)
    assert levels == [2, 2, 2, 1, 1, 1] and ranges.shape == (3, 6)
    with torch.no_grad():
        np.testing.assert_allclose(ranges[:, -1], model.inverse(z).abs().flatten(1).amax(1))
