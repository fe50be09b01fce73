"""Arithmetic on latents (section 4.2): paths between faces, adding a feature, reflecting a face.

Latents z are float tensors (B, D) or (D,), as `model.encode` gives them; directions and means are what a
`Study` holds, arrays (D,). Nothing here decodes: `model.decode(add(z, delta, 2))` reads as it is written.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from glowkit.errors import GlowkitError

# ------------------------------------------------------------------------------------------------------ paths


def straight(a: Tensor, b: Tensor, t: ArrayLike) -> Tensor:
    """(1 - t) a + t b, eq. 4.1. a, b (..., D); t a number or (T,): with a, b (D,) the path is (T, D)."""
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    return (1 - t) * a + t * b


def norm_preserving(a: Tensor, b: Tensor, t: ArrayLike, centre: ArrayLike | None = None) -> Tensor:
    """The straight path, each point moved along its ray to norm (1 - t)|a| + t|b|, eq. 4.2. Shapes as there.

    Norms and rays are from the origin, as printed, or from `centre` (D,). GlowkitError where the straight
    path meets that point: it has no ray there.
    """
    middle = torch.zeros_like(a) if centre is None else _like(centre, a)
    a, b = a - middle, b - middle
    x = straight(a, b, t)
    wanted = straight(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), t)
    norm = x.norm(dim=-1, keepdim=True)
    if not (norm > 0).all():
        raise GlowkitError("norm-preserving path: the straight path meets the centre, which has no direction")
    return middle + wanted / norm * x


def slerp(a: Tensor, b: Tensor, t: ArrayLike) -> Tensor:
    """Spherical interpolation: the arc from a to b at constant angular speed (White 2016). Shapes as above.

    Where a and b are parallel the arc is the straight path; GlowkitError where they are opposite.
    """
    cosine = F.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[..., None]
    angle = torch.acos(cosine)
    if (cosine <= -1).any():
        raise GlowkitError("slerp: the end points are opposite; no arc between them is the shortest")
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    sine = torch.where(angle > 1e-4, angle.sin(), 1)
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine
    return torch.where(angle > 1e-4, arc, (1 - t) * a + t * b)


# ------------------------------------------------------------------------------------------------- arithmetic


def add(z: Tensor, direction: ArrayLike, alpha: ArrayLike = 1.0) -> Tensor:
    """z + alpha (mu_feature - mu_not_feature), eq. 4.6: eq. 4.4 at alpha = 1, its removal, eq. 4.5, at -1.

    z (..., D); direction (D,), as `study.direction(attribute)`; alpha one number, or one for each latent.
    """
    alpha = torch.as_tensor(alpha, dtype=z.dtype, device=z.device)[..., None]
    return z + alpha * _like(direction, z)


def add_to_pixels(x: Tensor, direction: ArrayLike, alpha: float = 1.0) -> Tensor:
    """The control: the same arithmetic on the picture itself. x (B, 3, H, W) in [0, 1]; direction (D,)."""
    return (x + alpha * _like(direction, x).view(x.shape[1:])).clamp(0, 1)


def calibrated_alpha(z: Tensor, direction: ArrayLike, mean: ArrayLike) -> Tensor:
    """(B,): the alpha that takes each latent's projection on the direction to that of a class mean (D,).

    One step for everyone (eq. 4.6) overshoots some faces and leaves others short; this one knows where z is.
    """
    direction = _like(direction, z)
    return (_like(mean, z) - z) @ direction / direction.square().sum()


def reflect(z: Tensor, alpha: float = 0.5, centre: ArrayLike | None = None) -> Tensor:
    """-alpha z, the specular image of fig. 17; about `centre` (D,) it is centre - alpha (z - centre)."""
    middle = torch.zeros_like(z) if centre is None else _like(centre, z)
    return middle - alpha * (z - middle)


def _like(vector: ArrayLike, z: Tensor) -> Tensor:
    vector = torch.as_tensor(vector, dtype=z.dtype, device=z.device)
    if vector.ndim != 1:
        raise GlowkitError(f"a direction or mean of shape {tuple(vector.shape)}: one vector (D,) is wanted")
    return vector
