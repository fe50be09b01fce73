"""Pictures: one layout for each kind of picture."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from glowkit.book import figures
from glowkit.pixels import to_pixels


def shown(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


def test_a_grid_shows_every_image_in_reading_order():
    x = torch.rand(5, 3, 4, 4)
    figure = figures.image_grid(x, columns=3, titles=list("abcde"))
    assert np.array_equal(np.stack(shown(figure)), to_pixels(x))
    assert [axis.get_title() for axis in figure.axes][:5] == list("abcde")
    first, _, third, fourth, *_ = (axis.get_subplotspec() for axis in figure.axes)
    assert (first.rowspan.start, third.colspan.start, fourth.rowspan.start) == (0, 2, 1)


def test_a_strip_labels_rows_and_columns_and_may_be_ragged():
    rows = [torch.rand(3, 3, 4, 4), torch.rand(2, 3, 4, 4)]
    figure = figures.strip(rows, ["one", "two"], ["0", "1", "2"])
    assert np.array_equal(np.stack(shown(figure)), to_pixels(torch.cat(rows)))
    assert [axis.get_title() for axis in figure.axes[:3]] == ["0", "1", "2"]
    assert [figure.axes[k].get_ylabel() for k in (0, 3)] == ["one", "two"]


def test_helpers_leave_no_figure_open_to_be_shown_twice():
    figures.image_grid(torch.rand(1, 3, 4, 4))
    assert not plt.get_fignums()


def test_histograms_share_bins_are_densities_and_give_n():
    figure, axis = plt.subplots()
    rng = np.random.default_rng(0)
    figures.histograms(axis, {"a": rng.normal(size=1000), "b": rng.normal(3, 1, size=50)}, "norm")
    edges = [patch.get_path().vertices[:, 0] for patch in axis.patches]
    assert np.array_equal(np.unique(edges[0]), np.unique(edges[1]))
    for polygon in axis.patches:
        x, y = polygon.get_path().vertices.T
        assert abs(np.trapezoid(y, x)) == pytest.approx(1, abs=1e-9)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a (n = 1,000)", "b (n = 50)"]
    plt.close(figure)


def test_labels_are_written_in_order_and_none_on_another():
    figure, axis = plt.subplots(figsize=(6, 4))
    x, y, texts = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.1, 0.105, 0.9, 0.1]), ["a_a", "b", "$c$ $d$", "e"]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    figure.canvas.draw()
    figures.label_points(axis, x, y, texts, [1, 0, 2, 3], most=2)
    written = [(text.xy, text._preprocess_math(text.get_text())) for text in axis.texts]
    assert written == [((0.1, 0.105), ("b", False)), ((0.9, 0.9), ("$c$ $d$", False))]
    plt.close(figure)
