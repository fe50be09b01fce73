"""Painting procedural faces: a stack of soft analytic masks, from the backdrop to the glasses.

Every shape is a function of coordinates that know nothing of the resolution; its edge is as soft as a pixel is wide,
so the same face can be painted at any size. Grids are (B, 1, H, W), numbers of a face (B, 1, 1, 1), colours
(B, 3, 1, 1), the canvas (B, 3, H, W), all float32, colours in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glowkit.face_factors import Factors
from glowkit.face_geometry import EYES, HALF_EYES, NOSE_RELIEF, SECTION_A, shape

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


def _palette(f: Factors) -> dict[str, np.ndarray]:
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


class _Canvas:
    """The picture so far, and the width of its pixels."""

    def __init__(self, rgb: Tensor, pixel: Tensor):
        self.rgb = rgb  # (B, 3, H, W)
        self.pixel = pixel.clamp(min=0.004) * 1.15  # edges never get sharper than at 256 px

    def inside(self, distance: Tensor, soft: float | Tensor = 0.0) -> Tensor:
        """Coverage of the region where a signed distance is negative."""
        return (0.5 - distance / (self.pixel + soft)).clamp(0, 1)

    def line(self, distance: Tensor, half: float | Tensor, soft: float | Tensor = 0.0) -> Tensor:
        """Coverage of a line of half width `half` around distance 0: exact for lines thinner than a pixel too."""
        width = self.pixel + soft
        return ((distance + half) / width + 0.5).clamp(0, 1) - ((distance - half) / width + 0.5).clamp(0, 1)

    def put(self, colour: Tensor, mask: Tensor) -> None:
        self.rgb = torch.lerp(self.rgb, colour.expand_as(self.rgb), mask.expand_as(self.rgb))

    def shade(self, tint: tuple[float, float, float], mask: Tensor) -> None:
        """Multiply by `tint` where mask is 1: shadows keep the colour below them."""
        t = torch.tensor(tint).view(1, 3, 1, 1) - 1
        self.rgb = self.rgb * (1 + t * mask)


def _ellipse(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Approximate signed distance to an ellipse around the origin with half axes a, b."""
    u, v = x / a, y / b
    k = torch.sqrt(u * u + v * v + 1e-9)
    return (k - 1) * k / torch.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def _blob(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """A Gaussian spot around the origin."""
    return torch.exp(-((x / a) ** 2 + (y / b) ** 2))


def _smooth(x: Tensor, lo: float | Tensor, hi: float | Tensor) -> Tensor:
    t = ((x - lo) / (hi - lo)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _column(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).view(len(values), -1, 1, 1)


def paint(f: Factors, qx: Tensor, qy: Tensor, pixel: Tensor) -> Tensor:
    """Paint faces at points of their aligned frame.

    qx, qy float32 (B, 1, H, W) are relative to the frame, (0, 0) its upper left and (1, 1) its lower right corner, and
    may lie outside it; pixel (B, 1, 1, 1) is the width of a pixel in frame widths. Returns float32 (B, 3, H, W).
    """
    numbers = shape(f)
    g = {name: _column(value) for name, value in numbers.items()}
    c = {name: _column(value) for name, value in _palette(f).items()}
    is_ = {name: _column(f[name]) for name in (
        "5_o_Clock_Shadow", "Arched_Eyebrows", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
        "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
        "High_Cheekbones", "Male", "Mustache", "Narrow_Eyes", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
        "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
        "Wearing_Necktie", "Young")}  # fmt: skip
    u = {name: _column(f[name]) for name in (
        "hair_length", "hair_volume", "hair_part", "curl", "eye_size", "eye_tilt", "brow_height", "nose_width",
        "lip_height", "glasses_style", "wrinkles", "light_x", "light_y", "light_strength", "gaze", "backdrop_turn",
        "backdrop_spread", "bokeh_x", "bokeh_y", "neckline", "hat_style", "beard", "tinted", "strands", "roll",
        "skin_tone")}  # fmt: skip
    male, young = is_["Male"], is_["Young"]
    old = 1 - young

    # backdrop: two muted colours and two spots far out of focus
    angle = 6.2832 * u["backdrop_turn"]
    along = (qx - 0.5) * torch.cos(angle) + (qy - 0.5) * torch.sin(angle)
    canvas = _Canvas(torch.lerp(c["backdrop"], c["backdrop2"], _smooth(along, -0.6, 0.6)), pixel * g["scale"])
    spot = _blob(qx - 1.1 * u["bokeh_x"] + 0.05, qy - 0.9 * u["bokeh_y"], 0.26, 0.34)
    canvas.put(c["bokeh"], 0.75 * spot)
    canvas.put(c["backdrop2"] * 0.75, 0.6 * _blob(qx - 1 + u["bokeh_x"], qy - 1 + 0.7 * u["bokeh_y"], 0.35, 0.22))

    # head coordinates (hx, hy), and the face's own coordinates (x, y) with the turn undone
    hx = (qx - 0.5) * g["scale"] + g["middle"]
    hy = (qy - EYES[0][1]) * g["scale"] + g["lift"]
    s = hx / g["section"]
    inner = s.clamp(-0.995, 0.995)
    x = SECTION_A * (
        inner * torch.cos(g["turn"]) - torch.sqrt(1 - inner * inner) * torch.sin(g["turn"]) + (s - inner)
    )
    y = hy - g["lift"]
    ax = x.abs()
    light_x = (u["light_x"] - 0.5) * 1.3
    light_y = -0.25 - 0.45 * u["light_y"]
    power = 0.45 + 0.55 * u["light_strength"]

    # hair silhouette, farther from the viewer than the face, so it turns the other way
    long = _smooth(u["hair_length"] - torch.where(male > 0, 0.86, 0.16), 0.0, 0.04) * (1 - is_["Bald"])
    fall = torch.where(male > 0, (u["hair_length"] - 0.86) / 0.14, (u["hair_length"] - 0.16) / 0.84).clamp(0, 1)
    length = 0.02 + long * (0.26 + 0.75 * fall)
    volume = (0.35 + 0.65 * u["hair_volume"]) * (1 - 0.35 * is_["Straight_Hair"] + 0.35 * is_["Wavy_Hair"])
    kx = hx + 0.05 * g["sin_yaw"]
    ky = hy
    curl_phase = 6.2832 * u["curl"]
    wave = is_["Wavy_Hair"] * (0.007 + 0.010 * _smooth(ky, -0.2, 0.3))
    waved = kx.abs() + wave * torch.sin(30 * ky + curl_phase + 1.3 * torch.sign(kx))
    thick = 0.020 + 0.042 * volume
    crown = _ellipse(waved, ky + 0.06, g["width"] + 0.012 + 0.5 * thick * (0.6 + 0.4 * long) + 0.02 * long,
                     0.345 + 1.15 * thick)  # fmt: skip
    flare = g["width"] + 0.024 + 0.7 * thick + 0.07 * volume * _smooth(ky, -0.05, 0.45)
    curtain = torch.maximum(waved - flare + 0.035 * _smooth(ky, length - 0.10, length), ky - length + 0.9 * (waved - flare + 0.06).clamp(min=0) + 0.012 * torch.sin(40 * kx + curl_phase))
    curtain = torch.maximum(curtain, -0.06 - ky)
    # short hair leaves the ears free: it ends above them in front and at the nape behind
    nape = torch.maximum(crown, ky - 0.10 - 0.06 * (1 - male))
    above_ear = torch.maximum(crown, ky + 0.005 - 0.9 * (g["width"] + 0.004 - kx.abs()).clamp(-0.02, 0.05))
    has_hair = 1 - is_["Bald"]
    loose = torch.minimum(crown, curtain)
    behind = canvas.inside(torch.where(long > 0.5, loose, nape), 0.006) * has_hair
    hair = canvas.inside(torch.where(long > 0.5, loose, above_ear), 0.006 + 0.014 * (1 - long)) * has_hair
    # strands follow the outline: lines of equal relative position between the parting and the edge
    part = (u["hair_part"] - 0.5) * 0.24
    across = (kx - part * _smooth(-ky, -0.1, 0.45)) / (0.10 + torch.sqrt((0.2 - (ky + 0.05).clamp(max=0) ** 2)
                                                                        .clamp(min=0.0)))  # fmt: skip
    across = across + (0.05 * is_["Wavy_Hair"] + 0.012) * torch.sin(22 * ky + curl_phase + 3 * across)
    strands = torch.zeros_like(hx)
    phase = 40 * u["strands"]
    for k, (frequency, weight) in enumerate(((17.0, 0.45), (31.0, 0.35), (67.0, 0.30), (121.0, 0.25))):
        fade = torch.exp(-((frequency * 2.0 * canvas.pixel) ** 2) / 2.2)  # a wave finer than a pixel averages out
        strands = strands + weight * fade * torch.sin(frequency * across + phase * (k + 1))
    sheen = torch.exp(-(((ky + 0.27 - 0.25 * kx * light_x - 0.35 * kx * kx) / 0.085) ** 2))
    depth = (kx / (g["width"] + 0.09)).clamp(-1, 1)
    lit = 0.86 + 0.22 * power * (depth * light_x) - 0.22 * depth * depth - 0.12 * _smooth(ky, -0.1, 0.5)
    lit = lit + 0.16 * strands + (0.22 + 0.12 * is_["Straight_Hair"]) * sheen * (0.7 + 0.5 * strands)
    gloss = 0.035 * sheen * (1 + strands)
    hair_rgb = c["hair"] * lit + gloss
    canvas.put(hair_rgb * (0.62 - 0.12 * _smooth(ky, 0.0, 0.4)), behind)

    # neck and clothes hang from the body, which stays upright when the head rolls
    bx = hx - (hy - 0.3) * torch.sin(u["roll"]) + 0.09 * g["sin_yaw"]
    by = hy + hx * torch.sin(u["roll"]) * 0.6
    neck_w = 0.128 + 0.036 * male + 0.02 * is_["Chubby"] + 0.12 * _smooth(by, 0.36, 0.62) ** 2
    neck = canvas.inside(torch.maximum(bx.abs() - neck_w, 0.1 - by), 0.004)
    round_neck = 0.70 - 0.22 * (bx / neck_w).clamp(-1, 1) ** 2
    cast = 1 - _smooth(by, g["chin"] - 0.02, g["chin"] + 0.10)
    side = 0.16 * power * light_x * (bx / neck_w).clamp(-1, 1)
    skin_neck = c["skin"] * (0.30 + round_neck + side) * torch.lerp(
        torch.ones(1, 3, 1, 1), torch.tensor((0.66, 0.56, 0.54)).view(1, 3, 1, 1), cast)
    slope = torch.where(male > 0, 0.36, 0.46)
    shoulder = 0.415 - 0.02 * male + slope * (bx.abs() - 0.13).clamp(min=0) + 0.9 * (bx.abs() - 0.42).clamp(min=0) ** 2 - by
    trapeze = canvas.inside(shoulder + 0.01, 0.004)
    canvas.put(skin_neck, torch.maximum(neck, trapeze))
    scoop = torch.where(male > 0, 0.10, 0.10 + 0.16 * u["neckline"])
    collar = torch.maximum(shoulder, -_ellipse(bx, by - 0.41, 0.145 + 0.03 * male + 0.35 * scoop, scoop))
    fold = 0.03 * torch.sin(9 * bx + 5 * by + curl_phase) + 0.025 * torch.sin(21 * bx - 9 * by)
    cloth_lit = 0.90 + fold + 0.25 * power * bx * light_x - 0.4 * (bx.abs() - 0.25).clamp(min=0)
    dressed = canvas.inside(collar)
    canvas.put(c["cloth"] * cloth_lit, dressed)
    canvas.shade((0.72, 0.70, 0.72), dressed * canvas.line(collar, 0.012, 0.01) * 0.6)
    shirt = canvas.inside(torch.maximum(bx.abs() - 0.165 + 0.25 * (by - 0.40).clamp(min=0), 0.385 + 0.35 * (0.165 - bx.abs()).clamp(min=0)
                                        - by)) * is_["Wearing_Necktie"]  # fmt: skip
    canvas.put(torch.full((1, 3, 1, 1), 0.90) * (0.95 + 0.3 * bx * light_x - 0.15 * cast), shirt)
    knot = canvas.inside(torch.maximum(bx.abs() - 0.048 + 0.22 * (by - 0.44).clamp(0, 0.08), 0.425 - by))
    stripe = 0.9 + 0.12 * torch.sin(70 * (bx + by)) * torch.exp(-((70 * canvas.pixel) ** 2) / 8)
    canvas.put(c["tie"] * stripe, knot * is_["Wearing_Necktie"])

    # ears, hidden by long hair later
    ear_x = (hx + 0.02 * g["sin_yaw"]).abs() - g["width"] - 0.010
    ear = _ellipse(ear_x + 0.18 * (hy - 0.06), hy - 0.055, 0.030, 0.078)
    canvas.put(c["skin"] * torch.tensor((0.86, 0.76, 0.73)).view(1, 3, 1, 1), canvas.inside(ear))
    canvas.shade((0.72, 0.62, 0.60), _blob(ear_x + 0.006, hy - 0.05, 0.014, 0.040) * canvas.inside(ear))

    # the head: outline, shading as of a volume
    ox = hx - (0.035 + 0.13 * _smooth(hy, -0.05, 0.40)) * g["sin_yaw"]
    lower = ((hy - 0.02) / (g["chin"] - 0.02)).clamp(min=0)
    lower = lower * (1 - g["jaw"] + g["jaw"] * lower)
    high = ((0.02 - hy) / 0.415).clamp(min=0)
    vy = torch.where(hy < 0.02, -high * (0.78 + 0.22 * high), lower)
    vx = ox / g["width"]
    radius = torch.sqrt(vx * vx + vy * vy + 1e-9)
    steep = torch.where(hy < 0.02, 1.2 / 0.415, (1 + g["jaw"]) / (g["chin"] - 0.02))
    outline = (radius - 1) * radius / torch.sqrt((vx / g["width"]) ** 2 + (vy * steep) ** 2 + 1e-6)
    face = canvas.inside(outline)
    jowl = _ellipse(ox - 0.02 * g["sin_yaw"], hy - g["chin"] + 0.055, 0.185 * torch.ones_like(male), 0.105) 
    canvas.put(c["skin"] * torch.tensor((0.84, 0.76, 0.73)).view(1, 3, 1, 1), canvas.inside(jowl, 0.01) * is_["Double_Chin"])
    inner = radius.clamp(max=1.0)
    nz = torch.sqrt(1.02 - inner * inner)
    norm = torch.sqrt(light_x * light_x + light_y * light_y + 0.9)
    facing = (vx * light_x + vy * 0.8 * light_y + 0.95 * nz) / norm
    relief = (
        0.10 * _blob(x, y + 0.20, 0.16, 0.10)  # forehead
        + 0.10 * (0.6 + 1.0 * is_["High_Cheekbones"]) * _blob(ax - 0.150, y - 0.095 + 0.1 * (ax - 0.15), 0.060, 0.036)
        + 0.07 * _blob(x, y - g["chin"] + 0.065, 0.05, 0.032)  # chin
        - 0.20 * _blob(ax - 0.120, y + 0.012, 0.085, 0.045)  # eye sockets
        - 0.10 * _blob(ax - 0.045, y + 0.005, 0.028, 0.045)
        - (0.05 + 0.20 * is_["High_Cheekbones"]) * _blob(ax - 0.175 + 0.35 * (y - 0.2), y - 0.205, 0.045, 0.07)
        - 0.14 * _blob(x, y - g["mouth_y"] - 0.062, 0.055, 0.016)  # under the lower lip
        - 0.05 * _blob(x, y - g["nose_y"] - 0.035, 0.020, 0.030)  # philtrum
    )
    shade = (0.46 + 0.62 * facing.clamp(min=0) * (0.75 + 0.25 * power) + relief * (0.7 + 0.4 * power)).clamp(0.35, 1.14)
    deep = (1.0 - shade).clamp(min=0)
    skin = c["skin"] * (1 - deep * torch.tensor((0.82, 1.02, 1.08)).view(1, 3, 1, 1)) + 0.10 * (shade - 0.9).clamp(min=0)
    canvas.put(skin, face)
    # stubble shows as a bluish grey, later covered by a grown beard
    ruddy = 0.10 * _blob(ax - 0.15, y - 0.13, 0.07, 0.06) + 0.10 * _blob(x, y - g["nose_y"] + 0.02, 0.045, 0.03)
    canvas.shade((0.99, 0.80, 0.80), face * ruddy * 1.5)
    blush = is_["Rosy_Cheeks"] * 0.95 + is_["Heavy_Makeup"] * 0.28
    canvas.shade((1.0, 0.70, 0.71), 0.8 * face * blush * _blob(ax - 0.160, y - 0.125 + 0.25 * (ax - 0.16), 0.068, 0.048))

    # age: forehead lines, crow's feet; folds beside the mouth deepen with a smile
    wrinkle = old * (0.5 + 0.5 * u["wrinkles"])
    lines = torch.zeros_like(hx)
    for level in (-0.155, -0.185, -0.215):
        lines = lines + 0.7 * canvas.line(y - level - 0.5 * x * x - 0.004 * torch.sin(25 * x + curl_phase), 0.0022, 0.006) * (
            1 - _smooth(ax, 0.06, 0.15))
    feet = torch.zeros_like(hx)
    for tilt in (-0.35, 0.1, 0.5):
        feet = feet + canvas.line(y - 0.002 - tilt * (ax - 0.18), 0.0022, 0.003) * _blob(ax - 0.215, y, 0.022, 0.05)
    smile = g["smile"].clamp(min=0)
    fold_x = 0.056 + 0.30 * (y - 0.13) + 0.9 * (y - 0.13) ** 2 + 0.012 * smile
    folds = canvas.line(ax - fold_x, 0.004, 0.020) * _smooth(y, 0.125, 0.165) * (1 - _smooth(y, 0.205, 0.29))
    canvas.shade((0.60, 0.50, 0.48), (face * (1.0 * wrinkle * lines + (0.8 * wrinkle + 0.25 * smile) * feet
                 + folds * (0.04 + 0.55 * smile + 0.40 * wrinkle))).clamp(0, 1))  # fmt: skip
    canvas.shade((0.66, 0.55, 0.56), face * (is_["Bags_Under_Eyes"] * 0.80 + 0.25 * wrinkle) * canvas.line(
        y - 0.060 + 3.0 * (ax - 0.125) ** 2, 0.008, 0.022) * (1 - _smooth((ax - 0.122).abs(), 0.035, 0.062)))
    canvas.put(skin * 1.05, 0.3 * is_["Bags_Under_Eyes"] * face * _blob(ax - 0.125, y - 0.042, 0.035, 0.007))

    # beard: stubble, side-whiskers, goatee, mustache
    my = y - g["mouth_y"]
    chin_zone = _smooth(radius, 0.50, 0.86) * _smooth(hy, 0.05, 0.24)
    zone = torch.maximum(chin_zone, _blob(x, my + 0.040, 0.10, 0.032)) 
    zone = torch.maximum(zone, _blob(x, my - 0.085, 0.11, 0.05))
    lips_free = 1 - _blob(x, my, 0.075, 0.020)
    tint = torch.lerp(c["skin"] * 0.45, c["brow"] * 0.9 + 0.04, 0.6)
    canvas.put(tint, face * zone * lips_free * is_["5_o_Clock_Shadow"] * (0.36 + 0.20 * u["beard"]))
    grain = 1 + 0.16 * strands
    whisker = c["hair"] * 0.80 * grain
    burn = canvas.inside(torch.maximum(outline, torch.maximum(g["width"] - 0.046 - 0.05 * (hy - 0.05) - ox.abs(), (hy - 0.145).abs() - 0.150)), 0.026)
    canvas.put(whisker, 0.9 * face * burn * is_["Sideburns"])
    full = 0.045 + 0.03 * u["beard"]
    goatee = torch.maximum(_ellipse(x, y - g["chin"] + 0.062, 0.085 + full * 0.6, 0.066 + 0.1 * full), outline - 0.012)
    goatee = torch.maximum(goatee, 0.030 + 2.2 * x * x - my)
    goatee = torch.minimum(goatee, torch.maximum((ax - g["mouth_w"] - 0.012).abs() - 0.014, (my - 0.03).abs() - 0.06) + 10 * (u["beard"] < 0.5))
    canvas.put(whisker, 0.86 * canvas.inside(goatee, 0.028) * is_["Goatee"])

    # eyes: both at once in the mirrored coordinate ex, outward positive
    ex, ey = ax - HALF_EYES, y - (u["eye_tilt"] - 0.62) * 0.10 * -(ax - HALF_EYES)
    half = 0.0595 + 0.007 * u["eye_size"] + 0.002 * (1 - male)
    narrow = is_["Narrow_Eyes"]
    top = (0.0270 + 0.006 * u["eye_size"] + 0.004 * (1 - male)) * (1 - 0.42 * narrow) * (1 - 0.14 * smile)
    low = (0.0155 + 0.002 * u["eye_size"]) * (1 - 0.38 * narrow) * (1 - 0.30 * smile)
    t = (ex / half).clamp(-2, 2)
    arch = 1 - t * t
    upper = -top * arch * (1 - 0.22 * t) - 0.002
    under = low * arch * (1 + 0.25 * t) - 0.002
    opening = torch.maximum(upper - ey, ey - under)
    lid = canvas.line(ey - upper + 0.016 - 0.004 * narrow, 0.0035, 0.006) * (1 - _smooth(t.abs(), 0.75, 1.15))
    paint_lid = canvas.inside(torch.maximum(ey - upper, upper - 0.030 - ey - 0.014 * t), 0.016) * (1 - _smooth(t.abs(), 0.8, 1.25))
    canvas.put(c["eyeshadow"], 0.55 * is_["Heavy_Makeup"] * paint_lid * face)
    canvas.shade((0.58, 0.47, 0.45), 0.65 * lid * face)
    eye = canvas.inside(opening) * canvas.inside(t.abs() * half - half)
    white = torch.tensor((0.87, 0.845, 0.83)).view(1, 3, 1, 1) * (0.62 + 0.38 * _smooth(ey - upper, 0.0, 0.020)) * (1 - 0.18 * t * t)
    canvas.put(white, eye)
    gaze = (u["gaze"] - 0.5) * 0.010 * torch.sign(x)
    iris_d = torch.sqrt((ex - gaze) ** 2 + (ey + 0.0055) ** 2 + 1e-9)
    iris_rgb = c["iris"] * (0.72 + 0.55 * _smooth(ey, -0.02, 0.02) - 0.45 * _smooth(iris_d, 0.017, 0.026))
    canvas.put(iris_rgb, eye * canvas.inside(iris_d - 0.0290))
    canvas.put(torch.full((1, 3, 1, 1), 0.03), eye * canvas.inside(iris_d - 0.0132))
    glint_x = ex - gaze - 0.010 * torch.sign(light_x) * torch.sign(x)
    canvas.put(torch.ones(1, 3, 1, 1), 0.92 * eye * canvas.inside(torch.sqrt(glint_x**2 + (ey + 0.012) ** 2 + 1e-9) - 0.0062))
    lash = 0.0032 + 0.0018 * (1 - male) + 0.0032 * is_["Heavy_Makeup"]
    wing = (1 - male) * (0.10 + 0.16 * is_["Heavy_Makeup"])
    lashes = canvas.line(ey - upper + 0.4 * lash + 0.05 * (t - 1).clamp(min=0), lash) * (1 - _smooth(t, 1.0 + wing, 1.06 + wing)) * _smooth(t, -1.08, -0.85)
    canvas.put(c["brow"] * 0.35, 0.92 * lashes)
    rim = canvas.line(ey - under - 0.001, 0.0016, 0.002) * (1 - _smooth(t.abs(), 0.85, 1.02))
    canvas.shade((0.55, 0.42, 0.42), rim * (0.55 + 0.35 * is_["Heavy_Makeup"]))

    # brows
    arched = is_["Arched_Eyebrows"]
    brow_t = (ex - 0.004) / 0.078
    brow_y = -0.066 - 0.010 * u["brow_height"] + 0.006 * male - 0.006 * smile
    bent = torch.where(brow_t < 0.3, 0.62, 1.0) * (brow_t - 0.3)
    brow_line = brow_y - (0.010 + 0.013 * arched) * (1 - (bent / (1.0 - 0.25 * arched)) ** 2) + 0.004 * (1 - arched)
    brow_half = (0.0072 + 0.0038 * male) * (1 + 0.85 * is_["Bushy_Eyebrows"]) * (1 - 0.12 * arched) * (1.05 - 0.55 * _smooth(brow_t, -0.2, 1.05))
    brow = canvas.line(y - brow_line, brow_half, 0.005) * _smooth(brow_t, -1.10 - 0.1 * is_["Bushy_Eyebrows"], -0.80) * (1 - _smooth(brow_t, 0.80, 1.12))
    canvas.put(c["brow"], (0.80 + 0.12 * is_["Bushy_Eyebrows"]) * brow * face)

    # nose: bridge, tip and wings follow the yaw more than the face does
    nx = x - NOSE_RELIEF * g["sin_yaw"] * _smooth(y, -0.05, 0.14) * 1.1
    ny = y - g["nose_y"] - NOSE_RELIEF * g["sin_pitch"] * _smooth(y, 0.0, 0.14)
    wide = 0.038 + 0.010 * u["nose_width"] + 0.004 * male + 0.016 * is_["Big_Nose"] - 0.010 * is_["Pointy_Nose"]
    bridge = 0.016 + 0.22 * wide
    span = _smooth(y, -0.05, 0.0) * (1 - _smooth(ny, -0.04, -0.015))
    side = _blob(nx + bridge * 1.6 * torch.where(light_x > 0, 1.0, -1.0), torch.zeros_like(y), bridge * 1.05, 1.0) * span
    canvas.shade((0.74, 0.62, 0.58), face * side * (0.22 + 0.75 * light_x.abs() * power + 0.15 * is_["Big_Nose"]))
    canvas.put(c["skin"] * 1.10 + 0.05, face * (0.26 + 0.12 * is_["Pointy_Nose"]) * _blob(nx - bridge * 0.35 * torch.sign(light_x), torch.zeros_like(y), bridge * 0.55, 1.0) * span)
    ball = _ellipse(nx, ny + 0.022, wide * 0.62, 0.024 + 0.2 * (wide - 0.04))
    wings = _ellipse(nx.abs() - wide * 0.80, ny + 0.016, wide * 0.36, 0.020 + 0.1 * (wide - 0.04))
    bulb = torch.minimum(ball, wings)
    canvas.shade((0.66, 0.53, 0.50), face * _blob(nx, ny - 0.004, wide * 1.15, 0.014) * (0.75 + 0.2 * is_["Big_Nose"]))
    canvas.shade((0.78, 0.66, 0.63), face * _blob(nx.abs() - wide * 1.12, ny + 0.018, 0.010, 0.022) * (0.9 + 0.4 * is_["Big_Nose"]))
    canvas.put(c["skin"] * (0.93 + 0.10 * light_x * torch.sign(nx) * power), face * 0.45 * canvas.inside(bulb, 0.028))
    canvas.put(c["skin"] * 1.12 + 0.08, face * 0.42 * _blob(nx - 0.007 * torch.sign(light_x), ny + 0.032, 0.014 - 0.004 * is_["Pointy_Nose"], 0.012))
    canvas.shade((0.34, 0.24, 0.22), face * 0.9 * _blob(nx.abs() - wide * 0.46, ny + 0.001 + 0.12 * (nx.abs() - wide * 0.46), wide * 0.24, 0.0062))

    # mouth
    mouth_t = x / g["mouth_w"]
    flat = (mouth_t * mouth_t).clamp(max=1.6)
    seam = y - (g["mouth_y"] - 0.022 * g["smile"] * (flat - 0.35) / 0.65 + 0.004 * (1 - flat))
    body = (1 - flat).clamp(min=0)
    gap = g["gap"] * body.sqrt() * (0.9 + 0.1 * body)
    lip = (0.0135 + 0.007 * u["lip_height"] + 0.0035 * (1 - male)) * (1 + 0.65 * is_["Big_Lips"]) * (1 - 0.22 * old) * (1 - 0.22 * smile)
    bow = 1 - 0.28 * torch.exp(-((x / 0.016) ** 2))
    rise = lip * 0.88 * body ** 0.8 * bow
    drop = lip * 1.25 * body ** 0.65
    open_up, open_down = gap * 0.30, gap * 0.70
    upper_lip = torch.maximum(-seam - open_up - rise, seam + open_up - 0.0015)
    lower_lip = torch.maximum(seam - open_down - drop, -seam + open_down - 0.0015)
    inside_w = canvas.inside((mouth_t.abs() - 1) * g["mouth_w"])
    cavity = canvas.inside(torch.maximum(-seam - open_up, seam - open_down)) * inside_w * (g["gap"] > 0)
    canvas.put(torch.tensor((0.20, 0.06, 0.06)).view(1, 3, 1, 1), cavity)
    teeth_end = -open_up + torch.where(smile > 0.3, 0.88, 0.36) * gap
    teeth = canvas.inside(torch.maximum(seam - teeth_end, (mouth_t.abs() - 0.88) * g["mouth_w"])) * cavity
    canvas.put(torch.tensor((0.93, 0.90, 0.86)).view(1, 3, 1, 1) * (1.0 - 0.38 * flat.clamp(max=1)), teeth)
    lip_lit = 1 + 0.12 * light_x * mouth_t.clamp(-1, 1) * power
    up_mask = canvas.inside(upper_lip, 0.002) * inside_w
    canvas.put(c["lips"] * 0.80 * lip_lit, (0.88 + 0.12 * is_["Wearing_Lipstick"]) * up_mask)
    low_mask = canvas.inside(lower_lip, 0.002) * inside_w
    canvas.put(c["lips"] * 1.02 * lip_lit, (0.78 + 0.22 * is_["Wearing_Lipstick"]) * low_mask)
    canvas.put(torch.lerp(c["lips"], torch.ones(1, 3, 1, 1), 0.42), (0.45 + 0.3 * is_["Wearing_Lipstick"]) * low_mask * _blob(x - 0.012 * torch.sign(light_x), seam - open_down - drop * 0.48, 0.030, 0.0055))
    seam_line = canvas.line(seam, 0.0022, 0.001) * (g["gap"] == 0) + canvas.line(seam + open_up, 0.0012) * (g["gap"] > 0)
    canvas.shade((0.36, 0.22, 0.22), 0.85 * seam_line * (1 - _smooth(mouth_t.abs(), 0.96, 1.04)))
    canvas.shade((0.62, 0.50, 0.48), 0.8 * face * _blob(ax - g["mouth_w"] - 0.003, y - g["corner_y"] - 0.003, 0.011, 0.010))
    tache_low = seam + open_up + rise * 0.75 - 0.006 * flat
    tache = torch.maximum(tache_low, -(tache_low + 0.036 - 0.020 * flat + 0.006 * torch.exp(-((x / 0.012) ** 2))))
    tache = torch.maximum(tache, ax - g["mouth_w"] * 1.06)
    canvas.put(whisker * 0.95, 0.94 * is_["Mustache"] * canvas.inside(tache, 0.010))
    crease = canvas.line(y - g["chin"] + 0.012 + 1.3 * x * x, 0.006, 0.010) * (1 - _smooth(ax, 0.10, 0.17))
    canvas.shade((0.58, 0.48, 0.46), is_["Double_Chin"] * 0.85 * crease)

    # front hair: the silhouette without the window the face looks through
    swept = part * (x - part) * 0.55 * (1 - is_["Bangs"])
    peak = 0.62 * (1 - male) * (1 - is_["Bangs"]) * (1 - is_["Receding_Hairline"])  # hair parted and combed aside
    rise_y = 0.272 + 0.008 * male + 0.035 * peak + 0.070 * is_["Receding_Hairline"] + 0.016 * old * male
    rise_y = torch.where(is_["Bangs"] > 0, 0.098 + 0.018 * u["curl"], rise_y)
    window_w = torch.where(long > 0.5, 0.214 + 0.012 * (1 - fall), g["width"] - 0.022)
    window_w = window_w + long * (0.016 * torch.exp(-(((y - 0.08) / 0.13) ** 2)) + 0.03 * _smooth(y, 0.2, 0.5)
                                  + (0.004 + 0.006 * is_["Wavy_Hair"]) * torch.sin(17 * y + phase + torch.sign(x)))
    below = torch.where(long > 0.5, 0.0, 2.2) * (hy - 0.0).clamp(min=0)
    shape_y = (y + 0.02).clamp(max=0) / (rise_y - 0.02 + swept)
    fringe = 0.010 * torch.sin(26 * x + phase) + 0.006 * torch.sin(57 * x + 2 * phase)
    sharp = torch.where(is_["Bangs"] > 0, 0.35, torch.where(male > 0, 0.75, 1.0))
    wx = (ax / window_w).clamp(max=1.4)
    apart = ((x - part) / (window_w + part * torch.sign(part - x))).abs().clamp(max=1.4)
    # temples: a receding hairline is an M, bangs are flat, parted hair is a round arch
    corner = torch.lerp(wx * wx * (sharp + (1 - sharp) * wx * wx), apart, peak)
    corner = corner - is_["Receding_Hairline"] * 0.42 * torch.exp(-(((wx - 0.62) / 0.22) ** 2))
    window = (shape_y * shape_y + corner - 1) * 0.12
    window = torch.where(y < -0.02, window, (ax - window_w - below) * 0.9)
    edge = window + (0.4 + 0.6 * is_["Bangs"]) * fringe * _smooth(-y, 0.02, 0.1)
    front = hair * (1 - canvas.inside(edge, torch.where(is_["Bangs"] > 0, 0.010, 0.014)))
    near = 1 - _smooth(-edge, 0.0, 0.045)
    canvas.shade((0.66, 0.56, 0.54), face * (1 - is_["Bald"]) * near * (0.25 + 0.30 * _smooth(-y, -0.05, 0.1)) * (1 - _smooth(y, 0.0, 0.3) * (1 - long)))
    temple = 1 - 0.22 * torch.exp(-((edge / 0.02) ** 2))
    canvas.put(hair_rgb * temple, front)
    canvas.shade((0.82, 0.80, 0.80), front * canvas.line(kx - part + 0.10 * (ky + 0.4), 0.004, 0.008) * (ky < -0.27) * 0.9)
    canvas.put(torch.ones(1, 3, 1, 1), 0.26 * is_["Bald"] * face * _blob(hx - 0.10 * light_x, hy + 0.27, 0.09, 0.05))

    # hat: a cap or a brimmed hat over the hair
    brimmed = (u["hat_style"] > 0.5).float()
    hat_y = -0.155 + 0.03 * brimmed + 0.25 * kx * kx * (1 - brimmed)
    dome = torch.maximum(_ellipse(kx, ky + 0.10, g["width"] + 0.035 + 0.3 * thick, 0.375), ky - hat_y)
    hat_lit = 0.95 + 0.25 * power * depth * light_x - 0.28 * depth * depth - 0.15 * torch.sin(9 * kx) * 0.2
    canvas.shade((0.55, 0.46, 0.45), is_["Wearing_Hat"] * face * (1 - _smooth(ky - hat_y, 0.0, 0.085)) * 0.9)
    canvas.put(c["hat"] * hat_lit, is_["Wearing_Hat"] * canvas.inside(dome, 0.003))
    band = canvas.inside(torch.maximum(dome, hat_y - 0.055 - ky))
    canvas.put(c["hat"] * 0.55 * hat_lit, is_["Wearing_Hat"] * band * (0.4 + 0.5 * brimmed))
    brim = _ellipse(kx, ky - hat_y + 0.35 * kx * kx, 0.29 + 0.13 * brimmed, 0.026 + 0.012 * brimmed)
    canvas.put(c["hat"] * (0.72 + 0.15 * depth * light_x), is_["Wearing_Hat"] * canvas.inside(brim, 0.003))

    # earrings hang in front of the hair
    ring_x, ring_y = (hx + 0.02 * g["sin_yaw"]).abs() - g["width"] - 0.004, hy - 0.165
    drop_r = 0.016 + 0.010 * u["neckline"]
    hoop = _ellipse(ring_x, ring_y - drop_r, drop_r, drop_r * 1.35)
    jewel = torch.where(u["neckline"] > 0.5, canvas.line(hoop, 0.0055), canvas.inside(hoop + 0.002))
    gold = torch.where(u["tinted"] > 0.5, torch.tensor((0.90, 0.74, 0.36)).view(1, 3, 1, 1), torch.tensor((0.88, 0.88, 0.91)).view(1, 3, 1, 1))
    canvas.put(gold * (1.05 - 12 * ring_y.clamp(0, 0.03)), is_["Wearing_Earrings"] * jewel)

    # glasses: round, square or wide frames; some are tinted
    style = u["glasses_style"]
    square = _smooth(style, 0.30, 0.45)
    lens_w = 0.092 + 0.012 * square
    lens_h = 0.078 - 0.016 * square + 0.01 * _smooth(style, 0.75, 0.9)
    lx, ly = (ax - HALF_EYES - 0.004) / lens_w, (y - 0.012) / lens_h
    power4 = torch.lerp(lx * lx + ly * ly, lx**4 + ly**4, square)
    lens = (power4.clamp(min=1e-6) ** torch.where(square > 0.5, 0.25, 0.5) - 1) * 0.082
    dark_lens = _smooth(u["tinted"], 0.70, 0.72)
    wearing = is_["Eyeglasses"]
    in_lens = canvas.inside(lens)
    canvas.shade((0.22, 0.20, 0.20), wearing * in_lens * dark_lens * (0.92 - 0.25 * _smooth(ly, -0.4, 1.0)))
    shine = canvas.line(lx * 0.7 + ly * 0.5 + 0.35, 0.10, 0.08) * in_lens
    canvas.put(torch.ones(1, 3, 1, 1), wearing * shine * (0.10 + 0.10 * dark_lens))
    frame = canvas.line(lens, 0.0050 + 0.0045 * _smooth(style, 0.5, 0.9))
    nose_bridge = canvas.line(y + 0.012 - 2.0 * x * x, 0.0055) * (ax < HALF_EYES - lens_w + 0.012)
    temple_arm = canvas.line(y + 0.014, 0.0060) * (ax > HALF_EYES + lens_w - 0.004) * (1 - front * 0.8) * canvas.inside(hx.abs() - g["width"] - 0.02)
    canvas.shade((0.70, 0.62, 0.60), wearing * 0.5 * canvas.line(lens - 0.006, 0.006, 0.012) * (ly > 0))
    canvas.put(c["frame"], wearing * torch.maximum(frame, torch.maximum(nose_bridge, temple_arm)))
    return canvas.rgb.clamp(0, 1)


def render(f: Factors, size: int = 64) -> Tensor:
    """Pictures of faces in the aligned frame: uint8 (B, 3, size, size), size 32..256."""
    from glowkit.errors import GlowkitError

    if not 32 <= size <= 256:
        raise GlowkitError(f"size = {size} is outside 32 .. 256 pixels")
    grid = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    out = torch.empty((len(f), 3, size, size), dtype=torch.uint8)
    chunk = max(1, 64 * 64 * 32 // size**2)  # keeps each grid in the processor's cache
    for start in range(0, len(f), chunk):
        part = f[start : start + chunk]
        n = len(part)
        qx = grid.view(1, 1, 1, size).expand(n, 1, size, size)
        qy = grid.view(1, 1, size, 1).expand(n, 1, size, size)
        rgb = paint(part, qx, qy, torch.full((n, 1, 1, 1), 1 / size))
        out[start : start + n] = (rgb * 255 + 0.5).to(torch.uint8)
    return out
