"""Steps of flow as they run: three convolutions a coupling net and one before it, from kernels folded in advance.

`glowkit.layers` says what a step is. Of its arithmetic, all that does not depend on the image is done here first:
actnorm and invertible convolution become one convolution, and the actnorms and scales of the coupling net, and what
its edge channels add, go into the kernels and biases beside them. A step has a dozen small parameters, and folding
them one step at a time would be hundreds of operations that each take longer to start than to do, so those of all
steps of a level are stacked first. The same function results, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glowkit.layers import AFFINE_BOUND, ActNorm, CouplingNet, Step, bounded, pixels, with_edge


class FoldedSteps:
    """Steps of one shape, one after the other, on activations of (H, W) = size: `forward` and `inverse` as a layer has.

    Coupling nets compute in `compute_dtype`, by default in the dtype of their parameters: decoding has to meet the
    very same numbers as encoding, so anything less is for speed alone. Whoever keeps one has to fold again when a
    parameter changes.
    """

    def __init__(self, steps: Sequence[Step], size: tuple[int, int], compute_dtype: torch.dtype | None = None) -> None:
        self.steps = steps
        couplings = [step.coupling for step in steps]
        kernels = fold_nets([coupling.net for coupling in couplings], size, compute_dtype)
        self.couplings = [
            FoldedCoupling(coupling.half, coupling.affine, coupling.net.activation, k)
            for coupling, k in zip(couplings, kernels, strict=True)
        ]

    # Folded when first asked for: a training step needs no inverse, a decode nothing else.

    @cached_property
    def maps(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Actnorm and invertible convolution of each step in one: weight (c, c, 1, 1), bias (c,), a pixel's ladj ()."""
        weight, bias, ladj = fold_affine(self.steps)
        return list(zip(weight[..., None, None].unbind(), bias.unbind(), ladj.unbind(), strict=True))

    @cached_property
    def inverse_maps(self) -> list[tuple[Tensor, Tensor]]:
        """The inverse of the two, for each step: weight (c, c, 1, 1), bias (c,)."""
        weight, bias = fold_affine_inverse(self.steps)
        return list(zip(weight[..., None, None].unbind(), bias.unbind(), strict=True))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h (B, C, H, W) -> output of the last step, ladj (B,) of all."""
        ladj = h.new_zeros(len(h))
        for k in range(len(self.steps)):
            h, step_ladj = self.forward_step(k, h)
            ladj = ladj + step_ladj
        return h, ladj

    def inverse(self, h: Tensor) -> Tensor:
        """The input of the first step from the output h of the last."""
        for k in reversed(range(len(self.steps))):
            h = self.inverse_step(k, h)
        return h

    def forward_step(self, k: int, h: Tensor) -> tuple[Tensor, Tensor]:
        """Step k alone: h (B, C, H, W) -> its output, ladj (B,)."""
        weight, bias, pixel_ladj = self.maps[k]
        h, ladj = self.couplings[k].forward(F.conv2d(h, weight, bias))
        return h, ladj + pixels(h) * pixel_ladj

    def inverse_step(self, k: int, h: Tensor) -> Tensor:
        """The input of step k from its output h."""
        weight, bias = self.inverse_maps[k]
        return F.conv2d(self.couplings[k].inverse(h), weight, bias)

    def tensors(self, k: int) -> tuple[Tensor, ...]:
        """All that `forward_step(k, h)` takes from the parameters."""
        return *self.maps[k], *self.couplings[k].kernels


class NetKernels(NamedTuple):
    """What a coupling net convolves with: scales and biases of its actnorms folded in, in the dtype it computes in."""

    weight1: Tensor  # (width, channels + 1, 3, 3)
    bias1: Tensor  # (width,)
    weight2: Tensor  # (width, width, 1, 1)
    bias2: Tensor  # (width,)
    weight3: Tensor  # (out, width, 3, 3)
    bias3: Tensor  # (out, H, W), what the edge channel adds included: a copy of its wide input would cost far more


@dataclass(frozen=True)
class FoldedCoupling:
    """`layers.Coupling` with the kernels of its net."""

    half: int
    affine: bool
    activation: Callable[[Tensor], Tensor]
    kernels: NetKernels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.split([self.half, x.shape[1] - self.half], 1)
        h = self._net(x_b)
        if not self.affine:
            return torch.cat([x_a + h, x_b], 1), x.new_zeros(len(x))
        log_s, t = self._log_s_t(h)
        return torch.cat([x_a * log_s.exp() + t, x_b], 1), log_s.sum((1, 2, 3))

    def inverse(self, y: Tensor) -> Tensor:
        y_a, x_b = y.split([self.half, y.shape[1] - self.half], 1)
        h = self._net(x_b)
        if not self.affine:
            return torch.cat([y_a - h, x_b], 1)
        log_s, t = self._log_s_t(h)
        return torch.cat([(y_a - t) * (-log_s).exp(), x_b], 1)

    def _net(self, x: Tensor) -> Tensor:
        k = self.kernels
        h = self.activation(F.conv2d(with_edge(x.to(k.weight1.dtype)), k.weight1, k.bias1, padding=1))
        h = self.activation(F.conv2d(h, k.weight2, k.bias2))
        return (F.conv2d(h, k.weight3, padding=1) + k.bias3).to(x.dtype)

    @staticmethod
    def _log_s_t(h: Tensor) -> tuple[Tensor, Tensor]:
        log_s, t = h.chunk(2, 1)
        return bounded(log_s, AFFINE_BOUND), t


# ------------------------------------------------------------------------------------------------------- folding


def fold_affine(steps: Sequence[Step]) -> tuple[Tensor, Tensor, Tensor]:
    """Actnorm and invertible convolution of K steps of one shape, W s (x + b), in one: (W s) x + (W s) b.

    Returns weight (K, c, c), bias (K, c), and ladj (K,) of one pixel.
    """
    bias, log_scale = _actnorms(steps)
    weight, ladj = _convolutions(steps)
    weight = weight * log_scale.exp()[:, None]
    return weight, (weight @ bias[..., None])[..., 0], log_scale.sum(1) + ladj


def fold_affine_inverse(steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """The inverse of that, (W s)^-1 y - b, in float64: weight (K, c, c), NaN where there is none, and bias (K, c)."""
    bias, log_scale = _actnorms(steps)
    weight, _ = _convolutions(steps)
    # `inv` would have the processor wait for the device, to raise an error.
    inverted, failed = torch.linalg.inv_ex(weight.double() * log_scale.double().exp()[:, None])
    return inverted.where((failed == 0)[:, None, None], torch.nan).to(bias.dtype), -bias


def _actnorms(steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """bias and log_scale, each (K, c)."""
    norms = [step.norm for step in steps]
    return torch.stack([norm.bias for norm in norms]), torch.stack([norm.log_scale for norm in norms])


def _convolutions(steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """W = P L (U + diag(s)) of the invertible convolutions (K, c, c), and log |det W| (K,)."""
    convs = [step.conv for step in steps]
    lu, log_s = torch.stack([conv.lu for conv in convs]), torch.stack([conv.log_s for conv in convs])
    sign, permutation = torch.stack([conv.sign for conv in convs]), torch.stack([conv.permutation for conv in convs])
    lower = lu.tril(-1) + torch.eye(lu.shape[-1], dtype=lu.dtype, device=lu.device)
    upper = lu.triu(1) + torch.diag_embed(sign * log_s.exp())
    return torch.take_along_dim(lower @ upper, permutation[..., None], -2), log_s.sum(1)


def fold_nets(
    nets: Sequence[CouplingNet], size: tuple[int, int], compute_dtype: torch.dtype | None = None
) -> list[NetKernels]:
    """The kernels of nets of one shape, for images of (H, W) = size; see `FoldedSteps` for `compute_dtype`."""
    dtype, width = compute_dtype or nets[0].conv2.dtype, len(nets[0].conv2)

    def scaled(weights: list[Tensor], biases: list[Tensor], log_scale: Tensor) -> tuple[Tensor, Tensor]:
        scale = log_scale.exp()
        return torch.stack(weights) * scale[..., None, None, None], torch.stack(biases) * scale

    def actnorm(weights: list[Tensor], norms: list[ActNorm]) -> tuple[Tensor, Tensor]:
        return scaled(weights, [norm.bias for norm in norms], torch.stack([norm.log_scale for norm in norms]))

    weight1, bias1 = actnorm([net.conv1.weight for net in nets], [net.norm1 for net in nets])
    weight2, bias2 = actnorm([net.conv2 for net in nets], [net.norm2 for net in nets])
    log_scale3 = 3 * torch.stack([net.log_scale3 for net in nets])
    weight3, bias3 = scaled([net.conv3.weight for net in nets], [net.bias3 for net in nets], log_scale3)
    weight3, edge = weight3.split([width, 1], 2)
    inside = edge.new_ones(1, 1, *size)
    bias3 = F.conv2d(inside, edge.flatten(0, 1), bias3.flatten(), padding=1).view(*bias3.shape, *size)
    biases = [bias1.to(dtype), bias2.to(dtype), channels_last(bias3.to(dtype))]
    weights = [channels_last(weight.to(dtype)) for weight in (weight1, weight2, weight3)]
    parts = [part.unbind() for pair in zip(weights, biases, strict=True) for part in pair]
    return [NetKernels(*part) for part in zip(*parts, strict=True)]


def channels_last(x: Tensor) -> Tensor:
    """x (..., C, H, W) with the values of a pixel together: convolutions are twice as fast then."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)
