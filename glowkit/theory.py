"""The mathematics of the thesis's chapter 5, in a form that can be computed: no model is needed here.

N is the dimension (the library's D), phi the standard normal density, and all likelihoods are in nats.
Points are float tensors (n, N) or arrays (n,); every function states what it draws and what is exact.
"""

from collections.abc import Callable
from math import exp, log, pi, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from glowkit import intervals
from glowkit.errors import GlowkitError
from glowkit.gaussianity import norm_law
from glowkit.intervals import Estimate
from glowkit.jacobian import pulled_back

# --- Maximum likelihood is a Kullback-Leibler divergence (section 5.1) -------------------------------------


def pull_back(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The log-density that f: R^N -> R^N gives to x: log phi(f(x)) + log|det df/dx| (equation 5.1).

    f maps one point (N,); the result maps points (n, N) to (n,), with the Jacobian from autograd.
    """

    def one(x: Tensor) -> Tensor:
        z, jacobian = f(x), torch.func.jacrev(f)(x)
        return pulled_back(z, torch.linalg.slogdet(jacobian).logabsdet)

    return torch.func.vmap(one)


class Divergence(NamedTuple):
    """The three terms of equations 5.2 to 5.7."""

    kl: float
    """Integral of mu log(mu / p): what equation 5.7 minimises, in nats."""
    likelihood: float
    """Integral of mu log p: what equation 5.2 maximises, in nats."""
    entropy: float
    """-integral of mu log mu: the constant added in equation 5.4, in nats."""
    mass: float
    """Integral of p over the grid: 1 for a density that lies within it."""


def divergence(
    log_mu: Callable[[Tensor], Tensor],
    log_p: Callable[[Tensor], Tensor],
    dim: int,
    limit: float = 8.0,
    points: int = 401,
) -> Divergence:
    """Both sides of equations 5.2-5.7 by quadrature over the cube [-limit, limit]^dim, for dim 1 or 2.

    The trapezoid rule on a regular grid: for smooth densities that vanish at the edge its error falls faster
    than any power of the step.
    """
    axis = torch.linspace(-limit, limit, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    cell = float(axis[1] - axis[0]) ** dim
    mu, p = log_mu(grid), log_p(grid)
    seen = mu > -700  # beyond that exp underflows: the limit of t log t at 0 is 0
    weight = mu[seen].exp() * cell
    return Divergence(
        float((weight * (mu[seen] - p[seen])).sum()),
        float((weight * p[seen]).sum()),
        -float((weight * mu[seen]).sum()),
        float(p.exp().sum() * cell),
    )


# --- The discrete likelihood has no maximum (equation 2.2) -------------------------------------------------


def memorising_map(points: Tensor, sigma: float) -> Callable[[Tensor], Tensor]:
    """An increasing bijection of R that becomes steep at every training point as sigma falls.

    f = Phi^-1 after the distribution function of the mixture of N(x_i, sigma^2), so what it gives to x is
    that mixture's density: see `memorising_log_density`. points (n,); f maps (1,) to (1,).
    """

    def f(x: Tensor) -> Tensor:
        return torch.special.ndtri(torch.special.ndtr((x - points) / sigma).mean()).reshape(1)

    return f


def memorising_log_density(x, points, sigma: float) -> np.ndarray:
    """log-density (m,) in nats at x (m,) under `memorising_map(points, sigma)`, exact.

    At the training points it is at least -log n - log(sigma sqrt(2 pi)), which has no bound as sigma falls.
    """
    from_each = stats.norm.logpdf(np.asarray(x)[:, None], np.asarray(points)[None, :], sigma)
    return np.logaddexp.reduce(from_each, axis=1) - log(len(points))


# --- Half-spaces (equations 5.8, 5.9) ----------------------------------------------------------------------

HALF_SPACE_MEAN = sqrt(2 / pi)
"""Norm of the mean of a standard normal restricted to a half-space through the origin, in any dimension:
2 times the integral of t phi(t) over t > 0. 0.79788 (the source prints e / (2 sqrt(2 pi)), 0.54222)."""

PRINTED_HALF_SPACE_MEAN = exp(1) / (2 * sqrt(2 * pi))


class HalfSpace(NamedTuple):
    """What draws from a half-space say of its mean (equations 5.8 and 5.9)."""

    along: Estimate
    """The half-space mean's component along the plane's normal: estimates sqrt(2 / pi)."""
    norm: float
    """Norm of the sample mean: near sqrt(2 / pi + N / n), because the other N - 1 components are noise."""
    heights: np.ndarray
    """(n,) distances of the draws from the plane, all positive."""


def half_space_draws(dim: int, n: int, seed: int = 0, brute: bool = False) -> HalfSpace:
    """n draws of a standard normal in R^dim, conditioned on a random half-space through the origin.

    Only the height above the plane matters for the mean's component along the normal, and only its n numbers
    are drawn; the sample mean's norm comes from its exact law. With `brute` every draw has all dim
    components (made in blocks, never n x dim at once): slow, and the check of the short way.
    """
    generator = torch.Generator().manual_seed(seed)
    if not brute:
        heights = torch.randn(n, generator=generator, dtype=torch.float64).abs().numpy()
        rest = norm_law(dim - 1, n).rvs(random_state=np.random.default_rng(seed)) if dim > 1 else 0.0
        return HalfSpace(intervals.mean(heights), float(np.hypot(heights.mean(), rest)), heights)
    normal = torch.randn(dim, generator=generator)
    normal /= normal.norm()
    total, heights = torch.zeros(dim, dtype=torch.float64), []
    for rows in torch.arange(n).split(max(1, 2**22 // dim)):
        x = torch.randn(len(rows), dim, generator=generator)
        height = x @ normal
        # -x has the same law and lies on the other side: a sign flip conditions and throws no draw away.
        total += torch.sign(height).double() @ x.double()
        heights.append(height.abs().double())
    heights = torch.cat(heights).numpy()
    return HalfSpace(intervals.mean(heights), float(total.norm()) / n, heights)


def turned_draws(dim: int, n: int, seed: int = 0) -> np.ndarray:
    """(n, 2): n draws of a standard normal in R^dim, each turned about one axis until it lies in the page.

    First the coordinate along the axis, which is N(0, 1); second the norm of the dim - 1 others, which is chi, above or
    below the axis with equal chance. Turning keeps both, and so the norm of the whole point, exactly; distances
    between points are not kept. In the plane, dim = 2, nothing needs turning: the draws are the points. dim from 2 on.
    """
    if dim < 2:
        raise GlowkitError(f"turned_draws: dim = {dim}; a page needs at least 2")
    rng = np.random.default_rng(seed)
    rest = norm_law(dim - 1).rvs(n, random_state=rng) * rng.choice((-1, 1), n)
    return np.stack([rng.standard_normal(n), rest], axis=1)


def longest_direction(share) -> np.ndarray:
    """The longest difference of class means that a standard Gaussian has room for: phi(t) / (p (1 - p)).

    For a class A of share p and any unit u, E[uX; A] is largest where A is the half-space uX > t, P(uX > t) = p, and
    is phi(t) there; the mean of A less that of its complement, along u, is E[uX; A] / (p (1 - p)). The same in every
    dimension. share: numbers in (0, 1).
    """
    p = np.asarray(share, float)
    if not ((p > 0) & (p < 1)).all():
        raise GlowkitError(f"longest_direction: a share of {share}; want shares between 0 and 1")
    return stats.norm.pdf(stats.norm.isf(p)) / (p * (1 - p))


def crossing_probability(step: float = 2 * HALF_SPACE_MEAN) -> float:
    """P(a standard normal point crosses a plane through 0 when moved towards it by step) = 2 Phi(step) - 1.

    0.88946 for the difference of the two half-space means, whatever N (section 5.2.1 expects a limit of 1).
    """
    return float(2 * stats.norm.cdf(step) - 1)


def class_crossing_probability(alpha: ArrayLike, separation: float) -> np.ndarray:
    """P(a point of one Gaussian class, moved by alpha times the difference of the means, crosses to the other).

    Two classes of s.d. 1 whose means are `separation` apart, the plane half-way between; of the points on their own
    side of it. alpha: a number or an array.
    """
    cdf, d = stats.norm.cdf, separation
    return (cdf((np.asarray(alpha) - 0.5) * d) - cdf(-d / 2)) / cdf(d / 2)


def crossing_share(heights, step: float) -> Estimate:
    """The share of points at the given distances (n,) from a plane that a step towards it carries across."""
    heights = np.asarray(heights)
    return intervals.wilson(int((heights < step).sum()), len(heights))


# --- Equal probability is equal measure, not equal volume (section 5.2.1) ----------------------------------


def equal_measure_sets(dim: int) -> tuple[float, float, float, float]:
    """A ball and a shell of measure 1/4 each: (ball's radius, shell's radii, log of volume shell / ball).

    Radii are the quartiles of chi_dim: the ball holds the first quarter of the points, the shell the third.
    """
    ball, inner, outer = (float(r) for r in norm_law(dim).ppf([0.25, 0.5, 0.75]))
    return ball, inner, outer, dim * log(outer / ball) + float(np.log1p(-((inner / outer) ** dim)))


# --- Norms of sums (section 5.3.5) and separability (section 4.3) ------------------------------------------


def sum_norm(a: float, b: float, cosine: float = 0.0) -> float:
    """|x + y| for |x| = a, |y| = b and the cosine of the angle between them (0: orthogonal)."""
    return sqrt(a * a + b * b + 2 * a * b * cosine)


def implied_cosine(a: float, b: float, total: float) -> float:
    """The cosine between x and y that |x| = a, |y| = b, |x + y| = total imply."""
    return (total * total - a * a - b * b) / (2 * a * b)


def mean_cosine(mean_norm: float, rms_norm: float) -> float:
    """Average cosine of two independent points of norm about rms_norm whose law has a mean of norm mean_norm.

    E[x . y] = |E x|^2 for independent x and y: a small mean leaves no room for a large typical cosine.
    """
    return (mean_norm / rms_norm) ** 2


def cover_probability(n: int, dim: int) -> float:
    """The share of the 2^n labellings of n points in general position in R^dim that a plane separates.

    Cover (1965), planes with offset: 2^(1-n) times the sum of binomial(n - 1, k) over k <= dim.
    """
    return float(stats.binom.cdf(dim, n - 1, 0.5))
