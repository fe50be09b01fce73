"""The round-trip certificate of a model: how exactly decode inverts encode, measured image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glowkit import intervals
from glowkit.image_flow import BIN_CENTRES, ImageFlow

MEDIAN_LIMIT, WORST_LIMIT = 1e-5, 1e-3


@dataclass(frozen=True)
class Certificate:
    """pixel_errors (n,): the largest |decode(encode(x)) - x| of each image, pixels in [0, 1], x at bin centres.

    latent_errors (n,): |encode(decode(z)) - z| / |z| for as many samples z ~ N(0, 0.7^2 I), before quantisation.
    bits_per_dim (n,): with uniform noise.
    """

    pixel_errors: np.ndarray
    latent_errors: np.ndarray
    bits_per_dim: np.ndarray

    @property
    def holds(self) -> bool:
        """Median of the largest pixel error at most 1e-5 and worst at most 1e-3, every value finite."""
        return bool(
            np.median(self.pixel_errors) <= MEDIAN_LIMIT
            and self.pixel_errors.max() <= WORST_LIMIT
            and np.isfinite(self.latent_errors).all()
        )

    def __str__(self) -> str:
        n, bits = len(self.pixel_errors), f"{self.bits_per_dim.mean():.4f}"
        if n > 1:
            mean, (_, high), _ = intervals.mean(self.bits_per_dim)
            bits += f" +- {high - mean:.4f} (95%)"
        return (
            f"decode(encode(x)) over {n} images: largest pixel error {np.median(self.pixel_errors):.1e} (median), "
            f"{self.pixel_errors.max():.1e} (worst); limits {MEDIAN_LIMIT:.0e} and {WORST_LIMIT:.0e}\n"
            f"encode(decode(z)) over {len(self.latent_errors)} samples at 0.7: relative error "
            f"{np.median(self.latent_errors):.1e} (median), {self.latent_errors.max():.1e} (worst)\n"
            f"bits/dim {bits}\n"
            f"the certificate {'holds' if self.holds else 'does NOT hold'}"
        )


@torch.no_grad()
def certify(model: ImageFlow, x: Tensor, seed: int = 0) -> Certificate:
    """Measures the round trip on images x (n, 3, H, W), uint8 or float in [0, 1], and on as many samples."""
    pixel, latent = [], []
    generator = torch.Generator().manual_seed(seed)
    for part in x.split(64):
        back = model.decode(model.encode(part, noise=BIN_CENTRES))
        pixel.append((back - model.quantise(part)).abs().flatten(1).amax(1).nan_to_num(torch.inf))
        z = 0.7 * torch.randn(len(part), model.dim, generator=generator).to(back)
        latent.append((model(model.inverse(z))[0] - z).norm(dim=1) / z.norm(dim=1))
    return Certificate(
        torch.cat(pixel).cpu().numpy(), torch.cat(latent).cpu().numpy(), model.bits_per_dim(x).cpu().numpy()
    )
