"""Body, head and features of procedural faces, each function one part.

Parts leave on the portrait what later parts need, such as where the face is. Lengths are in head coordinates
(see `geometry`); the numbers in here are facial proportions found by eye.
"""

from __future__ import annotations

import torch

from glowkit.faces.canvas import WHITE, Canvas, blob, colour, ellipse, smooth
from glowkit.faces.geometry import HALF_EYES, NOSE_RELIEF
from glowkit.faces.portrait import Portrait


def body(canvas: Canvas, p: Portrait) -> None:
    """Neck and clothes hang from the body, which stays upright when the head rolls."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    hx, hy, light_x, power, male, curl_phase = p.hx, p.hy, p.light_x, p.power, p.male, p.curl_phase
    bx = hx - (hy - 0.3) * torch.sin(u["roll"]) + 0.09 * g["sin_yaw"]
    by = hy + hx * torch.sin(u["roll"]) * 0.6
    neck_w = 0.128 + 0.036 * male + 0.02 * is_["Chubby"] + 0.12 * smooth(by, 0.36, 0.62) ** 2
    neck = canvas.inside(torch.maximum(bx.abs() - neck_w, 0.1 - by), 0.004)
    round_neck = 0.70 - 0.22 * (bx / neck_w).clamp(-1, 1) ** 2
    cast = 1 - smooth(by, g["chin"] - 0.02, g["chin"] + 0.10)
    side = 0.16 * power * light_x * (bx / neck_w).clamp(-1, 1)
    skin_neck = c["skin"] * (0.30 + round_neck + side) * torch.lerp(colour(*WHITE), colour(0.66, 0.56, 0.54), cast)
    slope = torch.where(male > 0, 0.36, 0.46)
    shoulder = (
        0.415 - 0.02 * male + slope * (bx.abs() - 0.13).clamp(min=0) + 0.9 * (bx.abs() - 0.42).clamp(min=0) ** 2 - by
    )
    trapeze = canvas.inside(shoulder + 0.01, 0.004)
    canvas.put(skin_neck, torch.maximum(neck, trapeze))
    scoop = torch.where(male > 0, 0.10, 0.10 + 0.16 * u["neckline"])
    collar = torch.maximum(shoulder, -ellipse(bx, by - 0.41, 0.145 + 0.03 * male + 0.35 * scoop, scoop))
    fold = 0.03 * torch.sin(9 * bx + 5 * by + curl_phase) + 0.025 * torch.sin(21 * bx - 9 * by)
    cloth_lit = 0.90 + fold + 0.25 * power * bx * light_x - 0.4 * (bx.abs() - 0.25).clamp(min=0)
    dressed = canvas.inside(collar)
    canvas.put(c["cloth"] * cloth_lit, dressed)
    canvas.shade((0.72, 0.70, 0.72), dressed * canvas.line(collar, 0.012, 0.01) * 0.6)
    shirt = (
        canvas.inside(
            torch.maximum(
                bx.abs() - 0.165 + 0.25 * (by - 0.40).clamp(min=0),
                0.385 + 0.35 * (0.165 - bx.abs()).clamp(min=0) - by,
            )
        )
        * is_["Wearing_Necktie"]
    )
    canvas.put(torch.full((1, 3, 1, 1), 0.90) * (0.95 + 0.3 * bx * light_x - 0.15 * cast), shirt)
    knot = canvas.inside(torch.maximum(bx.abs() - 0.048 + 0.22 * (by - 0.44).clamp(0, 0.08), 0.425 - by))
    stripe = 0.9 + 0.12 * torch.sin(70 * (bx + by)) * torch.exp(-((70 * canvas.pixel) ** 2) / 8)
    canvas.put(c["tie"] * stripe, knot * is_["Wearing_Necktie"])


def ears(canvas: Canvas, p: Portrait) -> None:
    """Ears; long hair covers them later."""
    g, c = p.g, p.c
    hx, hy = p.hx, p.hy
    ear_x = (hx + 0.02 * g["sin_yaw"]).abs() - g["width"] - 0.010
    ear = ellipse(ear_x + 0.18 * (hy - 0.06), hy - 0.055, 0.030, 0.078)
    canvas.put(c["skin"] * colour(0.86, 0.76, 0.73), canvas.inside(ear))
    canvas.shade((0.72, 0.62, 0.60), blob(ear_x + 0.006, hy - 0.05, 0.014, 0.040) * canvas.inside(ear))


def head(canvas: Canvas, p: Portrait) -> None:
    """The head: its outline and the shading of a volume, then what colours the cheeks."""
    g, c, is_ = p.g, p.c, p.is_
    hx, hy, x, y, ax, light_x, light_y, power = p.hx, p.hy, p.x, p.y, p.ax, p.light_x, p.light_y, p.power
    ox = hx - (0.035 + 0.13 * smooth(hy, -0.05, 0.40)) * g["sin_yaw"]
    lower = ((hy - 0.02) / (g["chin"] - 0.02)).clamp(min=0)
    lower = lower * (1 - g["jaw"] + g["jaw"] * lower)
    high = ((0.02 - hy) / 0.415).clamp(min=0)
    vy = torch.where(hy < 0.02, -high * (0.78 + 0.22 * high), lower)
    vx = ox / g["width"]
    radius = torch.sqrt(vx * vx + vy * vy + 1e-9)
    steep = torch.where(hy < 0.02, 1.2 / 0.415, (1 + g["jaw"]) / (g["chin"] - 0.02))
    outline = (radius - 1) * radius / torch.sqrt((vx / g["width"]) ** 2 + (vy * steep) ** 2 + 1e-6)
    face = canvas.inside(outline)
    jowl = ellipse(ox - 0.02 * g["sin_yaw"], hy - g["chin"] + 0.055, 0.185, 0.105)
    canvas.put(c["skin"] * colour(0.84, 0.76, 0.73), canvas.inside(jowl, 0.01) * is_["Double_Chin"])
    inner = radius.clamp(max=1.0)
    nz = torch.sqrt(1.02 - inner * inner)
    norm = torch.sqrt(light_x * light_x + light_y * light_y + 0.9)
    facing = (vx * light_x + vy * 0.8 * light_y + 0.95 * nz) / norm
    relief = (
        0.10 * blob(x, y + 0.20, 0.16, 0.10)  # forehead
        + 0.10 * (0.5 + 1.7 * is_["High_Cheekbones"]) * blob(ax - 0.150, y - 0.095 + 0.1 * (ax - 0.15), 0.060, 0.036)
        + 0.07 * blob(x, y - g["chin"] + 0.065, 0.05, 0.032)  # chin
        - 0.20 * blob(ax - 0.120, y + 0.012, 0.085, 0.045)  # eye sockets
        - 0.10 * blob(ax - 0.045, y + 0.005, 0.028, 0.045)
        - (0.04 + 0.14 * is_["High_Cheekbones"])
        * (1 - smooth(radius, 0.82, 1.0))
        * blob(ax - 0.175 + 0.35 * (y - 0.2), y - 0.205, 0.045, 0.07)
        - 0.14 * blob(x, y - g["mouth_y"] - 0.062, 0.055, 0.016)  # under the lower lip
        - 0.05 * blob(x, y - g["nose_y"] - 0.035, 0.020, 0.030)  # philtrum
    )
    shade = (0.46 + 0.62 * facing.clamp(min=0) * (0.75 + 0.25 * power) + relief * (0.7 + 0.4 * power)).clamp(0.35, 1.14)
    deep = (1.0 - shade).clamp(min=0)
    skin = c["skin"] * (1 - deep * colour(0.82, 1.02, 1.08)) + 0.10 * (shade - 0.9).clamp(min=0)
    canvas.put(skin, face)
    # stubble shows as a bluish grey, later covered by a grown beard
    ruddy = 0.10 * blob(ax - 0.15, y - 0.13, 0.07, 0.06) + 0.10 * blob(x, y - g["nose_y"] + 0.02, 0.045, 0.03)
    canvas.shade((0.99, 0.80, 0.80), face * ruddy * 1.5)
    blush = is_["Rosy_Cheeks"] * 0.95 + is_["Heavy_Makeup"] * 0.28
    canvas.shade(
        (1.0, 0.70, 0.71),
        0.66 * face * blush * blob(ax - 0.160, y - 0.125 + 0.25 * (ax - 0.16), 0.068, 0.048),
    )
    p.ox = ox
    p.outline = outline
    p.radius = radius
    p.face = face
    p.skin = skin


def age(canvas: Canvas, p: Portrait) -> None:
    """Forehead lines, crow's feet, bags; the folds beside the mouth deepen with a smile too."""
    g, u, is_ = p.g, p.u, p.is_
    hx, x, y, ax, old, curl_phase, face, skin = p.hx, p.x, p.y, p.ax, p.old, p.curl_phase, p.face, p.skin
    wrinkle = old * (0.5 + 0.5 * u["wrinkles"])
    lines = torch.zeros_like(hx)
    for level in (-0.155, -0.185, -0.215):
        lines = lines + 0.7 * canvas.line(
            y - level - 0.5 * x * x - 0.004 * torch.sin(25 * x + curl_phase), 0.0022, 0.006
        ) * (1 - smooth(ax, 0.06, 0.15))
    feet = torch.zeros_like(hx)
    for tilt in (-0.35, 0.1, 0.5):
        feet = feet + canvas.line(y - 0.002 - tilt * (ax - 0.18), 0.0022, 0.003) * blob(ax - 0.215, y, 0.022, 0.05)
    smile = g["smile"].clamp(min=0)
    fold_x = 0.056 + 0.30 * (y - 0.13) + 0.9 * (y - 0.13) ** 2 + 0.012 * smile
    folds = canvas.line(ax - fold_x, 0.004, 0.020) * smooth(y, 0.125, 0.165) * (1 - smooth(y, 0.205, 0.29))
    canvas.shade(
        (0.60, 0.50, 0.48),
        (
            face
            * (wrinkle * lines + (0.8 * wrinkle + 0.25 * smile) * feet + folds * (0.04 + 0.55 * smile + 0.40 * wrinkle))
        ).clamp(0, 1),
    )
    canvas.shade(
        (0.66, 0.55, 0.56),
        face
        * (is_["Bags_Under_Eyes"] + 0.25 * wrinkle)
        * canvas.line(y - 0.060 + 3.0 * (ax - 0.125) ** 2, 0.008, 0.022)
        * (1 - smooth((ax - 0.122).abs(), 0.035, 0.062)),
    )
    canvas.put(skin * 1.05, 0.5 * is_["Bags_Under_Eyes"] * face * blob(ax - 0.125, y - 0.042, 0.035, 0.007))
    p.smile = smile


def eyes(canvas: Canvas, p: Portrait) -> None:
    """Both eyes at once in the mirrored coordinate ex, outward positive."""
    c, u, is_ = p.c, p.u, p.is_
    x, y, ax, light_x, male, face, smile = p.x, p.y, p.ax, p.light_x, p.male, p.face, p.smile
    ex, ey = ax - HALF_EYES, y - (u["eye_tilt"] - 0.62) * 0.10 * -(ax - HALF_EYES)
    half = 0.0595 + 0.007 * u["eye_size"] + 0.002 * (1 - male)
    narrow = is_["Narrow_Eyes"]
    top = (0.0270 + 0.006 * u["eye_size"] + 0.004 * (1 - male)) * (1 - 0.50 * narrow) * (1 - 0.14 * smile)
    low = (0.0155 + 0.002 * u["eye_size"]) * (1 - 0.46 * narrow) * (1 - 0.30 * smile)
    t = (ex / half).clamp(-2, 2)
    arch = 1 - t * t
    upper = -top * arch * (1 - 0.22 * t) - 0.002
    under = low * arch * (1 + 0.25 * t) - 0.002
    opening = torch.maximum(upper - ey, ey - under)
    lid = canvas.line(ey - upper + 0.016 - 0.004 * narrow, 0.0035, 0.006) * (1 - smooth(t.abs(), 0.75, 1.15))
    paint_lid = canvas.inside(torch.maximum(ey - upper, upper - 0.030 - ey - 0.014 * t), 0.016) * (
        1 - smooth(t.abs(), 0.8, 1.25)
    )
    canvas.put(c["eyeshadow"], 0.55 * is_["Heavy_Makeup"] * paint_lid * face)
    canvas.shade((0.58, 0.47, 0.45), 0.65 * lid * face)
    eye = canvas.inside(opening) * canvas.inside(t.abs() * half - half)
    white = colour(0.87, 0.845, 0.83) * (0.62 + 0.38 * smooth(ey - upper, 0.0, 0.020)) * (1 - 0.18 * t * t)
    canvas.put(white, eye)
    gaze = (u["gaze"] - 0.5) * 0.010 * torch.sign(x)
    iris_d = torch.sqrt((ex - gaze) ** 2 + (ey + 0.0055) ** 2 + 1e-9)
    iris_rgb = c["iris"] * (0.72 + 0.55 * smooth(ey, -0.02, 0.02) - 0.45 * smooth(iris_d, 0.017, 0.026))
    canvas.put(iris_rgb, eye * canvas.inside(iris_d - 0.0290))
    canvas.put(torch.full((1, 3, 1, 1), 0.03), eye * canvas.inside(iris_d - 0.0132))
    glint_x = ex - gaze - 0.010 * torch.sign(light_x) * torch.sign(x)
    canvas.put(colour(*WHITE), 0.92 * eye * canvas.inside(torch.sqrt(glint_x**2 + (ey + 0.012) ** 2 + 1e-9) - 0.0062))
    lash = 0.0032 + 0.0018 * (1 - male) + 0.0032 * is_["Heavy_Makeup"]
    wing = (1 - male) * (0.10 + 0.16 * is_["Heavy_Makeup"])
    lashes = (
        canvas.line(ey - upper + 0.4 * lash + 0.05 * (t - 1).clamp(min=0), lash)
        * (1 - smooth(t, 1.0 + wing, 1.06 + wing))
        * smooth(t, -1.08, -0.85)
    )
    canvas.put(c["brow"] * 0.35, 0.92 * lashes)
    rim = canvas.line(ey - under - 0.001, 0.0016, 0.002) * (1 - smooth(t.abs(), 0.85, 1.02))
    canvas.shade((0.55, 0.42, 0.42), rim * (0.55 + 0.35 * is_["Heavy_Makeup"]))


def brows(canvas: Canvas, p: Portrait) -> None:
    """Eyebrows."""
    c, u, is_ = p.c, p.u, p.is_
    y, ax, male, face, smile = p.y, p.ax, p.male, p.face, p.smile
    arched = is_["Arched_Eyebrows"]
    brow_t = (ax - HALF_EYES - 0.004) / 0.078
    brow_y = -0.066 - 0.010 * u["brow_height"] + 0.006 * male - 0.006 * smile
    bent = torch.where(brow_t < 0.3, 0.62, 1.0) * (brow_t - 0.3)
    brow_line = brow_y - (0.009 + 0.022 * arched) * (1 - (bent / (1.0 - 0.25 * arched)) ** 2) + 0.004 * (1 - arched)
    brow_half = (
        (0.0072 + 0.0038 * male)
        * (1 + 0.85 * is_["Bushy_Eyebrows"])
        * (1 - 0.12 * arched)
        * (1.05 - 0.55 * smooth(brow_t, -0.2, 1.05))
    )
    brow = (
        canvas.line(y - brow_line, brow_half, 0.005)
        * smooth(brow_t, -1.15 - 0.1 * is_["Bushy_Eyebrows"], -0.55)
        * (1 - smooth(brow_t, 0.80, 1.12))
    )
    canvas.put(c["brow"], (0.80 + 0.12 * is_["Bushy_Eyebrows"]) * brow * face)


def nose(canvas: Canvas, p: Portrait) -> None:
    """Bridge, tip and wings of the nose follow the yaw more than the face does."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    x, y, light_x, power, male, face = p.x, p.y, p.light_x, p.power, p.male, p.face
    nx = x - NOSE_RELIEF * g["sin_yaw"] * smooth(y, -0.05, 0.14) * 1.1
    ny = y - g["nose_y"] - NOSE_RELIEF * g["sin_pitch"] * smooth(y, 0.0, 0.14)
    wide = 0.038 + 0.010 * u["nose_width"] + 0.004 * male + 0.022 * is_["Big_Nose"] - 0.012 * is_["Pointy_Nose"]
    bridge = 0.016 + 0.22 * wide
    span = smooth(y, -0.05, 0.0) * (1 - smooth(ny, -0.04, -0.015))
    side = blob(nx + bridge * 1.6 * torch.where(light_x > 0, 1.0, -1.0), torch.zeros_like(y), bridge * 1.05, 1.0) * span
    canvas.shade((0.74, 0.62, 0.58), face * side * (0.22 + 0.75 * light_x.abs() * power + 0.15 * is_["Big_Nose"]))
    canvas.put(
        c["skin"] * 1.10 + 0.05,
        face
        * (0.26 + 0.12 * is_["Pointy_Nose"])
        * blob(nx - bridge * 0.35 * torch.sign(light_x), torch.zeros_like(y), bridge * 0.55, 1.0)
        * span,
    )
    ball = ellipse(nx, ny + 0.022, wide * 0.62, 0.024 + 0.2 * (wide - 0.04))
    wings = ellipse(nx.abs() - wide * 0.80, ny + 0.016, wide * 0.36, 0.020 + 0.1 * (wide - 0.04))
    bulb = torch.minimum(ball, wings)
    canvas.shade((0.66, 0.53, 0.50), face * blob(nx, ny - 0.004, wide * 1.15, 0.014) * (0.75 + 0.2 * is_["Big_Nose"]))
    canvas.shade(
        (0.78, 0.66, 0.63),
        face * blob(nx.abs() - wide * 1.12, ny + 0.018, 0.010, 0.022) * (0.9 + 0.4 * is_["Big_Nose"]),
    )
    canvas.put(c["skin"] * (0.93 + 0.10 * light_x * torch.sign(nx) * power), face * 0.45 * canvas.inside(bulb, 0.028))
    canvas.put(
        c["skin"] * 1.12 + 0.08,
        face * 0.42 * blob(nx - 0.007 * torch.sign(light_x), ny + 0.032, 0.014 - 0.004 * is_["Pointy_Nose"], 0.012),
    )
    canvas.shade(
        (0.34, 0.24, 0.22),
        face * 0.9 * blob(nx.abs() - wide * 0.46, ny + 0.001 + 0.12 * (nx.abs() - wide * 0.46), wide * 0.24, 0.0062),
    )


def mouth(canvas: Canvas, p: Portrait) -> None:
    """Lips, teeth, mustache, and the crease of a double chin."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    x, y, ax, light_x, power, male, old, face = p.x, p.y, p.ax, p.light_x, p.power, p.male, p.old, p.face
    smile, whisker = p.smile, p.whisker
    mouth_t = x / g["mouth_w"]
    flat = (mouth_t * mouth_t).clamp(max=1.6)
    seam = y - (g["mouth_y"] - 0.027 * g["smile"] * (flat - 0.35) / 0.65 + 0.004 * (1 - flat))
    body = (1 - flat).clamp(min=0)
    gap = g["gap"] * body.sqrt() * (0.9 + 0.1 * body)
    lip = (
        (0.0135 + 0.007 * u["lip_height"] + 0.0035 * (1 - male))
        * (1 + 0.90 * is_["Big_Lips"])
        * (1 - 0.22 * old)
        * (1 - 0.22 * smile)
    )
    bow = 1 - 0.28 * torch.exp(-((x / 0.016) ** 2))
    rise = lip * 0.88 * body**0.8 * bow
    drop = lip * 1.25 * body**0.65
    open_up, open_down = gap * 0.30, gap * 0.70
    upper_lip = torch.maximum(-seam - open_up - rise, seam + open_up - 0.0015)
    lower_lip = torch.maximum(seam - open_down - drop, -seam + open_down - 0.0015)
    inside_w = canvas.inside((mouth_t.abs() - 1) * g["mouth_w"])
    cavity = canvas.inside(torch.maximum(-seam - open_up, seam - open_down)) * inside_w * (g["gap"] > 0)
    canvas.put(colour(0.20, 0.06, 0.06), cavity)
    teeth_end = -open_up + torch.where(smile > 0.3, 0.88, 0.36) * gap
    teeth = canvas.inside(torch.maximum(seam - teeth_end, (mouth_t.abs() - 0.88) * g["mouth_w"])) * cavity
    canvas.put(colour(0.93, 0.90, 0.86) * (1.0 - 0.38 * flat.clamp(max=1)), teeth)
    lip_lit = 1 + 0.12 * light_x * mouth_t.clamp(-1, 1) * power
    up_mask = canvas.inside(upper_lip, 0.002) * inside_w
    canvas.put(c["lips"] * 0.80 * lip_lit, (0.88 + 0.12 * is_["Wearing_Lipstick"]) * up_mask)
    low_mask = canvas.inside(lower_lip, 0.002) * inside_w
    canvas.put(c["lips"] * 1.02 * lip_lit, (0.78 + 0.22 * is_["Wearing_Lipstick"]) * low_mask)
    canvas.put(
        torch.lerp(c["lips"], colour(*WHITE), 0.42),
        (0.45 + 0.3 * is_["Wearing_Lipstick"])
        * low_mask
        * blob(x - 0.012 * torch.sign(light_x), seam - open_down - drop * 0.48, 0.030, 0.0055),
    )
    seam_line = canvas.line(seam, 0.0022, 0.001) * (g["gap"] == 0) + canvas.line(seam + open_up, 0.0012) * (
        g["gap"] > 0
    )
    canvas.shade((0.36, 0.22, 0.22), 0.85 * seam_line * (1 - smooth(mouth_t.abs(), 0.96, 1.04)))
    canvas.shade(
        (0.62, 0.50, 0.48),
        0.8 * face * blob(ax - g["mouth_w"] - 0.003, y - g["corner_y"] - 0.003, 0.011, 0.010),
    )
    tache_low = seam + open_up + rise * 0.75 - 0.006 * flat
    tache = torch.maximum(tache_low, -(tache_low + 0.036 - 0.020 * flat + 0.006 * torch.exp(-((x / 0.012) ** 2))))
    tache = torch.maximum(tache, ax - g["mouth_w"] * 1.06)
    canvas.put(whisker * 0.95, 0.94 * is_["Mustache"] * canvas.inside(tache, 0.010))
    crease = canvas.line(y - g["chin"] + 0.012 + 1.3 * x * x, 0.006, 0.010) * (1 - smooth(ax, 0.10, 0.17))
    canvas.shade((0.58, 0.48, 0.46), is_["Double_Chin"] * 0.85 * crease)


def earrings(canvas: Canvas, p: Portrait) -> None:
    """Earrings hang in front of the hair; a far turned head hides the far one."""
    g, u, is_ = p.g, p.u, p.is_
    hx, hy = p.hx, p.hy
    ring_x, ring_y = (hx + 0.02 * g["sin_yaw"]).abs() - g["width"] - 0.004, hy - 0.165
    drop_r = 0.016 + 0.010 * u["neckline"]
    hoop = ellipse(ring_x, ring_y - drop_r, drop_r, drop_r * 1.35)
    jewel = torch.where(u["neckline"] > 0.5, canvas.line(hoop, 0.0055), canvas.inside(hoop + 0.002))
    gold = torch.where(u["tinted"] > 0.5, colour(0.90, 0.74, 0.36), colour(0.88, 0.88, 0.91))
    canvas.put(
        gold * (1.05 - 12 * ring_y.clamp(0, 0.03)),
        is_["Wearing_Earrings"] * jewel * (1 - smooth(g["sin_yaw"] * torch.sign(hx), 0.14, 0.26)),
    )


def glasses(canvas: Canvas, p: Portrait) -> None:
    """Round, square or wide frames; some are tinted."""
    g, c, u, is_ = p.g, p.c, p.u, p.is_
    hx, x, y, ax, front = p.hx, p.x, p.y, p.ax, p.front
    style = u["glasses_style"]
    square = smooth(style, 0.30, 0.45)
    lens_w = 0.092 + 0.012 * square
    lens_h = 0.078 - 0.016 * square + 0.01 * smooth(style, 0.75, 0.9)
    lx, ly = (ax - HALF_EYES - 0.004) / lens_w, (y - 0.012) / lens_h
    power4 = torch.lerp(lx * lx + ly * ly, lx**4 + ly**4, square)
    lens = (power4.clamp(min=1e-6) ** torch.where(square > 0.5, 0.25, 0.5) - 1) * 0.082
    dark_lens = smooth(u["tinted"], 0.70, 0.72)
    wearing = is_["Eyeglasses"]
    in_lens = canvas.inside(lens)
    canvas.shade((0.22, 0.20, 0.20), wearing * in_lens * dark_lens * (0.92 - 0.25 * smooth(ly, -0.4, 1.0)))
    shine = canvas.line(lx * 0.7 + ly * 0.5 + 0.35, 0.10, 0.08) * in_lens
    canvas.put(colour(*WHITE), wearing * shine * (0.10 + 0.10 * dark_lens))
    frame = canvas.line(lens, 0.0050 + 0.0045 * smooth(style, 0.5, 0.9))
    nose_bridge = canvas.line(y + 0.012 - 2.0 * x * x, 0.0055) * canvas.inside(ax - HALF_EYES + lens_w - 0.012)
    temple_arm = (
        canvas.line(y + 0.014, 0.0060)
        * canvas.inside(HALF_EYES + lens_w - 0.004 - ax)
        * (1 - front * 0.8)
        * canvas.inside(hx.abs() - g["width"] - 0.02)
    )
    canvas.shade((0.70, 0.62, 0.60), wearing * 0.5 * canvas.line(lens - 0.006, 0.006, 0.012) * smooth(ly, -0.2, 0.2))
    canvas.put(c["frame"], wearing * torch.maximum(frame, torch.maximum(nose_bridge, temple_arm)))
