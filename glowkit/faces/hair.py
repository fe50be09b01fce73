"""Hair, beards and hats of procedural faces.

Each function paints one part and leaves on the portrait what later parts need.
"""

from __future__ import annotations

import torch

from glowkit.faces.canvas import WHITE, Canvas, blob, colour, ellipse, smooth
from glowkit.faces.portrait import Portrait


def back_hair(canvas: Canvas, p: Portrait) -> None:
    """The hair silhouette; it lies behind the face's front, so it turns the other way. Paints what is
    behind."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    hx, hy, light_x, power, male = p.hx, p.hy, p.light_x, p.power, p.male
    long = smooth(u["hair_length"] - torch.where(male > 0, 0.86, 0.16), 0.0, 0.04) * (1 - is_["Bald"])
    fall = torch.where(male > 0, (u["hair_length"] - 0.86) / 0.14, (u["hair_length"] - 0.16) / 0.84).clamp(0, 1)
    length = 0.02 + long * (0.26 + 0.75 * fall)
    volume = (0.35 + 0.65 * u["hair_volume"]) * (1 - 0.35 * is_["Straight_Hair"] + 0.35 * is_["Wavy_Hair"])
    kx = hx + 0.05 * g["sin_yaw"]
    ky = hy
    curl_phase = 6.2832 * u["curl"]
    wave = is_["Wavy_Hair"] * (0.007 + 0.010 * smooth(ky, -0.2, 0.3))
    waved = kx.abs() + wave * torch.sin(30 * ky + curl_phase + 1.3 * torch.sign(kx))
    thick = 0.020 + 0.042 * volume
    crown = ellipse(
        waved,
        ky + 0.06,
        g["width"] + 0.012 + 0.5 * thick * (0.6 + 0.4 * long) + 0.02 * long,
        0.345 + 1.15 * thick,
    )
    flare = g["width"] + 0.024 + 0.7 * thick + 0.07 * volume * smooth(ky, -0.05, 0.45)
    curtain = torch.maximum(
        waved - flare + 0.035 * smooth(ky, length - 0.10, length),
        ky - length + 0.9 * (waved - flare + 0.06).clamp(min=0) + 0.012 * torch.sin(40 * kx + curl_phase),
    )
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
    across = (kx - part * smooth(-ky, -0.1, 0.45)) / (
        0.10 + torch.sqrt((0.2 - (ky + 0.05).clamp(max=0) ** 2).clamp(min=0.0))
    )
    across = across + (0.05 * is_["Wavy_Hair"] + 0.012) * torch.sin(22 * ky + curl_phase + 3 * across)
    strands = torch.zeros_like(hx)
    phase = 40 * u["strands"]
    for k, (frequency, weight) in enumerate(((17.0, 0.45), (31.0, 0.35), (67.0, 0.30), (121.0, 0.25))):
        fade = torch.exp(-((frequency * 2.0 * canvas.pixel) ** 2) / 2.2)  # a wave finer than a pixel averages out
        strands = strands + weight * fade * torch.sin(frequency * across + phase * (k + 1))
    sheen = torch.exp(-(((ky + 0.27 - 0.25 * kx * light_x - 0.35 * kx * kx) / 0.085) ** 2))
    depth = (kx / (g["width"] + 0.09)).clamp(-1, 1)
    lit = 0.86 + 0.22 * power * (depth * light_x) - 0.22 * depth * depth - 0.12 * smooth(ky, -0.1, 0.5)
    lit = lit + 0.16 * strands + (0.22 + 0.12 * is_["Straight_Hair"]) * sheen * (0.7 + 0.5 * strands)
    gloss = 0.035 * sheen * (1 + strands)
    hair_rgb = c["hair"] * lit + gloss
    canvas.put(hair_rgb * (0.62 - 0.12 * smooth(ky, 0.0, 0.4)), behind)
    p.long = long
    p.fall = fall
    p.thick = thick
    p.kx = kx
    p.ky = ky
    p.curl_phase = curl_phase
    p.part = part
    p.phase = phase
    p.strands = strands
    p.depth = depth
    p.hair = hair
    p.hair_rgb = hair_rgb


def beard(canvas: Canvas, p: Portrait) -> None:
    """Stubble, side-whiskers and goatee."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    hy, x, y, ax, ox, strands, outline, radius = p.hy, p.x, p.y, p.ax, p.ox, p.strands, p.outline, p.radius
    face = p.face
    my = y - g["mouth_y"]
    chin_zone = smooth(radius, 0.50, 0.86) * smooth(hy, 0.05, 0.24)
    zone = torch.maximum(chin_zone, blob(x, my + 0.040, 0.10, 0.032))
    zone = torch.maximum(zone, blob(x, my - 0.085, 0.11, 0.05))
    lips_free = 1 - blob(x, my, 0.075, 0.020)
    tint = torch.lerp(c["skin"] * 0.45, c["brow"] * 0.9 + 0.04, 0.6)
    canvas.put(tint, face * zone * lips_free * is_["5_o_Clock_Shadow"] * (0.36 + 0.20 * u["beard"]))
    grain = 1 + 0.16 * strands
    whisker = c["hair"] * 0.80 * grain
    burn = canvas.inside(
        torch.maximum(
            outline,
            torch.maximum(g["width"] - 0.046 - 0.05 * (hy - 0.05) - ox.abs(), (hy - 0.120).abs() - 0.125),
        ),
        0.026,
    )
    canvas.put(whisker, 0.8 * face * burn * is_["Sideburns"])
    full = 0.045 + 0.03 * u["beard"]
    goatee = torch.maximum(ellipse(x, y - g["chin"] + 0.062, 0.085 + full * 0.6, 0.066 + 0.1 * full), outline - 0.012)
    goatee = torch.maximum(goatee, 0.030 + 2.2 * x * x - my)
    goatee = torch.minimum(
        goatee,
        torch.maximum((ax - g["mouth_w"] - 0.012).abs() - 0.014, (my - 0.03).abs() - 0.06) + 10 * (u["beard"] < 0.5),
    )
    canvas.put(whisker, 0.80 * canvas.inside(goatee, 0.034) * is_["Goatee"])
    p.whisker = whisker


def front_hair(canvas: Canvas, p: Portrait) -> None:
    """The hair in front: its silhouette without the window the face looks through."""
    g, u, is_ = p.g, p.u, p.is_
    hx, hy, x, y, ax, light_x, male, old = p.hx, p.hy, p.x, p.y, p.ax, p.light_x, p.male, p.old
    long, fall, kx, ky, part, phase, hair, hair_rgb = (
        p.long,
        p.fall,
        p.kx,
        p.ky,
        p.part,
        p.phase,
        p.hair,
        p.hair_rgb,
    )
    face = p.face
    swept = part * (x - part) * 0.55 * (1 - is_["Bangs"])
    peak = (0.62 - 0.30 * male) * (1 - is_["Bangs"]) * (1 - is_["Receding_Hairline"])  # hair parted and combed aside
    rise_y = 0.272 + 0.008 * male + 0.035 * peak + 0.070 * is_["Receding_Hairline"] + 0.016 * old * male
    rise_y = torch.where(is_["Bangs"] > 0, 0.098 + 0.018 * u["curl"], rise_y)
    window_w = torch.where(long > 0.5, 0.214 + 0.012 * (1 - fall), g["width"] - 0.022)
    window_w = window_w + long * (
        0.016 * torch.exp(-(((y - 0.08) / 0.13) ** 2))
        + 0.03 * smooth(y, 0.2, 0.5)
        + (0.004 + 0.006 * is_["Wavy_Hair"]) * torch.sin(17 * y + phase + torch.sign(x))
    )
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
    edge = window + (0.4 + 0.6 * is_["Bangs"]) * fringe * smooth(-y, 0.02, 0.1)
    front = hair * (1 - canvas.inside(edge, torch.where(is_["Bangs"] > 0, 0.010, 0.014)))
    near = 1 - smooth(-edge, 0.0, 0.045)
    canvas.shade(
        (0.66, 0.56, 0.54),
        face
        * (1 - is_["Bald"])
        * near
        * (0.25 + 0.30 * smooth(-y, -0.05, 0.1))
        * (1 - smooth(y, 0.0, 0.3) * (1 - long)),
    )
    temple = 1 - 0.22 * torch.exp(-((edge / 0.02) ** 2))
    canvas.put(hair_rgb * temple, front)
    canvas.shade(
        (0.82, 0.80, 0.80),
        front * canvas.line(kx - part + 0.10 * (ky + 0.4), 0.004, 0.008) * smooth(-ky, 0.25, 0.31) * 0.9,
    )
    canvas.put(colour(*WHITE), 0.26 * is_["Bald"] * face * blob(hx - 0.10 * light_x, hy + 0.27, 0.09, 0.05))
    p.front = front


def hat(canvas: Canvas, p: Portrait) -> None:
    """A knitted cap or a brimmed hat over the hair."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    light_x, power, thick, kx, ky, depth, face = p.light_x, p.power, p.thick, p.kx, p.ky, p.depth, p.face
    brimmed = (u["hat_style"] > 0.5).float()
    hat_y = -0.155 + 0.03 * brimmed + 0.25 * kx * kx * (1 - brimmed)
    dome = torch.maximum(ellipse(kx, ky + 0.10, g["width"] + 0.035 + 0.3 * thick, 0.375), ky - hat_y)
    hat_lit = (
        0.95
        + 0.25 * power * depth * light_x
        - 0.28 * depth * depth
        + 0.05 * torch.cos(62 * depth) * (1 - brimmed) * torch.exp(-((55 * canvas.pixel) ** 2) / 3)
    )
    hat_lit = hat_lit - 0.16 * brimmed * blob(kx, ky + 0.42, 0.10, 0.07)
    canvas.shade((0.55, 0.46, 0.45), is_["Wearing_Hat"] * face * (1 - smooth(ky - hat_y, 0.0, 0.085)) * 0.9)
    canvas.put(c["hat"] * hat_lit, is_["Wearing_Hat"] * canvas.inside(dome, 0.003))
    band = canvas.inside(torch.maximum(dome, hat_y - 0.055 - ky))
    canvas.put(c["hat"] * 0.55 * hat_lit, is_["Wearing_Hat"] * band * (0.4 + 0.5 * brimmed))
    brim = ellipse(kx, ky - hat_y + 0.35 * kx * kx, 0.29 + 0.13 * brimmed, 0.026 + 0.012 * brimmed)
    canvas.put(c["hat"] * (0.72 + 0.15 * depth * light_x), is_["Wearing_Hat"] * canvas.inside(brim, 0.003))
