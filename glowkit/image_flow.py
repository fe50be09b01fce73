"""Images on the one side of an invertible model, latents on the other: what studies, measures and benches ask of it.

A flow maps centred pixels to latents. Pixels come as bytes, so between an image and a flow there are bins: which
point of its bin stands for a pixel, and what a density at that point says of the image (Theis et al. 2016).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glowkit.errors import GlowkitError

# For `noise`: every pixel is read at the centre of its bin, so that an image has one latent. A generator draws a
# uniform point of each bin instead, as in training, so that latents follow the distribution that the model learned.
BIN_CENTRES = None
BEYOND = 1e-3  # of 0 and 1: as far may floats be by rounding, a quarter of a step of 8 bits


class ImageFlow(nn.Module, ABC):
    """An invertible model of images (3, S, S), S = image_size, quantised to `bits` bits a channel.

    A subclass says what `forward` and `inverse` are, and has at least one parameter: images get its dtype and its
    device. `dim` is D = 3 S^2. A latent z (B, D) holds one level after the other, shallow to deep, each flattened from
    one of `level_shapes` (C, H, W); `level_slices` says where. Without levels all of z is one, of an image's shape.

    >>> class Reversed(ImageFlow):  # the simplest: all numbers of an image in reverse order, by a scale
    ...     def __init__(self):
    ...         super().__init__(image_size=8, bits=5)
    ...         self.scale = nn.Parameter(torch.tensor(2.0))
    ...     def forward(self, v):
    ...         return self.scale * v.flatten(1).flip(1), (self.dim * self.scale.log()).expand(len(v))
    ...     def inverse(self, z):
    ...         return (z / self.scale).flip(1).view(-1, 3, 8, 8)
    >>> model, x = Reversed(), torch.rand(4, 3, 8, 8)
    >>> torch.allclose(model.decode(model.encode(x, noise=BIN_CENTRES)), model.quantise(x))
    True
    """

    def __init__(self, image_size: int, bits: int, level_shapes: list[tuple[int, int, int]] | None = None) -> None:
        super().__init__()
        self.image_size, self.bits, self.dim = image_size, bits, 3 * image_size**2
        self.level_shapes = level_shapes or [(3, image_size, image_size)]
        ends = torch.tensor([math.prod(shape) for shape in self.level_shapes]).cumsum(0).tolist()
        self.level_slices = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    @abstractmethod
    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Centred pixels v = x - 1/2 (B, 3, S, S) -> z (B, D), ladj (B,) = log |det dz/dv| in nats; differentiable."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z (B, D) -> v (B, 3, S, S); differentiable."""

    def dequantise(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> Tensor:
        """Images to centred pixels in (-1/2, 1/2): the centre of each pixel's bin, or a uniform draw from it.

        x (B, 3, S, S), uint8 or float in [0, 1]; a new tensor is returned, in the model's dtype. GlowkitError for
        any other shape or type, and for floats beyond [0, 1] by more than rounding.
        """
        size = self.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise GlowkitError(f"images of shape {tuple(x.shape)}: this model takes (B, 3, {size}, {size})")
        parameter, bins = next(self.parameters()), 2**self.bits
        x = x.to(parameter.device)
        if x.dtype == torch.uint8:
            index = (x >> (8 - self.bits)).to(parameter.dtype)
        elif x.is_floating_point():
            if ((x < -BEYOND) | (x > 1 + BEYOND)).any():
                low, high = x.min().item(), x.max().item()
                raise GlowkitError(
                    f"images with floats from {low:.4g} to {high:.4g}: this model takes [0, 1], or uint8"
                )
            index = (x.to(parameter.dtype) * bins).floor().clamp(0, bins - 1)
        else:
            raise GlowkitError(f"images of type {x.dtype}: this model takes uint8, or floats in [0, 1]")
        if noise is BIN_CENTRES:
            return (index + 0.5) / bins - 0.5
        return (index + torch.rand(x.shape, generator=noise, device=noise.device).to(index)) / bins - 0.5

    def quantise(self, x: Tensor) -> Tensor:
        """What the model sees of x at its depth of n bits: bin centres, float in [0, 1]."""
        return self.dequantise(x, noise=BIN_CENTRES) + 0.5

    @torch.no_grad()
    def encode(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> Tensor:
        """x (B, 3, S, S) uint8 or float in [0, 1] -> z (B, D).

        `noise=BIN_CENTRES` gives the same z each time; a generator draws the dequantisation noise that the model was
        trained with, so that z follows the model's own latent distribution.
        """
        return torch.cat([self(self.dequantise(part, noise))[0] for part in x.split(64)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """z (B, D) -> x (B, 3, S, S) float, clamped to [0, 1]; what is not finite stays so."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise GlowkitError(f"latents of shape {tuple(z.shape)}: this model takes (B, {self.dim})")
        parameter = next(self.parameters())
        v = torch.cat([self.inverse(part.to(parameter)) for part in z.split(64)])
        # +inf clamped to 1 would pass for white.
        return torch.where(v.isfinite(), (v + 0.5).clamp(0, 1), torch.nan)

    def log_prob_of(self, z: Tensor, ladj: Tensor) -> Tensor:
        """Nats (B,): log N(z; 0, I) + ladj (the integrand of eq. 2.1), less the size of a bin: log p of the image."""
        log_normal = -0.5 * (z.square().sum(1) + self.dim * math.log(2 * math.pi))
        return log_normal + ladj - self.dim * self.bits * math.log(2)

    @torch.no_grad()
    def log_prob(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> Tensor:
        """log p(x) in nats (B,) of the quantised image, with the density read at the point `encode` reads it."""
        return torch.cat([self.log_prob_of(*self(self.dequantise(part, noise))) for part in x.split(64)])

    def bits_per_dim(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits per dimension (B,), with uniform noise: only then is it a bound on a code length (Theis et al. 2016).

        Without a generator one seeded with 0 is used, of the CPU, so the figure is the same each time and everywhere.
        """
        return -self.log_prob(x, noise=generator or torch.Generator().manual_seed(0)) / (self.dim * math.log(2))

    def sample(self, n: int, temperature: float = 0.7, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 3, S, S) float in [0, 1] from z ~ N(0, temperature^2 I).

        z is drawn where the generator is: one of the CPU gives the same images on any device, up to rounding.
        """
        device = (generator or next(self.parameters())).device
        return self.decode(temperature * torch.randn(n, self.dim, generator=generator, device=device))

    @contextmanager
    def computing_in(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Within, a flow that can computes in `dtype` for speed; one that cannot, as here, goes on as it is."""
        yield

    def first_nonfinite(self, v: Tensor) -> str | None:
        """Name of the first layer whose output on v is not finite, None if all are: the culprit of a lost run."""
        culprit: list[str] = []

        def watch(name: str):
            def hook(module: nn.Module, inputs: tuple, output: object) -> None:
                tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)]
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
