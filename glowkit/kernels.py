"""What steps of flow convolve with: the kernels of many steps at once, from the parameters of their layers.

A step has a dozen small parameters, and turning them into kernels one by one is hundreds of operations that each take
longer to start than to do. So those of all K steps of a level are stacked first. Actnorms, scales and what the edge
channel adds are folded into the kernels, the way that `flow`'s layers define them; its tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NetKernels(NamedTuple):
    """What a coupling net convolves with: scales and biases of its actnorms folded in, in the dtype it computes in."""

    weight1: Tensor  # (width, channels + 1, 3, 3)
    bias1: Tensor  # (width,)
    weight2: Tensor  # (width, width, 1, 1)
    bias2: Tensor  # (width,)
    weight3: Tensor  # (out, width, 3, 3)
    bias3: Tensor  # (out, H, W), what the edge channel adds included: a copy of its wide input would cost far more


class StepKernels(NamedTuple):
    """What a step of flow convolves with, one way or the other."""

    weight: Tensor  # (c, c, 1, 1) of actnorm and invertible convolution, in one
    bias: Tensor  # (c,)
    ladj: Tensor  # log |det weight|, of one pixel
    net: NetKernels


def fold(
    steps: Sequence[nn.Module], size: tuple[int, int], inverse: bool = False, nets: list[NetKernels] | None = None
) -> list[StepKernels]:
    """The kernels of steps of one shape, forwards or `inverse`, for activations of (H, W) = size.

    `nets`: those of the coupling nets, where they are there already; they serve both ways.
    """
    weight, bias, ladj = fold_affine(steps, inverse)
    nets = nets or fold_nets([step.coupling.net for step in steps], size)
    each = zip(weight[..., None, None].unbind(), bias.unbind(), ladj.unbind(), nets, strict=True)
    return [StepKernels(*part) for part in each]


def fold_affine(steps: Sequence[nn.Module], inverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Actnorm and convolution of K steps of one shape, as one: weight (K, c, c), bias (K, c), ladj (K,) of a pixel.

    With `inverse`, weight and bias of the way back.
    """
    sign, permutation = _stack(steps, "conv.sign"), _stack(steps, "conv.permutation")
    bias, log_scale, log_s = _stack(steps, "norm.bias"), _stack(steps, "norm.log_scale"), _stack(steps, "conv.log_s")
    weight, ladj = matrices(_stack(steps, "conv.lu"), log_s, sign, permutation), log_scale.sum(1) + log_s.sum(1)
    if inverse:
        inverted = torch.linalg.inv(weight.double() * log_scale.double().exp()[:, None])
        return inverted.to(bias.dtype), -bias, ladj
    weight = weight * log_scale.exp()[:, None]
    return weight, (weight @ bias[..., None])[..., 0], ladj


def matrices(lu: Tensor, log_s: Tensor, sign: Tensor, permutation: Tensor) -> Tensor:
    """W (..., c, c) of one 1x1 convolution, or of many at once."""
    lower = lu.tril(-1) + torch.eye(lu.shape[-1], dtype=lu.dtype, device=lu.device)
    upper = lu.triu(1) + torch.diag_embed(sign * log_s.exp())
    return torch.take_along_dim(lower @ upper, permutation[..., None], -2)


def fold_nets(nets: Sequence[nn.Module], size: tuple[int, int]) -> list[NetKernels]:
    """The kernels of nets of one shape, for images of (H, W) = size: all at once, so that there are few operations."""
    dtype = nets[0].compute_dtype or nets[0].conv2.dtype

    def scaled(weight: Tensor, bias: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        scale = log_scale.exp()
        return weight * scale[..., None, None, None], bias * scale

    weight1, bias1 = scaled(_stack(nets, "conv1.weight"), _stack(nets, "norm1.bias"), _stack(nets, "norm1.log_scale"))
    weight2, bias2 = scaled(_stack(nets, "conv2"), _stack(nets, "norm2.bias"), _stack(nets, "norm2.log_scale"))
    weight3, bias3 = scaled(_stack(nets, "conv3.weight"), _stack(nets, "bias3"), 3 * _stack(nets, "log_scale3"))
    weight3, edge = weight3.split([len(nets[0].conv2), 1], 2)
    inside = edge.new_ones(1, 1, *size)
    bias3 = F.conv2d(inside, edge.flatten(0, 1), bias3.flatten(), padding=1).view(*bias3.shape, *size)
    biases = [bias1.to(dtype), bias2.to(dtype), channels_last(bias3.to(dtype))]
    weights = [channels_last(weight.to(dtype)) for weight in (weight1, weight2, weight3)]
    parts = [part.unbind() for pair in zip(weights, biases, strict=True) for part in pair]
    return [NetKernels(*part) for part in zip(*parts, strict=True)]


def _stack(modules: Sequence[nn.Module], name: str) -> Tensor:
    return torch.stack([*map(attrgetter(name), modules)])


def channels_last(x: Tensor) -> Tensor:
    """x (..., C, H, W) with the values of a pixel together: convolutions are twice as fast then."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)
