"""Figure 2 drawn from a model itself: shapes, parameters and operations are read off its modules.

Nothing here is typed in. Shapes come from running the levels on shapes alone (the meta device computes
nothing), operations from torch's counter while they run, and `composition` compares what a model does with
what is drawn.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glowkit.book.figures import COLOURS
from glowkit.flow import Glow
from glowkit.kernels import FoldedSteps
from glowkit.layers import Step, squeeze

Shape = tuple[int, int, int]
"""Channels, height, width."""


class LevelCount(NamedTuple):
    """One level of a model, for one image."""

    working: Shape
    """What its steps of flow see, after the squeeze."""
    kept: Shape | None
    """What goes on to the next level, None at the deepest."""
    latents: Shape
    """What stays here as this level's part of z."""
    steps: int
    parameters: int
    """Trainable numbers."""
    flops: int
    """Floating-point operations of the convolutions of one forward pass (a multiplication and an addition
    count as two). The products that make W of its factors are left out: once a batch, not once an image."""


def count(model: Glow) -> list[LevelCount]:
    """The levels of a model, shallow to deep."""
    shapes_only = copy.deepcopy(model).to("meta")
    h: Tensor | None = torch.empty(1, 3, model.config.image_size, model.config.image_size, device="meta")
    counts = []
    for level in shapes_only.levels:
        working = tuple(squeeze(h).shape[1:])
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            h, eps, _ = level(h)
        flops = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
        kept = None if h is None else tuple(h.shape[1:])
        counts.append(LevelCount(working, kept, tuple(eps.shape[1:]), len(level.steps), parameters(level), flops))
    return counts


def parameters(module: torch.nn.Module) -> int:
    """Trainable numbers of a module, as torch counts them."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def composition(model: Glow, v: Tensor) -> dict[str, float]:
    """How far each step and each level of a model is from what figure 2 draws: {name: largest difference}.

    v (B, 3, H, W) centred pixels. A step as it runs, folded, is to be actnorm, then the invertible 1x1
    convolution, then the coupling, and to leave half the channels as they were after the second; a level is to
    be the squeeze, its steps, and a split whose two halves are the next level's input and, standardised, this
    level's slice of z.
    """
    z, _ = model(v)
    differences, h = {}, v
    for depth, (level, where) in enumerate(zip(model.levels, model.level_slices, strict=True), 1):
        kept, eps, _ = level(h)
        h = squeeze(h)
        for k, step in enumerate(level.steps, 1):
            turned = step.conv(step.norm(h)[0])[0]
            y, out = step.coupling(turned)[0], FoldedSteps([step], h.shape[-2:]).forward(h)[0]
            untouched = out[:, step.coupling.half :] - turned[:, step.coupling.half :]
            differences[f"level {depth}, step {k}"] = max(_largest(out - y), _largest(untouched))
            h = out
        parts = level.prior(h)[:-1]
        gap = _largest(parts[-1] - eps) + _largest(eps.flatten(1) - z[:, where])
        if kept is not None:
            half = h.shape[1] // 2
            back = level.prior.inverse(kept, eps)
            gap += _largest(kept - h[:, :half]) + _largest(back[:, half:] - h[:, half:])
        differences[f"level {depth}"] = gap
        h = kept
    return differences


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


# ----------------------------------------------------------------------------------------------- the figure


def draw(model: Glow) -> Figure:
    """Figure 2: one step of flow (left; with the first level's shapes) and the whole model (right)."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.2, 1.0 + 1.0 * len(model.levels)), gridspec_kw={"width_ratios": [1, 1.75]}
    )
    counts = count(model)
    _draw_step(left, model.levels[0].steps[0], counts[0].working)
    _draw_levels(right, counts)
    for axis in (left, right):
        axis.axis("off")
    plt.close(figure)
    return figure


def _draw_step(axis: Axes, step: Step, shape: Shape) -> None:
    """One step of flow, top to bottom, in a frame of unit width and height."""
    c, h, w = shape
    half, net = step.coupling.half, step.coupling.net
    axis.set(xlim=(0, 1), ylim=(0, 1), title="one step of flow")
    _arrow(axis, (0.5, 1.0), (0.5, 0.90))
    _label(axis, 0.53, 0.96, _shape(shape))
    _box(axis, (0.5, 0.845), 1.0, 0.11, "sky", "actnorm", _parameters(step.norm))
    _arrow(axis, (0.5, 0.79), (0.5, 0.725))
    _box(axis, (0.5, 0.67), 1.0, 0.11, "orange", "invertible 1 × 1 convolution", _parameters(step.conv))
    # The coupling: x_b goes straight down and, through NN, into x_a.
    _arrow(axis, (0.12, 0.615), (0.12, 0.255))
    _arrow(axis, (0.9, 0.615), (0.9, 0.05))
    _label(axis, 0.15, 0.55, f"$x_a$: {_shape((half, h, w))}")
    _label(axis, 0.87, 0.55, f"$x_b$: {_shape((c - half, h, w))}", "right")
    weights = (net.conv1.weight, net.conv2, net.conv3.weight)
    network = f"NN, {len(net.conv2)} channels:\n" + ", ".join(f"{k.shape[-2]} × {k.shape[-1]}" for k in weights)
    _box(axis, (0.52, 0.38), 0.56, 0.17, "green", network, _parameters(net))
    _arrow(axis, (0.9, 0.38), (0.8, 0.38))
    _arrow(axis, (0.32, 0.295), (0.32, 0.255))
    rule = "$s \\odot x_a + t$" if step.coupling.affine else "$x_a + t$"
    _label(axis, 0.35, 0.275, "$\\log s,\\ t$" if step.coupling.affine else "$t$")
    _box(axis, (0.21, 0.20), 0.42, 0.11, "green", rule, "")
    _arrow(axis, (0.12, 0.145), (0.12, 0.05))
    _label(axis, 0.15, 0.1, "$y_a$")
    _label(axis, 0.87, 0.1, "$y_b = x_b$", "right")
    axis.text(0.5, 0.0, f"$y$: {_shape(shape)}", ha="center", va="bottom", fontsize=8)


def _draw_levels(axis: Axes, counts: list[LevelCount]) -> None:
    """The levels, top to bottom, one unit of height each; beside them what each costs."""
    n = len(counts)
    axis.set(xlim=(0, 1.75), ylim=(-n + 0.1, 0.34), title="the whole model")
    totals = [sum(level.parameters for level in counts), sum(level.flops for level in counts)]
    c, h, w = counts[0].working
    _arrow(axis, (0.4, 0.3), (0.4, -0.18))
    _label(axis, 0.43, 0.1, f"image: {_shape((c // 4, 2 * h, 2 * w))}")
    for x, name, whole in ((1.3, "parameters", totals[0]), (1.58, "FLOPs", totals[1])):
        _label(axis, x, 0.1, f"{name}:\n{_number(whole)}")
    for depth, level in enumerate(counts, 1):
        y = -depth + 0.5
        steps = f"{level.steps} steps on {_shape(level.working)}"
        parts = ["squeeze", steps] + ([] if level.kept is None else ["split"])
        _box(axis, (0.4, y), 0.74, 0.64, "sky", "\n".join(parts), "")
        _arrow(axis, (0.77, y), (0.86, y))
        latents = f"$\\varepsilon_{{{depth}}}$: {_shape(level.latents)}\n{math.prod(level.latents):,} numbers"
        _box(axis, (1.05, y), 0.38, 0.44, "yellow", latents, "")
        if level.kept is not None:
            _arrow(axis, (0.4, y - 0.32), (0.4, y - 0.68))
            _label(axis, 0.43, y - 0.5, _shape(level.kept))
        for x, part, whole, colour in (
            (1.3, level.parameters, totals[0], "blue"),
            (1.58, level.flops, totals[1], "vermillion"),
        ):
            axis.barh(y - 0.08, 0.2 * part / whole, 0.14, left=x, color=COLOURS[colour])
            _label(axis, x, y + 0.1, f"{100 * part / whole:.0f}%")


def _label(axis: Axes, x: float, y: float, text: str, side: str = "left") -> None:
    axis.text(x, y, text, ha=side, va="center", fontsize=8)


def _shape(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _parameters(module: torch.nn.Module) -> str:
    return f"{parameters(module):,} parameters"


def _number(n: int) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def _box(
    axis: Axes, centre: tuple[float, float], width: float, height: float, colour: str, text: str, small: str
) -> None:
    """A tinted box with a text, and a smaller line below it."""
    x, y = centre
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.02",
            facecolor=COLOURS[colour] + "38",
            edgecolor=COLOURS[colour],
            linewidth=1,
            mutation_aspect=1,
        )
    )
    axis.text(x, y + (0.018 if small else 0), text, ha="center", va="center", fontsize=8)
    if small:
        axis.text(x, y - height / 2 + 0.012, small, ha="center", va="bottom", fontsize=7, color="#444444")


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "linewidth": 1,
            "color": "black",
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 9,
        },
    )
