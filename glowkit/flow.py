"""Glow (Kingma & Dhariwal 2018): a multi-scale normalizing flow z = f(x), exact both ways.

Every layer is a bijection with `forward(x) -> (y, ladj)` and `inverse(y) -> x`, where `ladj` (B,) is
log |det dy/dx| in nats for each image. Images are (B, C, H, W). Read from the top: the three layers of a step
(table of section 2.2), the priors that standardise what a level sets aside, then `Glow`, which strings them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glowkit import fields
from glowkit.errors import GlowkitError
from glowkit.kernels import NetKernels, StepKernels, fold, fold_nets, matrices
from glowkit.precision import exact_float32

COUPLINGS = ("additive", "affine")
# What the coupling nets bend their features with. An edited latent leaves the data, and a net of rectifiers answers
# twice the step with twice the shift, layer upon layer; one of bounded units answers with little more than it ever did.
# In place: nobody else holds a convolution's output, and fresh memory costs as much as the bending.
ACTIVATIONS = {"relu": F.relu_, "capped": lambda h: F.hardtanh_(h, 0.0, 2.0)}
# An affine scale lies in [exp(-BOUND), exp(BOUND)]: the original's sigmoid(h + 2) may come close to 0, and an edited
# latent then divides by it on its way back to pixels, at every layer.
AFFINE_BOUND = math.log(2.0)
# The same for the scale of a level's prior, which only has to reach from one grey level to the whole range.
PRIOR_BOUND = 4.0
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
    quantised to before the model sees them.
    """

    image_size: int = 64
    levels: int = 4
    steps: int = 16
    width: int = 128
    coupling: str = "additive"
    bits: int = 5
    activation: str = "relu"

    def __post_init__(self) -> None:
        fields.check(vars(self), CONFIG, "model.")
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
        total, c, w = 0, 3, self.width
        for level in range(self.levels):
            c = 4 * c
            half, out = c // 2, c // 2 * (2 if self.coupling == "affine" else 1)
            net = 9 * (c - half + 1) * w + w * w + 4 * w + 9 * (w + 1) * out + 2 * out
            total += self.steps * (c * c + 3 * c + net)
            last = level == self.levels - 1
            total += 2 * c if last else (9 * (half + 1) + 2) * 2 * (c - half)
            c = half
        return total

    def as_dict(self) -> dict:
        return asdict(self)


# ---------------------------------------------------------------------------------------------- layers of one step


class ActNorm(nn.Module):
    """y = exp(log_scale) * (x + bias), one scale and bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set bias and scale so that this batch leaves with mean 0 and standard deviation 1 in each channel."""
        self.bias.copy_(-x.mean((0, 2, 3)))
        self.log_scale.copy_(-x.std((0, 2, 3), correction=0).clamp(min=1e-6).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]
        return y, _pixels(x) * self.log_scale.sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return y * (-self.log_scale).exp()[:, None, None] - self.bias[:, None, None]


class InvertibleConv(nn.Module):
    """y = W x at every pixel, W = P L (U + diag(s)): P a fixed permutation, L unit lower, U strictly upper.

    `lu` (c, c) holds L below its diagonal and U above, as LAPACK does.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.register_buffer("permutation", permutation.argmax(1))
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.lu = nn.Parameter((lower.tril(-1) + upper.triu(1)).to(dtype))
        self.log_s = nn.Parameter(diagonal.abs().log().to(dtype))

    def weight(self) -> Tensor:
        """W (c, c)."""
        return matrices(self.lu, self.log_s, self.sign, self.permutation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight()[:, :, None, None]), _pixels(x) * self.log_s.sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        inverse = torch.linalg.inv(self.weight().double()).to(y.dtype)
        return F.conv2d(y, inverse[:, :, None, None])


class EdgeConv(nn.Module):
    """A 3x3 convolution that knows where the image ends: one more input channel, 1 inside and 0 in the padding."""

    def __init__(self, channels: int, out: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels + 1, 3, 3) * std)

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """scale * (convolution of x) + bias, with scale and bias (out,)."""
        return F.conv2d(with_edge(x), self.weight * scale[:, None, None, None], bias, padding=1)


def with_edge(x: Tensor) -> Tensor:
    """x (B, C, H, W) and one more channel of ones, which a convolution's padding ends."""
    # `pad` keeps channels_last, and `cat` of an expanded map does not.
    return F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)


class CouplingNet(nn.Module):
    """NN of the coupling: 3x3 - actnorm - bend - 1x1 - actnorm - bend - 3x3 that starts at zero (bend: ACTIVATIONS).

    The actnorms are folded into the convolution before them. `compute_dtype` is what the convolutions run in: the
    dtype of the parameters unless speed is asked for, since decoding has to meet the very same numbers as encoding.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(self, channels: int, width: int, out: int, activation: str) -> None:
        super().__init__()
        self.bend = ACTIVATIONS[activation]
        self.conv1 = EdgeConv(channels, width, std=0.05)
        self.norm1 = ActNorm(width)
        self.conv2 = nn.Parameter(torch.randn(width, width, 1, 1) * 0.05)
        self.norm2 = ActNorm(width)
        self.conv3 = EdgeConv(width, out, std=0.0)
        self.bias3 = nn.Parameter(torch.zeros(out))
        self.log_scale3 = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, kernels: NetKernels | None = None) -> Tensor:
        k = kernels or fold_nets([self], x.shape[-2:])[0]
        h = self.bend(self._first(x.to(k.weight1.dtype), k))
        h = self.bend(self._second(h, k))
        return (F.conv2d(h, k.weight3, padding=1) + k.bias3).to(x.dtype)

    def _first(self, x: Tensor, k: NetKernels) -> Tensor:
        return F.conv2d(with_edge(x), k.weight1, k.bias1, padding=1)

    def _second(self, h: Tensor, k: NetKernels) -> Tensor:
        return F.conv2d(h, k.weight2, k.bias2)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.norm1.initialise(self._first(x, fold_nets([self], x.shape[-2:])[0]))
        k = fold_nets([self], x.shape[-2:])[0]
        self.norm2.initialise(self._second(self.bend(self._first(x, k)), k))


class Coupling(nn.Module):
    """y_a = s * x_a + t, y_b = x_b, with (log s, t) = NN(x_b); additive coupling has s = 1."""

    def __init__(self, channels: int, config: GlowConfig) -> None:
        super().__init__()
        self.half = channels // 2
        self.affine = config.coupling == "affine"
        out = self.half * (2 if self.affine else 1)
        self.net = CouplingNet(channels - self.half, config.width, out, config.activation)

    def _log_s_t(self, x_b: Tensor, kernels: NetKernels | None) -> tuple[Tensor | None, Tensor]:
        h = self.net(x_b, kernels)
        if not self.affine:
            return None, h
        log_s, t = h.chunk(2, 1)
        return AFFINE_BOUND * torch.tanh(log_s / AFFINE_BOUND), t

    def forward(self, x: Tensor, kernels: NetKernels | None = None) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.split([self.half, x.shape[1] - self.half], 1)
        log_s, t = self._log_s_t(x_b, kernels)
        if log_s is None:
            return torch.cat([x_a + t, x_b], 1), x.new_zeros(len(x))
        return torch.cat([x_a * log_s.exp() + t, x_b], 1), log_s.sum((1, 2, 3))

    def inverse(self, y: Tensor, kernels: NetKernels | None = None) -> Tensor:
        y_a, x_b = y.split([self.half, y.shape[1] - self.half], 1)
        log_s, t = self._log_s_t(x_b, kernels)
        x_a = y_a - t if log_s is None else (y_a - t) * (-log_s).exp()
        return torch.cat([x_a, x_b], 1)


class Step(nn.Module):
    """One step of flow (fig. 2, left): actnorm, invertible 1x1 convolution, coupling.

    The first two are affine in each pixel, so they run as one convolution.
    """

    def __init__(self, channels: int, config: GlowConfig) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.conv = InvertibleConv(channels)
        self.coupling = Coupling(channels, config)

    def forward(self, x: Tensor, kernels: StepKernels | None = None) -> tuple[Tensor, Tensor]:
        k = kernels or fold([self], x.shape[-2:])[0]
        y, ladj = self.coupling(F.conv2d(x, k.weight, k.bias), k.net)
        return y, ladj + _pixels(x) * k.ladj

    def inverse(self, y: Tensor, kernels: StepKernels | None = None) -> Tensor:
        k = kernels or fold([self], y.shape[-2:], inverse=True)[0]
        return F.conv2d(self.coupling.inverse(y, k.net), k.weight, k.bias)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Data-dependent initialisation on one batch; returns what the initialised step makes of it."""
        self.norm.initialise(x)
        h = self.conv(self.norm(x)[0])[0]
        self.coupling.net.initialise(h[:, self.coupling.half :])
        return self.coupling(h)[0]


# --------------------------------------------------------------------------------------- squeeze, priors, levels


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4C, H/2, W/2): each 2x2 block of pixels becomes channels."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    return F.pixel_shuffle(x, 2)


def _pixels(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]


def _bounded(log_s: Tensor) -> Tensor:
    return PRIOR_BOUND * torch.tanh(log_s / PRIOR_BOUND)


class SplitPrior(nn.Module):
    """Sets half the channels aside as N(mean, s^2) given the other half, standardised: eps = (h - mean) / s."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        out = 2 * (channels - self.half)
        self.conv = EdgeConv(self.half, out, std=0.0)
        self.bias = nn.Parameter(torch.zeros(out))
        self.log_scale = nn.Parameter(torch.zeros(out))

    def _mean_log_s(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        scale = (3 * self.log_scale).exp()
        mean, log_s = self.conv(kept, scale, self.bias * scale).chunk(2, 1)
        return mean, _bounded(log_s)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (B, C, H, W) -> kept (B, C/2, H, W), eps (B, C/2, H, W), ladj (B,)."""
        kept, aside = h[:, : self.half], h[:, self.half :]
        mean, log_s = self._mean_log_s(kept)
        return kept, (aside - mean) * (-log_s).exp(), -log_s.sum((1, 2, 3))

    def inverse(self, kept: Tensor, eps: Tensor) -> Tensor:
        mean, log_s = self._mean_log_s(kept)
        return torch.cat([kept, mean + log_s.exp() * eps], 1)


class TopPrior(nn.Module):
    """The deepest level's N(mean, s^2), one mean and scale a channel, standardised as the others are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_s = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        log_s = _bounded(self.log_s)
        eps = (h - self.mean[:, None, None]) * (-log_s).exp()[:, None, None]
        return eps, -_pixels(h) * log_s.sum().expand(len(h))

    def inverse(self, eps: Tensor) -> Tensor:
        return eps * _bounded(self.log_s).exp()[:, None, None] + self.mean[:, None, None]


def run_steps(steps: nn.ModuleList, h: Tensor, kernels: list[StepKernels] | None = None) -> tuple[Tensor, Tensor]:
    """h (B, C, H, W) -> output of the last step, ladj (B,) of all; without `kernels` each step folds its own."""
    ladj = h.new_zeros(len(h))
    for step, k in zip(steps, kernels or [None] * len(steps), strict=True):
        h, step_ladj = step(h, k)
        ladj = ladj + step_ladj
    return h, ladj


def run_folded(steps: nn.ModuleList, h: Tensor) -> tuple[Tensor, Tensor]:
    """As `run_steps`, with the kernels of all steps folded at once."""
    return run_steps(steps, h, fold(steps, h.shape[-2:]))


class Level(nn.Module):
    """Squeeze, K steps of flow, and the prior of what stays here: all of it at the deepest level, else half."""

    chain = staticmethod(run_folded)  # training may choose one that keeps less for the way back: glowkit.memory

    def __init__(self, channels: int, config: GlowConfig, last: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList(Step(channels, config) for _ in range(config.steps))
        self._kept: tuple[tuple, dict[bool, list[StepKernels]]] = (), {}
        self.prior = TopPrior(channels) if last else SplitPrior(channels)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """x (B, C, H, W) -> kept for the next level (None at the last), eps of this level, ladj (B,)."""
        h = squeeze(x)
        if torch.is_grad_enabled():
            h, ladj = self.chain(self.steps, h)
        else:
            h, ladj = run_steps(self.steps, h, self._kernels(h.shape[-2:], inverse=False))
        if isinstance(self.prior, TopPrior):
            eps, prior_ladj = self.prior(h)
            return None, eps, ladj + prior_ladj
        kept, eps, prior_ladj = self.prior(h)
        return kept, eps, ladj + prior_ladj

    def inverse(self, kept: Tensor | None, eps: Tensor) -> Tensor:
        h = self.prior.inverse(eps) if kept is None else self.prior.inverse(kept, eps)
        size = h.shape[-2:]
        kernels = fold(self.steps, size, inverse=True) if torch.is_grad_enabled() else self._kernels(size, inverse=True)
        for step, k in zip(reversed(self.steps), reversed(kernels), strict=True):
            h = step.inverse(h, k)
        return unsqueeze(h)

    @torch.no_grad()
    def _kernels(self, size: tuple[int, int], inverse: bool) -> list[StepKernels]:
        """Of all steps, kept until a parameter changes: folding them takes as long as an image does."""
        dtype = self.steps[0].coupling.net.compute_dtype
        state = size, dtype, *((p.data_ptr(), p._version, p.dtype) for p in self.steps.parameters())
        if self._kept[0] != state:
            self._kept = state, {}
        kept = self._kept[1]
        if inverse not in kept:
            nets = [k.net for k in kept[not inverse]] if kept else None
            kept[inverse] = fold(self.steps, size, inverse, nets)
        return kept[inverse]


# ---------------------------------------------------------------------------------------------------------- Glow


class Glow(nn.Module):
    """The multi-scale flow of fig. 2 (right), from quantised images to one flat standard normal vector.

    `forward`/`inverse` map centred pixels v = x - 1/2 (B, 3, H, W) to latents z (B, D), D = 3HW, differentiably.
    `encode`/`decode` map images to latents without gradients. z holds the levels one after the other, shallow to
    deep (`level_slices`), each flattened from (C, H, W).
    """

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = 3 * config.image_size**2
        self.level_shapes: list[tuple[int, int, int]] = []
        levels, channels, size = [], 3, config.image_size
        for depth in range(config.levels):
            channels, size, last = 4 * channels, size // 2, depth == config.levels - 1
            levels.append(Level(channels, config, last))
            channels = channels if last else channels // 2
            self.level_shapes.append((channels, size, size))
        self.levels = nn.ModuleList(levels)
        ends = torch.tensor([math.prod(shape) for shape in self.level_shapes]).cumsum(0).tolist()
        self.level_slices = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

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

    # -- images

    def dequantise(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Images to centred pixels in (-1/2, 1/2): the centre of each pixel's bin, or a uniform draw from it.

        x (B, 3, H, W), uint8 or float in [0, 1]; a new tensor is returned, in the model's dtype.
        """
        size = self.config.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise GlowkitError(f"images of shape {tuple(x.shape)}: this model takes (B, 3, {size}, {size})")
        parameter = next(self.parameters())
        x, bins = x.to(parameter.device), 2**self.config.bits
        if x.dtype == torch.uint8:
            index = (x >> (8 - self.config.bits)).to(parameter.dtype)
        elif x.is_floating_point():
            index = (x.to(parameter.dtype) * bins).floor().clamp(0, bins - 1)
        else:
            raise GlowkitError(f"images of type {x.dtype}: this model takes uint8, or floats in [0, 1]")
        if noise is None:
            return (index + 0.5) / bins - 0.5
        return (index + torch.rand(x.shape, generator=noise, device=noise.device).to(index)) / bins - 0.5

    def quantise(self, x: Tensor) -> Tensor:
        """What the model sees of x at its depth of n bits: bin centres, float in [0, 1]."""
        return self.dequantise(x) + 0.5

    @torch.no_grad()
    def encode(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """x (B, 3, H, W) uint8 or float in [0, 1] -> z (B, D).

        `noise=None` encodes bin centres, the same z each time; a generator draws the dequantisation noise that the
        model was trained with, so that z follows the model's own latent distribution.
        """
        return torch.cat([self(self.dequantise(part, noise))[0] for part in x.split(64)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """z (B, D) -> x (B, 3, H, W) float, clamped to [0, 1]; what is not finite stays so."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise GlowkitError(f"latents of shape {tuple(z.shape)}: this model takes (B, {self.dim})")
        parameter = next(self.parameters())
        v = torch.cat([self.inverse(part.to(parameter)) for part in z.split(64)])
        # +inf clamped to 1 would pass for white.
        return torch.where(v.isfinite(), (v + 0.5).clamp(0, 1), torch.nan)

    def log_prob_of(self, z: Tensor, ladj: Tensor) -> Tensor:
        """Nats (B,): log N(z; 0, I) + ladj (the integrand of eq. 2.1), less the size of a bin: log p of the image."""
        log_normal = -0.5 * (z.square().sum(1) + self.dim * math.log(2 * math.pi))
        return log_normal + ladj - self.dim * self.config.bits * math.log(2)

    @torch.no_grad()
    def log_prob(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """log p(x) in nats (B,) of the quantised image, with the density read at the point `encode` reads it."""
        return torch.cat([self.log_prob_of(*self(self.dequantise(part, noise))) for part in x.split(64)])

    def bits_per_dim(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Bits per dimension (B,), with uniform noise: only then is it a bound on a code length (Theis et al. 2016).

        Without a generator one seeded with 0 is used, so the figure is the same each time.
        """
        noise = noise or torch.Generator(next(self.parameters()).device).manual_seed(0)
        return -self.log_prob(x, noise) / (self.dim * math.log(2))

    def sample(self, n: int, temperature: float = 0.7, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 3, H, W) float in [0, 1] from z ~ N(0, temperature^2 I)."""
        device = next(self.parameters()).device
        return self.decode(temperature * torch.randn(n, self.dim, generator=generator, device=device))

    @torch.no_grad()
    def initialise(self, x: Tensor, noise: torch.Generator | None = None) -> None:
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
        and it does not undo `encode` to more than that.
        """
        nets = [module for module in self.modules() if isinstance(module, CouplingNet)]
        for net in nets:
            net.compute_dtype = dtype
        try:
            yield
        finally:
            for net in nets:
                net.compute_dtype = None

    def first_nonfinite(self, v: Tensor) -> str | None:
        """Name of the first layer whose output on v is not finite, None if all are: the culprit of a lost run."""
        culprit: list[str] = []

        def watch(name: str):
            def hook(module: nn.Module, inputs: tuple, output: object) -> None:
                tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if t is not None]
                if not culprit and not all(t.isfinite().all() for t in tensors):
                    culprit.append(name)

            return hook

        hooks = [module.register_forward_hook(watch(name)) for name, module in self.named_modules() if name]
        try:
            with torch.no_grad():
                self(v)
        finally:
            for hook in hooks:
                hook.remove()
        return culprit[0] if culprit else None
