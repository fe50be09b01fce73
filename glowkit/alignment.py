"""The eye-aligned crop of section 3.1: from a picture and two eye points to a square with the eyes in place.

Points are x, y in pixels with (0, 0) at the middle of the first pixel, as landmark files have them. Relative
places are fractions of the image's side, so a relative place r lies at r * side - 0.5.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from glowkit.errors import GlowkitError

# Where the original Glow's aligner puts the eyes, relative to the crop.
EYES = ((0.371, 0.480), (0.629, 0.480))
MAX_SIZE = 2048  # pixels a side of a crop


def similarity(left_eye: Sequence[float], right_eye: Sequence[float], size: int, eyes=EYES) -> np.ndarray:
    """The rotation, scale and shift that takes two eye points to their place in a crop (section 3.1).

    Returns the 2 x 3 matrix M with  p_crop = M[:, :2] @ p + M[:, 2]  in pixels. Raises GlowkitError if the
    eyes coincide or are not finite.
    """
    # A similarity of the plane is w = a p + b over the complex numbers; two points fix a and b.
    p, q = complex(*left_eye), complex(*right_eye)
    half = complex(0.5, 0.5)
    u, v = size * complex(*eyes[0]) - half, size * complex(*eyes[1]) - half
    if not (np.isfinite(p) and np.isfinite(q)) or p == q:
        raise GlowkitError(
            f"eyes at {tuple(left_eye)} and {tuple(right_eye)}: two different points are needed"
        )
    a = (v - u) / (q - p)
    b = u - a * p
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def check_size(size: int) -> int:
    """The size, if a crop can have it."""
    if not 1 <= size <= MAX_SIZE:
        raise GlowkitError(f"size {size}: a crop has 1 to {MAX_SIZE} pixels a side")
    return size


def crop(image: Image.Image, left_eye, right_eye, size: int, eyes=EYES) -> torch.Tensor:
    """Cut a square out of `image` so that the eyes come to rest at `eyes` (relative to the square).

    Returns uint8 (3, size, size). Every crop pixel is the mean of the (bilinear) source over its own
    footprint, so nothing aliases when a large face shrinks; an enlarged face is interpolated bicubically.
    Beyond the edge of the image its outermost pixels repeat. Raises GlowkitError if the eyes coincide or the
    crop misses the image.
    """
    matrix = similarity(left_eye, right_eye, check_size(size), eyes)
    to_source = np.linalg.inv(matrix[:, :2])
    # Pixels are little squares here; count from the corner of the first: p = to_source @ p_crop + origin.
    origin = to_source @ (-0.5 - matrix[:, 2]) + 0.5
    shrink = math.sqrt(np.linalg.det(to_source))  # source pixels per crop pixel
    # A very large face is first averaged over blocks of factor x factor pixels, which bounds the work:
    # at most 8 source pixels per crop pixel remain.
    factor = max(1, int(shrink / 4))
    corners = size * np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) @ to_source.T + origin
    if (corners.max(0) <= 0).any() or (corners.min(0) >= image.size).any():
        raise GlowkitError(
            f"eyes at {tuple(map(float, left_eye))} and {tuple(map(float, right_eye))} put the whole crop "
            f"outside the {image.width} x {image.height} image"
        )
    # The part of the image in use, with a margin for the interpolation that may reach past the edge.
    low = np.maximum(np.floor(corners.min(0)) - 2 * factor, -factor).astype(int)
    blocks = np.ceil((np.minimum(corners.max(0), image.size) + 2 * factor - low) / factor).astype(int)
    x, y = (np.arange(low[i], low[i] + factor * blocks[i]).clip(0, image.size[i] - 1) for i in (0, 1))
    tile = np.asarray(image.convert("RGB"))[y][:, x]
    source = F.avg_pool2d(torch.from_numpy(tile).permute(2, 0, 1)[None].float(), factor)  # (1, 3, h, w)

    # Sample the crop's plane less than a source pixel apart, then average the samples of each crop pixel.
    samples = 1 if shrink <= 1.001 else math.ceil(shrink / factor) + 1
    # grid_sample counts the tile from -1 to 1: p_source = low + factor * blocks * (v + 1) / 2.
    scale = 2 / (factor * blocks)
    turn = torch.from_numpy(scale[:, None] * to_source).float()
    shift = torch.from_numpy(scale * (origin - low) - 1).float()
    u = (torch.arange(size * samples) + 0.5) / samples
    grid = torch.stack([u * turn[i, 0] + (u * turn[i, 1] + shift[i])[:, None] for i in (0, 1)], dim=2)[None]
    mode = "bicubic" if samples == 1 else "bilinear"
    out = F.grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)
    out = F.avg_pool2d(out, samples)
    return out[0].round().clamp(0, 255).to(torch.uint8)
