"""Image coordinates or face coordinates: where does an edit land if the face is elsewhere (figure 24)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glowkit.errors import GlowkitError


def displace(x: Tensor, dx: int, dy: int) -> Tensor:
    """Pictures (B, 3, H, W) moved by whole pixels, dx to the right and dy down; the border is repeated."""
    size = x.shape[-1]
    if max(abs(dx), abs(dy)) >= size:
        raise GlowkitError(f"displacement ({dx}, {dy}): it must be smaller than the picture's {size} pixels")
    rows = (torch.arange(size) - dy).clamp(0, size - 1)
    columns = (torch.arange(size) - dx).clamp(0, size - 1)
    return x[:, :, rows][..., columns]


def stay_and_follow(change: Tensor, displaced: Tensor, dx: int, dy: int) -> np.ndarray:
    """(B, 2): how much of an edit's change stays in the image and how much follows the face.

    change (B, 3, H, W) is what the edit did to each face where it was, displaced what it did to the same faces moved
    by (dx, dy). Least squares: displaced = stay * change + follow * (change, moved). An edit in image coordinates
    gives (1, 0), one in face coordinates (0, 1), one that no longer takes place (0, 0). NaN if a decode exploded.
    """
    if not (dx or dy):
        raise GlowkitError("stay_and_follow: a face that has not moved cannot tell staying from following")
    still, moved, seen = (t.flatten(1).double() for t in (change, displace(change, dx, dy), displaced))
    inner = torch.stack([torch.stack([(a * b).sum(1) for b in (still, moved)], 1) for a in (still, moved)], 1)
    outer = torch.stack([(a * seen).sum(1) for a in (still, moved)], 1)
    broken = ~(inner.flatten(1).isfinite().all(1) & outer.isfinite().all(1))
    inner[broken], outer[broken] = torch.eye(2, dtype=inner.dtype), torch.nan
    return torch.linalg.solve(inner, outer).cpu().numpy()


def coordinates(changes: Tensor, moves: Sequence[tuple[int, int]]) -> np.ndarray:
    """(M, B, 2): `stay_and_follow` of the same B faces edited at each of M displacements (dx, dy).

    changes (1 + M, B, 3, H, W): what the edit did where the faces were, then after each of the moves.
    """
    return np.stack([stay_and_follow(changes[0], c, *move) for c, move in zip(changes[1:], moves, strict=True)])
