"""The state of a procedural portrait while it is painted: numbers, colours, coordinates, and the backdrop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glowkit.faces.canvas import Canvas, blob, column, palette, smooth
from glowkit.faces.geometry import EYES, SECTION_A, shape
from glowkit.faces.population import ATTRIBUTES, CONTINUOUS, Factors


class Portrait:
    """The numbers, colours and coordinates of B faces at the points of a picture, and the masks painted so
    far."""

    def __init__(self, f: Factors, qx: Tensor, qy: Tensor):
        self.g = {name: column(value) for name, value in shape(f).items()}  # lengths
        self.c = {name: column(value) for name, value in palette(f).items()}  # colours
        self.is_ = {name: column(f[name]) for name in ATTRIBUTES}  # 0 or 1
        self.u = {name: column(f[name]) for name in CONTINUOUS}
        g, u = self.g, self.u
        self.qx, self.qy = qx, qy
        # hx, hy: on the head; x, y: on the face with its turn undone, where features are drawn frontal
        self.hx = (qx - 0.5) * g["scale"] + g["middle"]
        self.hy = (qy - EYES[0][1]) * g["scale"] + g["lift"]
        s = self.hx / g["section"]
        inner = s.clamp(-0.995, 0.995)
        turned = inner * torch.cos(g["turn"]) - torch.sqrt(1 - inner * inner) * torch.sin(g["turn"])
        self.x = SECTION_A * (turned + (s - inner))
        self.y = self.hy - g["lift"]
        self.ax = self.x.abs()
        self.light_x = (u["light_x"] - 0.5) * 1.3
        self.light_y = -0.25 - 0.45 * u["light_y"]
        self.power = 0.45 + 0.55 * u["light_strength"]
        self.male, self.old = self.is_["Male"], 1 - self.is_["Young"]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not painted yet: parts go from the back to the front")


def backdrop(p: Portrait, pixel: Tensor) -> Canvas:
    """Two muted colours and two spots far out of focus."""
    c, u, qx, qy = p.c, p.u, p.qx, p.qy
    angle = 6.2832 * u["backdrop_turn"]
    along = (qx - 0.5) * torch.cos(angle) + (qy - 0.5) * torch.sin(angle)
    canvas = Canvas(torch.lerp(c["backdrop"], c["backdrop2"], smooth(along, -0.6, 0.6)), pixel * p.g["scale"])
    spot = blob(qx - 1.1 * u["bokeh_x"] + 0.05, qy - 0.9 * u["bokeh_y"], 0.26, 0.34)
    canvas.put(c["bokeh"], 0.75 * spot)
    canvas.put(c["backdrop2"] * 0.75, 0.6 * blob(qx - 1 + u["bokeh_x"], qy - 1 + 0.7 * u["bokeh_y"], 0.35, 0.22))
    return canvas
