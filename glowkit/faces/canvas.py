"""What the painter of procedural faces works with: a canvas of soft masks, simple shapes, palettes.

Every shape is a function of coordinates that know nothing of the resolution; its edge is as soft as a pixel
is wide, so the same face can be painted at any size. Grids are (B, 1, H, W), numbers of a face (B, 1, 1, 1),
colours (B, 3, 1, 1), the canvas (B, 3, H, W), all float32, colours in [0, 1]. They lie on the device of the picture:
`rendering.paint` makes it the one that torch puts new tensors on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glowkit.faces.population import Factors

_SKIN = ((0.96, 0.83, 0.76), (0.93, 0.75, 0.64), (0.84, 0.64, 0.50), (0.70, 0.49, 0.36), (0.52, 0.34, 0.24),
         (0.36, 0.235, 0.17))  # fmt: skip
_IRIS = ((0.20, 0.12, 0.07), (0.30, 0.19, 0.10), (0.34, 0.30, 0.16), (0.28, 0.36, 0.28), (0.27, 0.40, 0.52),
         (0.38, 0.46, 0.52))  # fmt: skip


def _ramp(palette: tuple[tuple[float, float, float], ...], position: np.ndarray) -> np.ndarray:
    """Colours (B, 3) along a palette, at positions in [0, 1]."""
    at = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(position, at, channel) for channel in zip(*palette, strict=True)], 1)


def _hsv(h: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colours (B, 3) from hue, saturation and value (B,) in [0, 1]; smooth in hue."""
    wave = np.stack([0.5 + 0.5 * np.cos(2 * np.pi * (h - shift)) for shift in (0, 1 / 3, 2 / 3)], 1)
    return v[:, None] * (1 - s[:, None] * (1 - wave))


def _blend(a: np.ndarray | tuple, b: np.ndarray | tuple, t: np.ndarray | float) -> np.ndarray:
    t = np.asarray(t)
    t = t[:, None] if t.ndim == 1 else t
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


def palette(f: Factors) -> dict[str, np.ndarray]:
    """The colours of each face, float64 (B, 3) each."""
    n = len(f)
    male, young = f["Male"], f["Young"]
    skin = _ramp(_SKIN, f["skin_tone"])
    skin = np.where(f["Pale_Skin"][:, None], _blend(skin, (0.97, 0.89, 0.86), 0.6), skin)
    grey = skin.mean(1, keepdims=True)
    skin = _blend(skin, skin * (1 + 0.06 * (f["warmth"][:, None] - 0.5) * np.array([1, 0, -1.4])), 1.0)
    tone = f["hair_tone"]
    hair = _ramp(((0.15, 0.10, 0.08), (0.26, 0.17, 0.12), (0.42, 0.21, 0.12), (0.52, 0.38, 0.24)), tone)
    for name, dark, light in (
        ("Black_Hair", (0.055, 0.05, 0.055), (0.11, 0.09, 0.085)),
        ("Brown_Hair", (0.28, 0.175, 0.11), (0.40, 0.26, 0.16)),
        ("Blond_Hair", (0.72, 0.55, 0.32), (0.90, 0.76, 0.50)),
        ("Gray_Hair", (0.55, 0.55, 0.56), (0.82, 0.82, 0.82)),
    ):
        hair = np.where(f[name][:, None], _blend(dark, light, tone), hair)
    brow = _blend(hair * 0.62, skin * 0.40, np.where(f["Blond_Hair"] | f["Gray_Hair"], 0.55, 0.15))
    natural = _blend(skin * np.array([0.86, 0.62, 0.60]), skin * np.array([0.84, 0.66, 0.63]), male * 1.0)
    natural = _blend(natural, grey * 0.8, 0.15 * ~young)
    stick = _ramp(((0.70, 0.12, 0.17), (0.80, 0.26, 0.32), (0.60, 0.13, 0.24), (0.78, 0.34, 0.36)), f["lip_hue"])
    stick *= np.clip(0.35 + 0.8 * grey, 0.6, 1)
    lips = np.where(f["Wearing_Lipstick"][:, None], _blend(stick, natural, 0.12), natural)
    shadow = _ramp(((0.30, 0.20, 0.18), (0.36, 0.26, 0.36), (0.26, 0.30, 0.38), (0.42, 0.28, 0.20)), f["makeup_hue"])
    value, chroma = f["backdrop_value"], f["backdrop_chroma"]
    hue, turn = f["backdrop_hue"], f["backdrop_spread"]
    suit = _hsv(f["clothes_hue"], np.full(n, 0.25), 0.10 + 0.22 * f["clothes_value"])
    cloth = _hsv(f["clothes_hue"], 0.25 + 0.40 * f["neckline"], 0.18 + 0.68 * f["clothes_value"])
    hat = _hsv(f["hat_hue"], 0.2 + 0.45 * f["backdrop_chroma"], 0.20 + 0.55 * f["hat_style"])
    return {
        "skin": skin,
        "hair": hair,
        "brow": brow,
        "lips": lips,
        "eyeshadow": _blend(shadow, skin * 0.55, 0.35),
        "iris": _ramp(_IRIS, np.clip(f["eye_colour"] * 1.25 - 1.1 * f["skin_tone"], 0, 1)),
        "backdrop": _hsv(hue, 0.05 + 0.20 * chroma, 0.22 + 0.60 * value),
        "backdrop2": _hsv(hue + 0.25 * (turn - 0.5), 0.05 + 0.18 * chroma, 0.16 + 0.48 * value + 0.28 * turn),
        "bokeh": _hsv(hue + 0.5 * (f["bokeh_x"] - 0.5), 0.08 + 0.20 * chroma, 0.30 + 0.58 * f["bokeh_y"]),
        "cloth": np.where(f["Wearing_Necktie"][:, None], suit, cloth),
        "tie": _hsv(f["hat_hue"], np.full(n, 0.72), 0.30 + 0.4 * f["lip_hue"]),
        "hat": hat,
        "frame": _ramp(((0.07, 0.06, 0.06), (0.20, 0.11, 0.07), (0.42, 0.36, 0.28), (0.10, 0.12, 0.20)), f["warmth"]),
    }


class Canvas:
    """The picture so far, and the width of its pixels."""

    def __init__(self, rgb: Tensor, pixel: Tensor):
        self.rgb = rgb  # (B, 3, H, W)
        self.pixel = pixel.clamp(min=0.004) * 1.15  # edges never get sharper than at 256 px

    def inside(self, distance: Tensor, soft: float | Tensor = 0.0) -> Tensor:
        """Coverage of the region where a signed distance is negative."""
        return (0.5 - distance / (self.pixel + soft)).clamp(0, 1)

    def line(self, distance: Tensor, half: float | Tensor, soft: float | Tensor = 0.0) -> Tensor:
        """Coverage of a line of half width `half` around distance 0: exact for lines thinner than a pixel
        too."""
        width = self.pixel + soft
        return ((distance + half) / width + 0.5).clamp(0, 1) - ((distance - half) / width + 0.5).clamp(0, 1)

    def put(self, colour: Tensor, mask: Tensor) -> None:
        self.rgb = torch.lerp(self.rgb, colour.expand_as(self.rgb), mask.expand_as(self.rgb))

    def shade(self, tint: tuple[float, float, float], mask: Tensor) -> None:
        """Multiply by `tint` where mask is 1: shadows keep the colour below them."""
        self.rgb = self.rgb * (1 + (colour(*tint) - 1) * mask)


def ellipse(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Approximate signed distance to an ellipse around the origin with half axes a, b."""
    u, v = x / a, y / b
    k = torch.sqrt(u * u + v * v + 1e-9)
    return (k - 1) * k / torch.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def blob(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """A Gaussian spot around the origin."""
    return torch.exp(-((x / a) ** 2 + (y / b) ** 2))


def smooth(x: Tensor, lo: float | Tensor, hi: float | Tensor) -> Tensor:
    """From 0 at lo to 1 at hi, with no corner at either."""
    t = ((x - lo) / (hi - lo)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def column(values: np.ndarray) -> Tensor:
    """Numbers (B,) or (B, C) as float32 (B, C, 1, 1), to be spread over a picture."""
    return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32)).view(len(values), -1, 1, 1)


def colour(red: float, green: float, blue: float) -> Tensor:
    """One colour for every face: (1, 3, 1, 1)."""
    return torch.tensor((red, green, blue)).view(1, 3, 1, 1)


WHITE = (1.0, 1.0, 1.0)
