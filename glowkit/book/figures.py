"""How every picture and plot of the book looks: one style, one layout for each kind of picture.

Images are float tensors (N, 3, H, W) in [0, 1], as `model.decode` returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.config import InlineBackend
from numpy.typing import ArrayLike
from torch import Tensor

from glowkit import escaping
from glowkit.pixels import to_pixels

# Okabe and Ito's colours, told apart by readers with any kind of colour vision.
COLOURS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}

_WIDTH = 7.2  # inches: the width of the text column
_LETTER = 0.078  # inches: the mean width of a label's letter, with some room
_STYLE = {
    "figure.figsize": (_WIDTH, 3.0),
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
}


def use_style() -> None:
    """Make the book's style matplotlib's default; in a notebook, show figures as PNGs.

    Whatever backend, format or style the reader has chosen for themselves: with it, figures could vanish.
    """
    plt.rcdefaults()
    plt.rcParams.update(_STYLE)
    shell = get_ipython()
    if hasattr(shell, "kernel"):
        InlineBackend.instance(parent=shell).figure_formats = {"png"}
        shell.enable_matplotlib("inline")


def image_grid(x: Tensor, columns: int = 8, titles: Sequence[str] | None = None) -> Figure:
    """Images (N, 3, H, W) row by row, at most `columns` a row, with a title over each if given."""
    columns = min(columns, len(x))
    pixels = to_pixels(x)
    rows = -(-len(x) // columns)
    figure, axes = _image_axes(rows, columns, title_rows=rows if titles else 0)
    for k, axis in enumerate(axes.flat):
        if k < len(x):
            axis.imshow(pixels[k])
            if titles:
                axis.set_title(titles[k], parse_math=False)
        else:
            axis.set_visible(False)
    return figure


def strip(
    rows: Sequence[Tensor],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Figure:
    """One row of images (N, 3, H, W) for each entry of `rows`: a face by alphas, say, with the alphas as
    column labels."""
    longest = max((len(line) for label in row_labels or [] for line in label.splitlines()), default=0)
    figure, axes = _image_axes(
        len(rows), max(map(len, rows)), title_rows=1 if column_labels else 0, margin=_LETTER * longest
    )
    for r, x in enumerate(rows):
        for axis, pixels in zip(axes[r], to_pixels(x), strict=False):
            axis.imshow(pixels)
        for axis in axes[r][len(x) :]:
            axis.set_visible(False)
        if row_labels:
            axes[r][0].set_ylabel(row_labels[r], rotation=0, ha="right", va="center", parse_math=False)
    for axis, label in zip(axes[0], column_labels or [], strict=False):
        axis.set_title(label, parse_math=False)
    return figure


def histograms(
    axis: Axes,
    samples: Mapping[str, ArrayLike],
    xlabel: str,
    bins: int = 60,
    law: tuple[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> None:
    """Densities of several one-dimensional samples over common bins; the legend gives each n.

    law: a label and a density to draw as a line over them.
    """
    arrays = {name: np.asarray(values, dtype=float).ravel() for name, values in samples.items()}
    every = np.concatenate(list(arrays.values()))
    edges = np.linspace(every.min(), every.max(), bins + 1)
    for name, values in arrays.items():
        axis.hist(
            values,
            edges,
            density=True,
            histtype="stepfilled",
            alpha=0.5,
            label=f"{name} (n = {len(values):,})",
        )
    if law is not None:
        t = np.linspace(edges[0], edges[-1], 400)
        axis.plot(t, law[1](t), color="black", linewidth=1.1, label=law[0])
    axis.set_xlabel(xlabel)
    axis.set_ylabel("density")
    axis.legend()


def label_points(axis: Axes, x: ArrayLike, y: ArrayLike, texts: Sequence[str], order: Iterable[int], most: int) -> None:
    """Write up to `most` of the texts beside their points x (n,), y (n,), in this order, none on top of another.

    Draw the figure before (`figure.canvas.draw()`) if its scales are still to be fixed.
    """
    written: list[np.ndarray] = []
    for k in order:
        place = axis.transData.transform((x[k], y[k]))
        if len(written) < most and all(abs(place[0] - q[0]) > 85 or abs(place[1] - q[1]) > 14 for q in written):
            text = escaping.mathtext(texts[k].replace("_", " "))
            axis.annotate(text, (x[k], y[k]), (4, 3), textcoords="offset points", fontsize=7)
            written.append(place)


def _image_axes(rows: int, columns: int, title_rows: int, margin: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns square axes without ticks: as wide as the text, images never over 1.3
    inches, with a margin in inches for labels on the left."""
    size = min((_WIDTH - margin) / columns, 1.3)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size * columns + margin, size * rows + 0.22 * title_rows),
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.grid(False)
    # The caller returns the figure and the notebook shows what a cell returns; left open it would be shown
    # twice.
    plt.close(figure)
    return figure, axes
