"""Painting procedural faces, at any size and under any view of their frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glowkit.errors import GlowkitError
from glowkit.faces.geometry import EYES, relative_landmarks
from glowkit.faces.hair import back_hair, beard, front_hair, hat
from glowkit.faces.parts import age, body, brows, earrings, ears, eyes, glasses, head, mouth, nose
from glowkit.faces.population import Factors
from glowkit.faces.portrait import Portrait, backdrop

PARTS = (
    back_hair,
    body,
    ears,
    head,
    age,
    beard,
    eyes,
    brows,
    nose,
    mouth,
    front_hair,
    hat,
    earrings,
    glasses,
)


def paint(f: Factors, qx: Tensor, qy: Tensor, pixel: Tensor) -> Tensor:
    """Paint faces at points of their aligned frame.

    qx, qy float32 (B, 1, H, W) are relative to the frame, (0, 0) its upper left and (1, 1) its lower right
    corner, and may lie outside it; pixel (B, 1, 1, 1) is the width of a pixel in frame widths. Returns
    float32 (B, 3, H, W), on the device of qx, qy and pixel.
    """
    with qx.device:
        portrait = Portrait(f, qx, qy)
        canvas = backdrop(portrait, pixel)
        for part in PARTS:
            part(canvas, portrait)
    return canvas.rgb.clamp(0, 1)


def render(f: Factors, size: int = 64, device: str | torch.device = "cpu") -> Tensor:
    """Pictures of faces in the aligned frame, painted on `device`: uint8 (B, 3, size, size), size 32..256."""
    if not 32 <= size <= 256:
        raise GlowkitError(f"size = {size} is outside 32 .. 256 pixels")
    device = torch.device(device)
    grid = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
    out = torch.empty((len(f), 3, size, size), dtype=torch.uint8, device=device)
    # A grid stays in the processor's cache; a card needs so much work at a time that starting it costs nothing.
    chunk = max(1, (2**17 if device.type == "cpu" else 2**23) // size**2)
    for start in range(0, len(f), chunk):
        part = f[start : start + chunk]
        n = len(part)
        qx = grid.view(1, 1, 1, size).expand(n, 1, size, size)
        qy = grid.view(1, 1, size, 1).expand(n, 1, size, size)
        rgb = paint(part, qx, qy, torch.full((n, 1, 1, 1), 1 / size, device=device))
        out[start : start + n] = (rgb * 255 + 0.5).to(torch.uint8)
    return out


def render_similar(f: Factors, scale: float, angle: float, shift: tuple[float, float], width: int, height: int):
    """Paint one face into a picture of any size, under a similarity transform of its aligned frame.

    A point q of the frame (eyes at `EYES`) lands on pixel `shift + scale * R(angle) (q - centre of the
    eyes)`, R turning clockwise on the screen; scale is in pixels per frame width, angle in radians. The
    backdrop and the body go on outside the frame. Returns (uint8 (3, height, width), landmarks float64 (5,
    2) in pixels).
    """
    if len(f) != 1:
        raise GlowkitError(f"render_similar paints one face at a time, not {len(f)}")
    centre = np.array([0.5, EYES[0][1]])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(turn).astype(np.float32)
    px = torch.arange(width, dtype=torch.float32).view(1, 1, 1, width) - shift[0]
    py = torch.arange(height, dtype=torch.float32).view(1, 1, height, 1) - shift[1]
    qx = float(back[0, 0]) * px + float(back[0, 1]) * py + float(centre[0])
    qy = float(back[1, 0]) * px + float(back[1, 1]) * py + float(centre[1])
    rgb = paint(f, qx, qy, torch.full((1, 1, 1, 1), 1 / scale))[0]
    points = (relative_landmarks(f)[0] - centre) @ turn.T + np.asarray(shift)
    return (rgb * 255 + 0.5).to(torch.uint8), points
