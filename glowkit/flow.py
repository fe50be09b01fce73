"""Glow (Kingma & Dhariwal 2018): a multi-scale normalizing flow z = f(x) with an exact inverse.

A level is a squeeze, K steps of flow and a prior; L levels make a `Glow`. What a step and a prior are is written in
`glowkit.layers`; here they are put together, and steps run from folded kernels (`glowkit.kernels`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from glowkit import fields
from glowkit.errors import GlowkitError
from glowkit.image_flow import BIN_CENTRES, ImageFlow
from glowkit.kernels import FoldedSteps
from glowkit.layers import ACTIVATIONS, COUPLINGS, SplitPrior, Step, TopPrior, squeeze, unsqueeze
from glowkit.precision import exact_float32

CONFIG = {
    "image_size": fields.Whole(8, 256),
    "levels": fields.Whole(1, 8),
    "steps": fields.Whole(1, 256),
    "width": fields.Whole(1, 4096),
    "coupling": fields.OneOf(COUPLINGS),
    "bits": fields.Whole(1, 8),
    "activation": fields.OneOf(tuple(ACTIVATIONS)),
}
MOST_PARAMETERS = 10**9  # 20 bytes each in training: weight, gradient, two moments, average


@dataclass(frozen=True)
class GlowConfig:
    """The shape of a Glow: `levels` L scales of `steps` K steps each, coupling nets `width` channels wide.

    `coupling` is one of COUPLINGS and `activation`, of the coupling nets, one of ACTIVATIONS: relu as published, or
    capped at 2, which costs some bits/dim and keeps far edits pictures. `bits` is the depth n that images are
    quantised to before the model sees them. Raises GlowkitError for a shape that cannot be.

    >>> config = glowkit.GlowConfig(image_size=32, levels=3, steps=8, width=64, coupling="affine")
    >>> glowkit.GlowConfig(image_size=30)
    Traceback (most recent call last):
    glowkit.errors.GlowkitError: model.image_size = 30: with 4 levels it must be a multiple of 16 between 8 and 256
    """

    image_size: int = 64
    levels: int = 4
    steps: int = 16
    width: int = 128
    coupling: str = "additive"
    bits: int = 5
    activation: str = "relu"

    kinds: ClassVar[Mapping[str, fields.Kind]] = CONFIG

    def __post_init__(self) -> None:
        fields.check(vars(self), self.kinds, "model.")
        if self.image_size % 2**self.levels:
            raise GlowkitError(
                f"model.image_size = {self.image_size}: with {self.levels} levels it must be a multiple of "
                f"{2**self.levels} between 8 and 256"
            )
        if self.parameters > MOST_PARAMETERS:
            raise GlowkitError(
                f"model.levels = {self.levels}, steps = {self.steps}, width = {self.width}: {self.parameters:,} "
                f"parameters; there may be {MOST_PARAMETERS:,}, which take 20 GB to train"
            )

    @property
    def parameters(self) -> int:
        """How many numbers such a Glow learns."""
        total, c, size = 0, 3, self.image_size
        for level in range(self.levels):
            c, size = 4 * c, size // 2
            half = c // 2
            out = half * (2 if self.coupling == "affine" else 1)
            total += self.steps * (2 * c + self.mixing_parameters(c) + self.net_parameters(c - half, out, size))
            last = level == self.levels - 1
            total += 2 * c if last else (9 * (half + 1) + 2) * 2 * (c - half)
            c = half
        return total

    def mixing_parameters(self, channels: int) -> int:
        """Of what mixes the channels of a step."""
        return channels * channels + channels

    def net_parameters(self, channels: int, out: int, size: int) -> int:
        """Of a coupling net from `channels` to `out` channels of size x size pixels."""
        w = self.width
        return 9 * (channels + 1) * w + w * w + 4 * w + 9 * (w + 1) * out + 2 * out

    def as_dict(self) -> dict:
        return asdict(self)


def run_steps(steps: nn.ModuleList, h: Tensor, compute_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """h (B, C, H, W) -> output of the last step, ladj (B,) of all, with the kernels of all steps folded at once."""
    return FoldedSteps(steps, h.shape[-2:], compute_dtype).forward(h)


class Level(nn.Module):
    """Squeeze, K steps of flow, and the prior of what stays here: all of it at the deepest level, else half."""

    # What the steps keep for the backward pass: everything; training may choose a strategy of glowkit.memory instead.
    strategy = staticmethod(run_steps)
    # See `Glow.computing_in` and `Glow.layer_by_layer`.
    compute_dtype: torch.dtype | None = None
    folded = True

    def __init__(self, channels: int, config: GlowConfig, last: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            Step(channels, config.width, config.coupling, config.activation) for _ in range(config.steps)
        )
        self._kept: tuple[tuple, FoldedSteps] | None = None
        self.prior = TopPrior(channels) if last else SplitPrior(channels)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """x (B, C, H, W) -> kept for the next level (None at the last), eps of this level, ladj (B,)."""
        h, ladj = self._run(squeeze(x))
        if isinstance(self.prior, TopPrior):
            eps, prior_ladj = self.prior(h)
            return None, eps, ladj + prior_ladj
        kept, eps, prior_ladj = self.prior(h)
        return kept, eps, ladj + prior_ladj

    def inverse(self, kept: Tensor | None, eps: Tensor) -> Tensor:
        """kept and eps, as `forward` returns them, -> x (B, C, H, W)."""
        h = self.prior.inverse(eps) if kept is None else self.prior.inverse(kept, eps)
        return unsqueeze(self._run_inverse(h))

    def _run(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The steps: h (B, C, H, W) -> output of the last, ladj (B,) of all."""
        if self.folded and torch.is_grad_enabled():
            return self.strategy(self.steps, h, self.compute_dtype)
        if self.folded:
            return self._fold(h.shape[-2:]).forward(h)
        ladj = h.new_zeros(len(h))
        for step in self.steps:
            h, step_ladj = step(h)
            ladj = ladj + step_ladj
        return h, ladj

    def _run_inverse(self, h: Tensor) -> Tensor:
        if self.folded:
            return self._fold(h.shape[-2:]).inverse(h)
        for step in reversed(self.steps):
            h = step.inverse(h)
        return h

    def _fold(self, size: tuple[int, int]) -> FoldedSteps:
        """The folded steps. Without gradients they are kept until a parameter changes: folding takes as long as an
        image does.
        """
        if torch.is_grad_enabled():
            return FoldedSteps(self.steps, size, self.compute_dtype)
        state = size, self.compute_dtype, *((p.data_ptr(), p._version, p.dtype) for p in self.steps.parameters())
        if self._kept is None or self._kept[0] != state:
            self._kept = state, FoldedSteps(self.steps, size, self.compute_dtype)
        return self._kept[1]


class Glow(ImageFlow):
    """The multi-scale flow of fig. 2 (right), from quantised images to one flat standard normal vector.

    `forward`/`inverse` map centred pixels v = x - 1/2 (B, 3, H, W) to latents z (B, D), D = 3HW, differentiably.
    `encode`/`decode` map images to latents without gradients. z holds the levels one after the other, shallow to
    deep (`level_slices`), each flattened from (C, H, W).

    >>> model = glowkit.Glow(glowkit.GlowConfig(image_size=16, levels=2, steps=2, width=8))
    >>> model.dim, model.level_shapes
    (768, [(6, 8, 8), (24, 4, 4)])
    >>> model.sample(3, temperature=0.7).shape
    torch.Size([3, 3, 16, 16])
    """

    def __init__(self, config: GlowConfig) -> None:
        levels, shapes, channels, size = [], [], 3, config.image_size
        for depth in range(config.levels):
            channels, size, last = 4 * channels, size // 2, depth == config.levels - 1
            levels.append(Level(channels, config, last))
            channels = channels if last else channels // 2
            shapes.append((channels, size, size))
        super().__init__(config.image_size, config.bits, shapes)
        self.config = config
        self.levels = nn.ModuleList(levels)

    @exact_float32()
    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, 3, H, W) -> z (B, D), ladj (B,)."""
        h: Tensor | None = v.contiguous(memory_format=torch.channels_last)
        ladj, parts = v.new_zeros(len(v)), []
        for level in self.levels:
            h, eps, level_ladj = level(h)
            ladj = ladj + level_ladj
            parts.append(eps.flatten(1))
        return torch.cat(parts, 1), ladj

    @exact_float32()
    def inverse(self, z: Tensor) -> Tensor:
        """z (B, D) -> v (B, 3, H, W): no clamping, so an edit that explodes shows as a non-finite value."""
        h: Tensor | None = None
        parts = zip(reversed(self.levels), reversed(self.level_slices), reversed(self.level_shapes), strict=True)
        for level, where, shape in parts:
            eps = z[:, where].unflatten(1, shape).contiguous(memory_format=torch.channels_last)
            h = level.inverse(h, eps)
        return h.contiguous()

    @torch.no_grad()
    def initialise(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> None:
        """Data-dependent initialisation of every actnorm on one batch of images: once, before training."""
        h = self.dequantise(x, noise)
        for level in self.levels:
            h = squeeze(h)
            for step in level.steps:
                h = step.initialise(h)
            if isinstance(level.prior, SplitPrior):
                h = level.prior(h)[0]

    @contextmanager
    def computing_in(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Within, the coupling nets run in `dtype` for speed (see `glowkit.precision`); None: in the parameters' own.

        Training does so. A decode in bfloat16 is for looking at: pixels are off by some thousandths of their range,
        and it is the inverse of `encode` to no more than that.
        """
        for level in self.levels:
            level.compute_dtype = dtype
        try:
            yield
        finally:
            for level in self.levels:
                level.compute_dtype = None

    @contextmanager
    def layer_by_layer(self) -> Iterator[None]:
        """Within, steps run as `glowkit.layers` writes them and nothing is folded: slower, but each layer is called."""
        before = [level.folded for level in self.levels]
        for level in self.levels:
            level.folded = False
        try:
            yield
        finally:
            for level, folded in zip(self.levels, before, strict=True):
                level.folded = folded

    def first_nonfinite(self, v: Tensor) -> str | None:
        with self.layer_by_layer():
            return super().first_nonfinite(v)
