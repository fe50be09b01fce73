"""The mathematics against quadrature, scipy's laws, autograd and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from glowkit import theory as t
from glowkit.errors import GlowkitError

DOUBLE = torch.float64


def logdet(f, x):
    return torch.linalg.slogdet(torch.autograd.functional.jacobian(f, x)).logabsdet


# --- likelihood and divergence


@settings(deadline=None)
@given(st.floats(0.3, 3), st.floats(-2, 2))
def test_pull_back_of_an_affine_map_is_its_normal(a, b):
    x = torch.linspace(-3, 3, 7, dtype=DOUBLE)[:, None]
    expected = stats.norm.logpdf(x[:, 0].numpy(), -b / a, 1 / a)
    assert t.pull_back(lambda x: a * x + b)(x).numpy() == pytest.approx(expected)


@settings(deadline=None, max_examples=10)
@given(st.floats(0.5, 1.5), st.floats(-1, 1))
def test_divergence_in_one_dimension_has_its_closed_form(a, b):
    def log_mu(x):
        return torch.from_numpy(stats.norm.logpdf(x[:, 0].numpy()))

    got = t.divergence(log_mu, t.pull_back(lambda x: a * x + b), dim=1, limit=20, points=2001)
    assert got.kl == pytest.approx((a * a + b * b - 1) / 2 - np.log(a), abs=1e-9)
    assert got.entropy == pytest.approx(stats.norm.entropy())
    assert got.kl == pytest.approx(-got.likelihood - got.entropy)
    assert got.mass == pytest.approx(1)


def test_divergence_in_the_plane_agrees_with_monte_carlo():
    def banana(x, bend, scale):
        return torch.stack([x[0], (x[1] - bend * x[0] ** 2) / scale])

    true, model = t.pull_back(lambda x: banana(x, 0.3, 1.0)), t.pull_back(lambda x: banana(x, 0.0, 1.3))
    got = t.divergence(true, model, dim=2, limit=10, points=201)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((200_000, 2))
    x = torch.from_numpy(np.stack([z[:, 0], z[:, 1] + 0.3 * z[:, 0] ** 2], axis=1))
    sample = (true(x) - model(x)).numpy()
    assert got.kl == pytest.approx(sample.mean(), abs=4 * sample.std() / np.sqrt(len(sample)))
    assert got.mass == pytest.approx(1, abs=1e-6)
    assert t.divergence(true, true, dim=2, limit=10, points=51).kl == 0


def test_memorising_map_has_the_mixture_density_and_no_bound():
    points = torch.tensor([-1.0, 0.2, 1.5], dtype=DOUBLE)
    x = torch.tensor([[-1.3], [-1.0], [0.5], [1.5]], dtype=DOUBLE)
    by_autograd = t.pull_back(t.memorising_map(points, 0.4))(x).numpy()
    assert by_autograd == pytest.approx(t.memorising_log_density(x[:, 0], points, 0.4))
    mass = integrate.quad(lambda v: np.exp(t.memorising_log_density([v], points, 0.4)[0]), -6, 6)[0]
    assert mass == pytest.approx(1)
    likelihood = [t.memorising_log_density(points, points, s).mean() for s in (1e-2, 1e-4, 1e-6)]
    assert np.diff(likelihood) == pytest.approx(np.log(100))  # one nat for each factor e, for ever


# --- half-spaces


def test_half_space_constants_by_quadrature():
    mean = 2 * integrate.quad(lambda x: x * stats.norm.pdf(x), 0, np.inf)[0]
    assert mean == pytest.approx(t.HALF_SPACE_MEAN)
    assert t.HALF_SPACE_MEAN == pytest.approx(0.79788, abs=5e-6)
    assert t.PRINTED_HALF_SPACE_MEAN == pytest.approx(0.54222, abs=5e-6)
    printed_integrand = integrate.quad(lambda x: x * np.exp(-x * x) / np.sqrt(2 * np.pi), 0, np.inf)[0]
    assert printed_integrand == pytest.approx(0.19947, abs=5e-6)
    crossing = integrate.quad(stats.norm.pdf, -2 * mean, 2 * mean)[0]
    assert t.crossing_probability() == pytest.approx(crossing)
    assert crossing == pytest.approx(0.88946, abs=5e-6)
    assert t.crossing_probability(2 * t.PRINTED_HALF_SPACE_MEAN) == pytest.approx(0.72183, abs=5e-6)


@pytest.mark.parametrize(
    "dim, n, brute",
    [
        (1, 10_000, True),
        (2, 10_000, True),
        (10, 10_000, True),
        (1000, 2000, True),
        (196_608, 40, True),
        (196_608, 10_000, False),
    ],
)
def test_half_space_means_do_not_depend_on_the_dimension(dim, n, brute):
    draws = t.half_space_draws(dim, n, brute=brute)
    standard_error = np.sqrt(1 - 2 / np.pi) / np.sqrt(n)
    assert draws.along.estimate == pytest.approx(t.HALF_SPACE_MEAN, abs=3 * standard_error)
    assert draws.norm == pytest.approx(np.sqrt(draws.along.estimate**2 + (dim - 1) / n), rel=0.1)
    share = t.crossing_share(draws.heights, 2 * t.HALF_SPACE_MEAN)
    assert abs(share.estimate - 0.88946) <= 3 * np.sqrt(0.88946 * 0.11054 / n)


def test_half_space_brute_force_is_the_conditional_mean():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 3))
    normal = np.array([1.0, 2.0, -2.0]) / 3
    kept = x[x @ normal > 0]
    ours = t.half_space_draws(3, 100_000, brute=True)
    assert np.linalg.norm(kept.mean(axis=0)) == pytest.approx(ours.norm, abs=0.01)


@pytest.mark.parametrize("dim", [2, 3, 50])
def test_turned_draws_keep_height_and_norm(dim):
    """Against draws with all their coordinates, turned by hand about a direction of their own."""
    rng = np.random.default_rng(1)
    x, axis = rng.standard_normal((4000, dim)), rng.standard_normal(dim)
    axis /= np.linalg.norm(axis)
    rest = np.linalg.norm(x - np.outer(x @ axis, axis), axis=1)
    turned = t.turned_draws(dim, 4000)
    assert stats.ks_2samp(turned[:, 0], x @ axis).pvalue > 1e-3
    assert stats.ks_2samp(np.abs(turned[:, 1]), rest).pvalue > 1e-3
    assert stats.kstest(np.linalg.norm(turned, axis=1), stats.chi(dim).cdf).pvalue > 1e-3
    assert stats.binomtest(int((turned[:, 1] > 0).sum()), 4000).pvalue > 1e-3
    if dim == 2:
        assert stats.kstest(turned[:, 1], "norm").pvalue > 1e-3
    with pytest.raises(GlowkitError, match="at least 2"):
        t.turned_draws(1, 10)


# --- measure and volume, norms, counts


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_equal_measure_sets_have_equal_measure_and_not_volume(dim):
    ball, inner, outer, log_ratio = t.equal_measure_sets(dim)
    norms = np.linalg.norm(np.random.default_rng(0).standard_normal((100_000, dim)), axis=1)
    assert (norms < ball).mean() == pytest.approx(0.25, abs=0.006)
    assert ((inner < norms) & (norms < outer)).mean() == pytest.approx(0.25, abs=0.006)
    assert np.exp(log_ratio) == pytest.approx((outer**dim - inner**dim) / ball**dim)


@settings(deadline=None)
@given(st.floats(0.1, 900), st.floats(0.1, 900), st.floats(-1, 1))
def test_norms_of_sums_are_those_of_vectors(a, b, cosine):
    x, y = np.array([a, 0.0]), b * np.array([cosine, np.sqrt(1 - cosine**2)])
    assert t.sum_norm(a, b, cosine) == pytest.approx(np.linalg.norm(x + y), abs=1e-4)


def test_the_printed_norms_of_figure_26():
    assert t.sum_norm(457, 466) == pytest.approx(652.7, abs=0.05)
    assert t.implied_cosine(457, 466, 834) == pytest.approx(0.633, abs=0.0005)
    assert t.sum_norm(457, 1.5 * 466) == pytest.approx(835.1, abs=0.05)
    z = np.random.default_rng(0).standard_normal((400, 50)) + 2 / np.sqrt(50)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(400, 1)]
    assert cosines.mean() == pytest.approx(t.mean_cosine(2, np.sqrt(54)), abs=0.01)


def test_covers_count_at_its_landmarks():
    assert t.cover_probability(11, 10) == 1  # n = N + 1: always
    assert t.cover_probability(22, 10) == pytest.approx(0.5)  # n = 2 (N + 1): half
    assert t.cover_probability(196_608, 196_608) == 1
    assert t.cover_probability(4, 2) == pytest.approx(14 / 16)  # four points in the plane: all but two XORs


@settings(deadline=None, max_examples=30)
@given(p=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_no_class_of_a_gaussian_has_a_longer_direction(p, seed):
    """Half-spaces reach the bound (by quadrature); classes cut in any other way stay below it."""
    longest = float(t.longest_direction(p))
    edge = stats.norm.isf(p)
    above = integrate.quad(lambda x: x * stats.norm.pdf(x), edge, 12)[0] / p
    below = integrate.quad(lambda x: x * stats.norm.pdf(x), -12, edge)[0] / (1 - p)
    assert longest == pytest.approx(above - below, rel=1e-6)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20_000, 3))
    score = np.sin(2 * x @ rng.normal(size=3)) + x @ rng.normal(size=3) * rng.random()
    inside = score > np.quantile(score, 1 - p)
    gap = np.linalg.norm(x[inside].mean(0) - x[~inside].mean(0))
    assert gap < longest + 5 * np.sqrt(3 / (20_000 * min(p, 1 - p)))


def test_a_share_is_between_nought_and_one():
    with pytest.raises(GlowkitError, match="between 0 and 1"):
        t.longest_direction(1.0)


@pytest.mark.parametrize("alpha, separation", [(0.5, 1.0), (1.0, 2.0), (0.7, 5.0), (0.0, 3.0)])
def test_crossing_between_two_classes_agrees_with_draws(alpha, separation):
    heights = np.random.default_rng(0).normal(separation / 2, 1, 400_000)  # above the plane half-way
    heights = heights[heights > 0]
    expected = np.mean(heights < alpha * separation)
    assert t.class_crossing_probability(alpha, separation) == pytest.approx(expected, abs=4e-3)
