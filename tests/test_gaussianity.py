"""Norm laws against quadrature and brute force; the hemisphere's reading against normals, shifted or not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from glowkit import gaussianity as g
from glowkit import intervals, moments
from glowkit.errors import GlowkitError


@pytest.mark.parametrize("dim", [1, 2, 7, 60])
def test_norm_law_by_quadrature(dim):
    def density(r, power=0):
        log = (dim - 1) * np.log(r) - r * r / 2
        return r**power * np.exp(log)

    top = np.sqrt(dim) + 12
    total = integrate.quad(density, 1e-12, top)[0]
    mean = integrate.quad(density, 1e-12, top, args=(1,))[0] / total
    assert g.norm_law(dim).mean() == pytest.approx(mean)
    assert g.norm_law(dim).std() == pytest.approx(np.sqrt(dim - mean**2))
    assert g.norm_law(dim, 9).mean() == pytest.approx(mean / 3)


def test_norm_law_at_the_thesis_size():
    law = g.norm_law(256 * 256 * 3)
    assert law.mean() == pytest.approx(443.4044, abs=1e-4)
    assert law.std() == pytest.approx(0.7071, abs=1e-4)


def test_norm_of_mean_shortcut_agrees_with_brute_force():
    short = g.norm_of_mean_trials(50, 20, trials=2000, seed=1)
    brute = g.norm_of_mean_brute(50, 20, trials=2000, seed=2)
    assert stats.ks_2samp(short, brute).pvalue > 0.01
    assert stats.kstest(brute, g.norm_law(50, 20).cdf).pvalue > 0.01


def test_norm_report_accepts_normals_and_rejects_others():
    x = np.random.default_rng(0).standard_normal((2000, 30))
    good = g.norm_report(np.linalg.norm(x, axis=1), 30)
    assert good.ks.ci[0] == 0 and good.mean.ci[0] < good.law_mean < good.mean.ci[1]
    assert good.std.ci[0] < good.law_std < good.std.ci[1]
    assert good.std.ci == pytest.approx(intervals.bootstrap(np.std, np.linalg.norm(x, axis=1)).ci, abs=5e-3)
    assert g.norm_report(np.linalg.norm(1.1 * x, axis=1), 30).ks.ci[0] > 0.1


def test_ks_distance_covers_the_true_distance():
    # N(0.5, 1) against N(0, 1): the distributions are farthest apart half-way, by 2 Phi(1/4) - 1.
    truth, rng = 2 * stats.norm.cdf(0.25) - 1, np.random.default_rng(0)
    people = np.repeat(np.arange(100), 4)
    for _ in range(100):
        values = rng.normal(0.5, 1, 100)
        low, high = g.ks_distance(values, stats.norm.cdf).ci
        assert low <= truth <= high
        low, high = g.ks_distance(values[people], stats.norm.cdf, people).ci  # copies tell no more
        assert low <= truth <= high


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6))
def test_level_norms_add_up(first, second):
    z = np.random.default_rng(3).standard_normal((4, first + second)).astype(np.float32)
    norms = g.level_norms(z, [slice(0, first), slice(first, first + second)])
    assert norms[:, 0] ** 2 == pytest.approx((norms[:, 1:] ** 2).sum(axis=1), rel=1e-5)
    assert norms[:, 0] == pytest.approx(np.linalg.norm(z, axis=1), rel=1e-5)


def test_two_encodings_of_an_image_share_what_it_determines_and_no_noise():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((500, 60)) * np.repeat([0.2, 1.5], 30)  # a level of noise, a level of image
    first, second = (image + rng.standard_normal(image.shape) for _ in range(2))
    levels = [slice(0, 30), slice(30, 60)]
    shared = g.mean_products(first, second, levels)
    assert shared.shape == (500, 2)
    assert shared.mean(axis=0) == pytest.approx([0.04, 2.25], abs=0.06)
    squares = g.level_norms(first, levels)[:, 1:] ** 2
    assert 30 * g.mean_products(first, first, levels) == pytest.approx(squares, rel=1e-5)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_held_out_projection_of_normals_is_standard_normal(seed):
    z = np.random.default_rng(seed).standard_normal((400, 300))
    in_sample = g.project(z, z.mean(axis=0))
    assert in_sample.mean() == pytest.approx(np.sqrt(300 / 400), abs=0.15)  # the bias the halves avoid
    held_out = g.held_out_projection(z, seed=seed)
    assert abs(held_out.mean()) < 0.35
    assert held_out.std() == pytest.approx(1, abs=0.15)


def test_share_positive_of_a_shifted_normal():
    z = np.random.default_rng(5).standard_normal((4000, 40)) + 1 / np.sqrt(40)  # mean of norm 1
    share = g.share_positive(g.held_out_projection(z))
    assert share.ci[0] < stats.norm.cdf(1) < share.ci[1]


def test_bad_input_says_what_would_be_right():
    with pytest.raises(GlowkitError, match="at least 1"):
        g.norm_law(0)
    with pytest.raises(GlowkitError, match="positive norm"):
        g.project(np.ones((2, 3)), np.zeros(3))


def test_held_out_projection_keeps_people_whole():
    person = np.repeat(np.arange(100), 4)
    copies = np.random.default_rng(6).standard_normal((100, 300))[person]  # four copies of each
    assert abs(g.held_out_projection(copies, person).mean()) < 0.4
    assert g.held_out_projection(copies).mean() > 1  # a copy in the other half pulls the line towards itself


@pytest.mark.parametrize("length, images", [(0.0, 1), (1.5, 1), (0.0, 4), (1.5, 4)])
def test_squared_bias_is_unbiased_and_covers(length, images):
    rng, dim, people = np.random.default_rng(7), 100, 60
    person = np.repeat(np.arange(people), images)
    mean = np.full(dim, length / np.sqrt(dim))
    found, hits = [], 0
    for _ in range(100):
        own = rng.standard_normal((people, dim))[person]  # what a person's images have in common
        estimate = g.squared_bias(mean + own + 0.5 * rng.standard_normal(own.shape), person)
        found.append(estimate.estimate)
        hits += estimate.ci[0] <= length**2 <= estimate.ci[1]
    assert np.mean(found) == pytest.approx(length**2, abs=4 * np.std(found) / 10)
    assert hits >= 90


@pytest.mark.parametrize("length, images", [(0.0, 1), (1.5, 1), (0.0, 4), (1.5, 4)])
def test_halves_bias_is_unbiased_and_covers(length, images):
    rng, dim, people = np.random.default_rng(8), 100, 60
    person = np.repeat(np.arange(people), images)
    half = person % 2
    found, hits = [], 0
    for _ in range(100):
        own = rng.standard_normal((people, dim))[person]  # what a person's images have in common
        z = length / np.sqrt(dim) + own + 0.5 * rng.standard_normal(own.shape)
        means = np.stack([z[half == h].mean(axis=0) for h in (0, 1)])
        along = np.where(half == 0, g.project(z, means[1]), g.project(z, means[0]))
        estimate = g.halves_bias(
            SimpleNamespace(half_means=means, halves=half, along_mean=along, identities=None if images == 1 else person)
        )
        found.append(estimate.estimate)
        hits += estimate.ci[0] <= length**2 <= estimate.ci[1]
    assert np.mean(found) == pytest.approx(length**2, abs=4 * np.std(found) / 10)
    assert hits >= 90 and estimate.n == people


def test_along_training_mean_is_the_projection_on_it():
    rng, dim = np.random.default_rng(9), 40
    training, held_out = (rng.standard_normal((n, dim)).astype(np.float32) + 0.3 for n in (300, 50))
    labels = rng.random((300, 3)) < (0.2, 0.6, 0.9)
    sums = moments.ClassSums(3, dim)
    sums.add(torch.from_numpy(training), torch.from_numpy(labels), torch.arange(300) % 2)
    positive, p = sums.class_mean().double(), torch.from_numpy(labels.mean(axis=0))[:, None]
    difference = positive - (sums.mean() - p * positive) / (1 - p)
    unit = torch.nn.functional.normalize
    zero, opposite = (held_out @ unit(lines, dim=1).float().numpy().T for lines in (positive, difference))
    made = SimpleNamespace(
        attributes=["a", "b", "c"],
        n=300,
        counts=labels.sum(axis=0),
        mean=sums.mean().float().numpy(),
        class_mean=lambda name, encoding: positive["abc".index(name)].numpy(),
        direction=lambda name, encoding: difference["abc".index(name)].numpy(),
        projections={"latent": {"zero": zero, "opposite": opposite}},
    )
    assert g.along_training_mean(made) == pytest.approx(held_out @ made.mean / np.linalg.norm(made.mean), abs=1e-3)


def test_lengths_come_from_squares_and_a_negative_square_is_none():
    assert g.length(intervals.Estimate(4.0, (1.0, 9.0), 5)) == (2.0, (1.0, 3.0), 5)
    assert g.length(intervals.Estimate(-1.0, (-2.0, 4.0), 5)) == (0.0, (0.0, 2.0), 5)


def test_the_norm_of_a_mean_has_its_noise():
    rng = np.random.default_rng(0)
    mean = np.full(400, 0.1)
    norms = [np.linalg.norm((mean + rng.standard_normal((50, 400))).mean(0)) for _ in range(200)]
    assert g.norm_of_mean(mean @ mean, 400, 50) == pytest.approx(np.mean(norms), rel=0.01)
    assert g.norm_of_mean(-3.0, 400, np.array([4, 100])) == pytest.approx([10, 2])


def test_the_norm_of_the_whole_stands_before_those_of_the_levels():
    z = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
    levels = [slice(0, 7), slice(7, 10)]
    every = g.level_norms(z, levels)
    np.testing.assert_allclose(g.with_whole(every[:, 1:]), every, rtol=1e-6)
