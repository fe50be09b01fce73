"""Images of real numbers made into bytes, to be looked at.

A decode may explode. Pixels that are not finite become BROKEN, a magenta that no face has, so that a failure cannot
pass for a dark picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BROKEN = (250, 5, 250)  # not (255, 0, 255), which a pixel far out of range is clamped to


def to_pixels(x: Tensor) -> np.ndarray:
    """Float images (N, 3, H, W) in [0, 1] -> uint8 (N, H, W, 3), clipped; pixels that are not finite become
    BROKEN."""
    x = x.detach().cpu().float()
    finite = torch.isfinite(x).all(dim=1)
    pixels = (torch.nan_to_num(x).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    pixels[~finite.numpy()] = BROKEN
    return pixels
