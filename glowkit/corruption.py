"""Component corruption (section 4.4): set one component of a latent to 100, see how far the change reaches.

Pictures leave here unclipped, since clipped changes could not add up; what one sees is the clipped picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glowkit.errors import GlowkitError
from glowkit.image_flow import ImageFlow

VALUE = 100.0  # "absolutely out of range": the thesis's value for a component that should be standard normal
LOCAL = 1 / 8  # a spot: 90% of the change within this many picture widths, a disc of 5% of the picture


class Site(NamedTuple):
    """Where a component of the latent sits: its level (1 is the shallowest), its channel, and its cell.

    The cell is the square of pixels that the level's squeezes put there: x and y of its centre and its side,
    in picture widths.
    """

    level: int
    channel: int
    x: float
    y: float
    cell: float


def site(model: ImageFlow, component: int) -> Site:
    """The site of one component of the flat latent (D,)."""
    if not 0 <= component < model.dim:
        raise GlowkitError(f"component {component}: this model's latents have 0 to {model.dim - 1}")
    level = next(k for k, where in enumerate(model.level_slices) if component < where.stop)
    _, height, width = shape = model.level_shapes[level]
    channel, row, column = np.unravel_index(component - model.level_slices[level].start, shape)
    return Site(level + 1, int(channel), (int(column) + 0.5) / width, (int(row) + 0.5) / height, 1 / width)


def draw(model: ImageFlow, per_level: int, seed: int = 0) -> np.ndarray:
    """(L, per_level) components, drawn at random within each level without repetition."""
    rng = np.random.default_rng(seed)
    smallest = min(where.stop - where.start for where in model.level_slices)
    if not 1 <= per_level <= smallest:
        raise GlowkitError(
            f"{per_level} components a level: this model's levels have {smallest} or more; want 1 to {smallest}"
        )
    return np.stack(
        [where.start + rng.choice(where.stop - where.start, per_level, replace=False) for where in model.level_slices]
    )


@torch.no_grad()
def corrupt(model: ImageFlow, z: Tensor, sets: Sequence[int | np.ndarray], value: float = VALUE) -> Tensor:
    """Pictures (k, 3, H, W) of a latent z (D,) in each of which one set of components was set to `value`.

    A set is one component or an array of them, none for the face itself. Pixels are not clipped to [0, 1].
    """
    parts = []
    for start in range(0, len(sets), 32):
        batch = z.repeat(len(sets[start : start + 32]), 1)
        for row, components in zip(batch, sets[start : start + 32], strict=True):
            row[components] = value
        parts.append(model.inverse(batch) + 0.5)
    return torch.cat(parts)


def visible_change(pictures: Tensor, original: Tensor) -> Tensor:
    """What one sees change from a face (3, H, W) to pictures (k, 3, H, W): both are clipped to [0, 1] first."""
    return pictures.clamp(0, 1) - original.clamp(0, 1)


def distance(model: ImageFlow, first: int, second: int) -> float:
    """How far apart in the picture the cells of two components are, centre to centre, in picture widths."""
    a, b = site(model, first), site(model, second)
    return float(np.hypot(a.x - b.x, a.y - b.y))


def energy(change: Tensor) -> Tensor:
    """(k,): sums of squares of changes (k, 3, H, W)."""
    return change.double().square().flatten(1).sum(1)


def centroid(change: Tensor) -> Tensor:
    """(k, 2): x and y of the centre of energy of changes (k, 3, H, W), in picture widths."""
    weight, place = _weights(change)
    return weight @ place


def radius(change: Tensor, share: float = 0.9) -> Tensor:
    """(k,): radius about its centroid that holds `share` of a change's energy, in picture widths.

    Changes (k, 3, H, W). 0 is a single pixel; no change at all counts as an even one, which has 0.56 at share
    0.9. A change that is not finite has radius infinity.
    """
    weight, place = _weights(change)
    distance = torch.cdist(centroid(change)[:, None], place.expand(len(change), -1, -1))[:, 0]
    distance, order = distance.sort(1)
    held = weight.gather(1, order).cumsum(1)
    # The last pixel holds all there is, whatever rounding says of the sum.
    first = (held >= share * held[:, -1:]).int().argmax(1, keepdim=True)
    found = distance.gather(1, first)[:, 0]
    return torch.where(change.flatten(1).isfinite().all(1), found, torch.inf)


def _weights(change: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's share of a change's energy (k, HW), even if there is none, and its place (HW, 2)."""
    if change.ndim != 4:
        raise GlowkitError(f"changes of shape {tuple(change.shape)}: want (k, 3, H, W)")
    height, width = change.shape[-2:]
    power = change.double().nan_to_num(0.0, 0.0, 0.0).square().sum(1).flatten(1)
    total = power.sum(1, keepdim=True)
    weight = torch.where(total > 0, power / total.clamp(min=1e-300), 1 / (height * width))
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return weight, torch.stack([x.flatten(), y.flatten()], 1).double() / width


def predicted(face: Tensor, singles: Tensor) -> Tensor:
    """The picture (3, H, W) that additivity foresees: a face plus the change in each of `singles` (k, 3, H, W).

    None of them clipped: the result may leave [0, 1].
    """
    return face + (singles - face).sum(0)


def r2(actual: Tensor, foreseen: Tensor, face: Tensor) -> float:
    """The share of the change from `face` to `actual` that a picture foresees: 1 is all, 0 is no change."""
    error, change = (actual - foreseen).double(), (actual - face).double()
    return float(1 - error.square().sum() / change.square().sum())
