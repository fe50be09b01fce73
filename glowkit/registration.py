"""How far a part of a picture has moved against a reference, to a fraction of a pixel, from the pixels alone.

Gauss-Newton on the squared difference of a window around a point (Lucas & Kanade 1981). It knows nothing of
landmarks or crops, so it can judge them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from torch import Tensor

ITERATIONS = 20


def displacement(x: Tensor, reference: Tensor, points: np.ndarray, radius: float) -> np.ndarray:
    """Displacement (B, P, 2), x and y in pixels, of the windows about `points` between the reference and x.

    x, reference (B, 3, H, W) uint8 or float, the same scenes; points (B, P, 2) in pixels of the reference,
    with (0, 0) at the middle of the first pixel; radius: the standard deviation of the window's Gaussian
    weight, in pixels. Displacements up to about the radius are found.
    """
    found = []
    for picture, other, where in zip(x.cpu().numpy(), reference.cpu().numpy(), points, strict=True):
        moved, fixed = _splines(picture), _splines(other)
        found.append([_one(moved, fixed, point, radius) for point in where])
    return np.array(found)


def rms_distance(offsets: np.ndarray) -> float:
    """Root mean square length of offsets (..., 2), such as `displacement` finds, in their unit."""
    return np.sqrt((offsets**2).sum(-1).mean())


def _one(moved: np.ndarray, fixed: np.ndarray, point: np.ndarray, radius: float) -> np.ndarray:
    reach = int(2 * radius + 0.5)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    weight = np.exp(-(dx**2 + dy**2) / (2 * radius**2))
    at = point + np.stack([dx, dy], 1)  # (K, 2)
    target, shift = _sample(fixed, at), np.zeros(2)
    for _ in range(ITERATIONS):
        here = at + shift
        gradient = np.stack([_sample(moved, here + h) - _sample(moved, here - h) for h in np.eye(2) / 2])
        gap = target - _sample(moved, here)  # (3, K)
        normal = np.einsum("ick,jck,k->ij", gradient, gradient, weight)
        # Where nothing varies nothing can be seen to move: the least squares solution is 0 there.
        shift = shift + np.linalg.lstsq(normal, np.einsum("ick,ck,k->i", gradient, gap, weight))[0]
    return shift


def _splines(picture: np.ndarray) -> np.ndarray:
    """Cubic splines of (3, H, W), after a blur that makes the brightness nearly linear over a step."""
    return np.stack([ndimage.spline_filter(ndimage.gaussian_filter(c.astype(float), 0.7)) for c in picture])


def _sample(splines: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The three channels at points (K, 2): (3, K)."""
    rows = at.T[::-1]
    return np.stack([ndimage.map_coordinates(c, rows, mode="nearest", prefilter=False) for c in splines])
