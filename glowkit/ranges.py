"""How large the values get inside the inverse: the layer in which an edit leaves what real faces have (B06)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glowkit.flow import Glow
from glowkit.kernels import FoldedSteps
from glowkit.layers import SplitPrior


@torch.no_grad()
def inverse_ranges(model: Glow, z: Tensor) -> tuple[list[int], np.ndarray]:
    """Largest absolute value after each layer of the inverse, in the order it runs: deepest level to pixels.

    z (B, D) -> the level (1 is the shallowest) of each of the M layers, and (B, M). Compare an edit's row
    with those of real faces: the first layer beyond them is where the decoder leaves the ground it knows.
    """
    h: Tensor | None = None
    levels, ranges = [], []
    for depth in reversed(range(model.config.levels)):
        level = model.levels[depth]
        eps = z[:, model.level_slices[depth]].unflatten(1, model.level_shapes[depth])
        h = level.prior.inverse(h, eps) if isinstance(level.prior, SplitPrior) else level.prior.inverse(eps)
        for layer in (None, *reversed(level.steps)):
            h = h if layer is None else FoldedSteps([layer], h.shape[-2:]).inverse(h)
            levels.append(depth + 1)
            ranges.append(h.abs().flatten(1).amax(1))
        h = F.pixel_shuffle(h, 2)
    return levels, torch.stack(ranges, 1).cpu().numpy()
