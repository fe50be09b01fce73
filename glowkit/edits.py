"""Did an edit work, what else did it change, and how far is it from the truth? (Sections 4.2 and 4.5.)

Pictures x are float tensors (B, 3, H, W) in [0, 1], as `model.decode` returns them. A `Judge` sees the pictures alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from glowkit.flow import Glow
from glowkit.judge import Judge


def finite(x: Tensor) -> np.ndarray:
    """bool (B,): is every pixel of the picture a number?"""
    return x.flatten(1).isfinite().all(1).cpu().numpy()


def succeeded(judge: Judge, x: Tensor, attribute: str, wanted: bool = True) -> np.ndarray:
    """bool (B,): the picture is finite and the judge sees the attribute in it (`wanted=False`: sees none)."""
    return (judge.says(x, attribute) == wanted) & finite(x)


def cross_fitted(success: ArrayLike) -> np.ndarray:
    """(n,): the outcome for each face with the row (the alpha) that did best on the *other* half of faces.

    success (rows, n). Choosing and scoring on the same faces would flatter the choice. Of equally good rows
    the first is taken.
    """
    success = np.asarray(success, float)
    half = np.arange(success.shape[1]) % 2 == 0
    chosen = np.where(half, success[:, ~half].mean(1).argmax(), success[:, half].mean(1).argmax())
    return success[chosen, np.arange(success.shape[1])]


def side_effects(judge: Judge, before: Tensor, after: Tensor, attribute: str) -> float:
    """Mean absolute change of the judge's probability of all attributes but the one that was edited, in [0, 1]."""
    change = (judge(after.nan_to_num(0.0)) - judge(before)).abs().cpu().numpy()
    return np.delete(change, judge.attributes.index(attribute), axis=1).mean()


def rms_error(model: Glow, pictures: Tensor, truth: Tensor, where: Tensor | None = None) -> np.ndarray:
    """(B,): root mean square error of pictures, as the model sees them, to the truth, pixels in [0, 1].

    where (B, 1, H, W) bool: over these pixels only. A pixel that is not finite counts as black.
    """
    where = torch.ones_like(truth) if where is None else where.float().expand_as(truth)
    square = (model.quantise(pictures.nan_to_num(0.0)) - truth).square() * where
    return (square.sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1)).sqrt().cpu().numpy()
