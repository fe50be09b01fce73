"""A bijection against its Jacobian: is the reverse the reverse, and is log |det| what the layer says it is?

This is the brute force that normalizing flows exist to avoid: n backward passes for n inputs, then a
determinant of n x n numbers. It knows nothing of how a layer works.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Errors(NamedTuple):
    """How far a bijection is from what it says, the largest over the inputs."""

    reverse: float
    """|inverse(forward(x)) - x|, in the units of x."""
    log_det: float
    """|ladj - log |det dy/dx|| by autograd, in nats per dimension of x."""
    dim: int
    n: int


def log_det(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det df/dx| in nats (B,) of f, which maps batches, at each of x (B, ...)."""
    found = []
    for one in x.split(1):
        matrix = torch.autograd.functional.jacobian(f, one, vectorize=True)
        found.append(torch.linalg.slogdet(matrix.reshape(one.numel(), one.numel()).double()).logabsdet)
    return torch.stack(found)


def pulled_back(z: Tensor, log_det: Tensor) -> Tensor:
    """log (phi(z) |det df/dx|) in nats (...), as in equation 2.1, of z = f(x) (..., N) and log |det| (...)."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi)) + log_det


def log_density(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The log-density that f, which maps batches, gives to each of x (B, ...), in nats (B,), by brute force."""
    with torch.no_grad():
        z = f(x).flatten(1).double()
    return pulled_back(z, log_det(f, x))


def check(forward: Callable[[Tensor], tuple[Tensor, Tensor]], inverse: Callable[[Tensor], Tensor], x: Tensor) -> Errors:
    """Compare a layer's `forward(x) -> (y, ladj)` and `inverse(y) -> x` with autograd at x (B, ...)."""
    with torch.no_grad():
        y, ladj = forward(x)
        reverse = (inverse(y) - x).abs().max()
    dim = x[0].numel()
    gap = (ladj.double() - log_det(lambda x_: forward(x_)[0], x)).abs().max() / dim
    return Errors(float(reverse), float(gap), dim, len(x))
