"""Which maps keep the Gaussian law? Rotations, and many that are not in the orthogonal group (section 5.1).

Points are float tensors (n, N), N the dimension.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from glowkit.errors import GlowkitError


class Rotation:
    """A random element of O(N), cheap at any N: rotation(z) and rotation.inverse(z) on points (n, N).

    At N <= block it is Haar distributed (uniform on O(N)). Beyond, each of two rounds shuffles coordinates
    and multiplies blocks of them by independent Haar matrices: about N x block numbers instead of N x N.
    """

    def __init__(self, dim: int, seed: int = 0, block: int = 64, dtype: torch.dtype = torch.float32):
        rng = np.random.default_rng(seed)
        shapes = [(dim // block, block), (1, dim % block)]
        self.rounds = []
        for _ in range(1 if dim <= block else 2):
            order = torch.from_numpy(rng.permutation(dim))
            haar = [stats.ortho_group.rvs(size, count, rng) for count, size in shapes if count * size]
            # (k, size, size): scipy leaves out the first axis where k is 1
            matrices = [torch.from_numpy(h).to(dtype).reshape(-1, *h.shape[-2:]) for h in haar]
            self.rounds.append((order, matrices))

    def __call__(self, z: Tensor) -> Tensor:
        for order, matrices in self.rounds:
            z = _multiply_blocks(z[:, order], matrices)
        return z

    def inverse(self, z: Tensor) -> Tensor:
        for order, matrices in reversed(self.rounds):
            z = _multiply_blocks(z, [m.mT for m in matrices])[:, order.argsort()]
        return z


def _multiply_blocks(z: Tensor, matrices: list[Tensor]) -> Tensor:
    """z (n, N) with consecutive blocks of coordinates multiplied by consecutive matrices."""
    parts = z.split([m.shape[0] * m.shape[1] for m in matrices], dim=1)
    turned = [
        torch.einsum("kij,nkj->nki", m, part.reshape(len(z), *m.shape[:2])).flatten(1)
        for m, part in zip(matrices, parts, strict=True)
    ]
    return torch.cat(turned, dim=1)


def twist(z: Tensor, strength: float, seed: int = 0) -> Tensor:
    """A smooth nonlinear bijection of R^N that keeps the standard normal: points (n, N), N >= 8.

    The coordinates are dealt into four hands a, b, c, d. Each pair (a_i, b_i) is rotated by strength * c_i,
    then each pair (c_i, d_i) by strength * a_(i+1). A rotation by an angle that the pair itself does not
    decide has a unit Jacobian and keeps every norm, so log phi(z) and a model's likelihood stay as they are;
    yet for strength other than 0 the map is not in O(N). On normal points its best linear approximation is
    exp(-strength^2 / 2) times the identity, which explains exp(-strength^2) of the variance. The last N mod 4
    coordinates of the deal stay where they are.
    """
    a, b, c, d = _hands(z.shape[1], seed, z.device)
    z = _rotate_pairs(z, a, b, strength * z[:, c])
    return _rotate_pairs(z, c, d, strength * z[:, a.roll(-1)])


def untwist(z: Tensor, strength: float, seed: int = 0) -> Tensor:
    """The inverse of `twist` with the same strength and seed: the same rotations back, last one first."""
    a, b, c, d = _hands(z.shape[1], seed, z.device)
    z = _rotate_pairs(z, c, d, -strength * z[:, a.roll(-1)])
    return _rotate_pairs(z, a, b, -strength * z[:, c])


@lru_cache(maxsize=8)
def _hands(dim: int, seed: int, device: torch.device) -> Tensor:
    if dim < 8:
        raise GlowkitError(f"twist: dimension {dim}; want at least 8 (`swirl` does the plane)")
    deal = torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
    return deal[: dim - dim % 4].reshape(4, -1).to(device)


def _rotate_pairs(z: Tensor, first: Tensor, second: Tensor, angle: Tensor) -> Tensor:
    x, y, cos, sin = z[:, first], z[:, second], angle.cos(), angle.sin()
    return z.index_copy(1, first, cos * x - sin * y).index_copy(1, second, sin * x + cos * y)


def swirl(z: Tensor, strength: float) -> Tensor:
    """The smallest such map, to be drawn: points of the plane (n, 2) turned by strength * |z|^2.

    In polar coordinates it is (r, t) -> (r, t + strength r^2): norms and areas stay; -strength inverts it.
    """
    angle = strength * z.square().sum(dim=1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * z[:, 0] - sin * z[:, 1], sin * z[:, 0] + cos * z[:, 1]], dim=1)


def likelihood_change(log_prob: Callable[[Tensor], Tensor], z: Tensor, w: Tensor) -> float:
    """Largest change of log_prob, nats per 1,000 dimensions, if a map with unit Jacobian takes points z (n, N) to w."""
    return (log_prob(w) - log_prob(z)).abs().max().item() * 1000 / z.shape[1]


def linear_share(z, w) -> float:
    """The share of the variance of w (n, N) that the best linear map of z (n, N) explains: 1 for O(N)."""
    z, w = np.asarray(z, dtype=np.float64), np.asarray(w, dtype=np.float64)
    z, w = z - z.mean(axis=0), w - w.mean(axis=0)
    cross = z.T @ w
    return float((cross * np.linalg.solve(z.T @ z, cross)).sum() / (w**2).sum())
