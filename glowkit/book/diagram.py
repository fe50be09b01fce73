"""Drawings that are computed: figure 2 read off a model's modules, the thin shell off its laws.

Nothing here is typed in. Of figure 2, shapes come from running the levels on shapes alone (the meta device computes
nothing), operations from torch's counter while they run, and `composition` compares what a model does with
what is drawn. Of the shell, every length and share is that of the exact law, to scale.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Annulus, ConnectionPatch, FancyArrow, FancyBboxPatch, Rectangle
from scipy import stats
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glowkit import theory
from glowkit.book.figures import COLOURS
from glowkit.flow import Glow
from glowkit.gaussianity import norm_law
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


# -------------------------------------------------------------------------------------------- the thin shell

STEP = 2 * theory.HALF_SPACE_MEAN  # the arrow: from the mean of one half to that of the other
_NEAR = 0.1  # of the radius, to either side of the plane
_WINDOW = 4.0, 3.0  # what the magnifying glass shows: this far to either side, above and below
_STAYS, _CROSSES, _THERE = COLOURS["blue"], COLOURS["vermillion"], "#b4b4b4"


def draw_shell(dim: int, n: int = 1500, seed: int = 0) -> Figure:
    """The standard normal of R^dim, cut in two by a plane, and the arrow between the means of its halves.

    Left the whole, right its top under a magnifying glass, both to scale: n `theory.turned_draws`, the shells that
    hold half, 90% and 99% of all points, and above and beside the glass the laws of the two coordinates that it
    shows. Points are coloured by what the arrow does to them. dim from 2 on.
    """
    radius, points = math.sqrt(dim), theory.turned_draws(dim, n, seed)
    figure = plt.figure(figsize=(7.2, 3.9), layout="none")
    whole = figure.add_axes((0.0, 0.08, 0.455, 0.84), aspect="equal")
    glass = figure.add_axes((0.52, 0.13, 0.40, 0.5538))  # 8 by 6 units of length, as wide as high
    above = figure.add_axes((0.52, 0.70, 0.40, 0.17), sharex=glass)
    beside = figure.add_axes((0.93, 0.13, 0.06, 0.5538), sharey=glass)
    wide, high = _WINDOW
    edge = max(1.13 * norm_law(dim).ppf(0.999), radius + high + 0.2)
    whole.set(xlim=(-edge, edge), ylim=(-edge, edge))
    glass.set(xlim=(-wide, wide), ylim=(radius - high, radius + high))
    for axis, size in ((whole, 1.5), (glass, 5)):
        _draw_scene(axis, points, dim, size)
    _draw_whole(whole, dim, edge)
    _draw_glass(glass, radius)
    _draw_laws(above, beside, dim)
    for side, corner in ((-1, (0, 0)), (1, (0, 1))):
        seen = wide, radius + side * high
        figure.add_artist(
            ConnectionPatch(seen, corner, whole.transData, glass.transAxes, color="#999999", linewidth=0.6, zorder=0)
        )
    figure.canvas.draw()  # fixes how large a unit of length is in each panel
    drawn = [axis.transData.get_matrix()[0, 0] for axis in (whole, glass)]
    figure.text(0.2275, 0.955, f"{dim:,} dimensions", ha="center", fontsize=11)
    figure.text(0.72, 0.955, f"the top of it, enlarged × {drawn[1] / drawn[0]:.1f}", ha="center", fontsize=10)
    plt.close(figure)
    return figure


def _draw_scene(axis: Axes, points: np.ndarray, dim: int, size: float) -> None:
    """What both panels show: the shells, the plane, and the points by what becomes of them."""
    law = norm_law(dim)
    for held in (0.99, 0.9, 0.5):
        inner, outer = law.ppf([(1 - held) / 2, (1 + held) / 2])
        axis.add_patch(Annulus((0, 0), outer, outer - inner, facecolor=COLOURS["sky"], alpha=0.16, linewidth=0))
    axis.add_patch(plt.Circle((0, 0), math.sqrt(dim), fill=False, edgecolor=COLOURS["blue"], linewidth=0.6))
    height = points[:, 0]
    for which, colour in (
        (height >= 0, _THERE),
        ((-STEP < height) & (height < 0), _CROSSES),
        (height <= -STEP, _STAYS),
    ):
        axis.plot(*points[which].T, "o", color=colour, markersize=math.sqrt(size), markeredgewidth=0, alpha=0.75)
    axis.axvline(0, color="black", linewidth=1)
    axis.grid(False)


def _draw_whole(axis: Axes, dim: int, edge: float) -> None:
    """The left panel: the band near the plane, the arrow between the two means, and where the glass is held."""
    radius, (wide, high) = math.sqrt(dim), _WINDOW
    axis.axvspan(-_NEAR * radius, _NEAR * radius, color="#e9e9e9", zorder=0)
    _arrow_to_scale(axis, (-STEP / 2, 0))
    axis.add_patch(
        Rectangle((-wide, radius - high), 2 * wide, 2 * high, fill=False, edgecolor="#999999", linewidth=0.6)
    )
    near, half = 2 * stats.norm.cdf(_NEAR * radius) - 1, norm_law(dim).ppf([0.25, 0.75])
    said = f"radius {radius:.1f}; half of all points in a shell {half[1] - half[0]:.2f} thick\n"
    axis.text(
        0.5, 0, f"{said}{near:.0%} of all in the grey band", transform=axis.transAxes, ha="center", va="top", fontsize=8
    )
    axis.axis("off")


def _draw_glass(axis: Axes, radius: float) -> None:
    """The right panel: three points that the arrow is added to."""
    for height, lift in ((-0.7, 0.55), (-1.35, -0.1), (-2.6, -0.75)):
        _arrow_to_scale(axis, (height, radius + lift))
        axis.plot(height, radius + lift, "o", color="black", markersize=4, zorder=4)
    for x, text in ((-3.85, f"the arrow:\n{STEP:.3f} long"), (0.15, "the plane")):
        axis.text(
            x,
            radius - 2.85,
            text,
            va="bottom",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
        )
    axis.set(xlabel="height over the plane", ylabel="norm of the rest")


def _draw_laws(above: Axes, beside: Axes, dim: int) -> None:
    """The laws of the two coordinates of the right panel, and the share of its left half that crosses."""
    t = np.linspace(-_WINDOW[0], _WINDOW[0], 801)
    density = stats.norm.pdf(t)
    for which, colour in ((t >= 0, _THERE), ((-STEP <= t) & (t <= 0), _CROSSES), (t <= -STEP, _STAYS)):
        above.fill_between(t[which], density[which], color=colour, alpha=0.75, linewidth=0)
    share = theory.crossing_probability(STEP)
    above.text(-3.9, 0.3, f"{share:.1%} of the\nleft half cross", color=_CROSSES, fontsize=8, va="center")
    above.text(-3.9, 0.1, f"{1 - share:.1%} stay", color=_STAYS, fontsize=8, va="center")
    rest = np.linspace(*beside.get_ylim(), 601)
    # Below the axis lie the points that were turned downwards, as many.
    beside.fill_betweenx(rest, norm_law(dim - 1).pdf(np.abs(rest)), color=COLOURS["sky"], alpha=0.5, linewidth=0)
    for axis in (above, beside):
        axis.axis("off")


def _arrow_to_scale(axis: Axes, start: tuple[float, float]) -> None:
    """The arrow in the units of the points, its head included: in a large picture it is hardly there."""
    axis.add_patch(
        FancyArrow(
            *start,
            STEP,
            0,
            width=0.05,
            head_width=0.26,
            head_length=0.34,
            length_includes_head=True,
            color="black",
            linewidth=0,
            zorder=4,
        )
    )
