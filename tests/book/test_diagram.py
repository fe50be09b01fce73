"""Figure 2's numbers against torch's own and a count by hand; its wiring against models wired otherwise; the thin
shell against scipy's laws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Annulus, FancyArrow
from matplotlib.text import Text
from scipy import stats

from glowkit import layers
from glowkit.book import diagram
from glowkit.flow import Glow, GlowConfig
from glowkit.kernels import FoldedSteps


def model(size=16, levels=2, steps=2, width=8, coupling="affine"):
    torch.manual_seed(0)
    net = Glow(GlowConfig(size, levels, steps, width, coupling))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net


def flops_by_hand(config: GlowConfig, depth: int) -> int:
    """2 x (kernel x channels in x channels out) at each pixel, for every convolution of a level."""
    c, side = 6 * 2**depth, config.image_size // 2**depth
    half = c // 2
    out = half * (2 if config.coupling == "affine" else 1)
    per_pixel = c * c + 9 * (half + 1) * config.width + config.width**2 + 9 * (config.width + 1) * out
    prior = 0 if depth == config.levels else 9 * (half + 1) * c
    return 2 * (config.steps * per_pixel + prior) * side * side


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 20),
    st.sampled_from(layers.COUPLINGS),
    st.integers(1, 3),
)
def test_counts_against_torch_and_by_hand(levels, steps, width, coupling, side):
    net = model(8 * side, levels, steps, width, coupling)
    counts = diagram.count(net)
    assert sum(level.parameters for level in counts) == sum(p.numel() for p in net.parameters())
    for depth, level in enumerate(counts, 1):
        assert level.flops == flops_by_hand(net.config, depth)
        assert level.latents == net.level_shapes[depth - 1] and level.steps == steps
    assert [level.kept is None for level in counts] == [False] * (levels - 1) + [True]
    assert next(net.parameters()).device.type == "cpu"


def test_a_glow_is_composed_as_drawn():
    for coupling in layers.COUPLINGS:
        net = model(coupling=coupling).double()
        found = diagram.composition(net, torch.rand(2, 3, 16, 16, dtype=torch.float64) - 0.5)
        assert len(found) == 2 * 2 + 2
        assert max(found.values()) < 1e-12


def test_other_wiring_is_noticed(monkeypatch):
    net, v = model(), torch.rand(2, 3, 16, 16) - 0.5
    right = FoldedSteps.forward

    def coupling_first(folded, x):
        return right(folded, folded.couplings[0].forward(x)[0])

    monkeypatch.setattr(FoldedSteps, "forward", coupling_first)
    assert min(gap for name, gap in diagram.composition(net, v).items() if "step" in name) > 1e-3
    monkeypatch.setattr(FoldedSteps, "forward", right)
    split = layers.SplitPrior.forward
    # a split that sets the other half aside
    monkeypatch.setattr(layers.SplitPrior, "forward", lambda prior, h: split(prior, h.roll(prior.half, 1)))
    found = diagram.composition(net, v)
    assert found["level 1"] > 1e-3 and found["level 1, step 1"] < 1e-5


@pytest.mark.parametrize("coupling", layers.COUPLINGS)
def test_the_picture_shows_the_counts(coupling):
    net = model(coupling=coupling)
    figure = diagram.draw(net)
    assert not plt.get_fignums()
    figure.canvas.draw()
    said = "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)
    for shape in ((12, 8, 8), (6, 8, 8), (24, 4, 4)):
        assert " × ".join(map(str, shape)) in said
    step = net.levels[0].steps[0]
    for part in (step.norm, step.conv, step.coupling.net):
        assert f"{sum(p.numel() for p in part.parameters()):,} parameters" in said
    assert ("odot" in said) == (coupling == "affine")
    page = figure.bbox
    for axis in figure.axes:
        for text in axis.texts:
            box = text.get_window_extent()
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


# --- the thin shell


@pytest.mark.parametrize("dim", [2, 8, 3072, 196_608])
def test_the_shell_is_drawn_to_scale(dim):
    figure = diagram.draw_shell(dim, n=4000)
    assert not plt.get_fignums()
    whole, glass = figure.axes[:2]
    step = 2 * np.sqrt(2 / np.pi)
    for axis in (whole, glass):
        radii = sorted(p.radii[0] for p in axis.patches if isinstance(p, Annulus))
        assert np.allclose(radii, stats.chi(dim).ppf([0.75, 0.95, 0.995]))
        widths = sorted(p.width for p in axis.patches if isinstance(p, Annulus))
        assert np.allclose(widths, [np.ptp(stats.chi(dim).interval(held)) for held in (0.5, 0.9, 0.99)])
        arrows = [p.get_path().vertices for p in axis.patches if isinstance(p, FancyArrow)]
        assert [np.ptp(corners[:, 0]) for corners in arrows] == pytest.approx([step] * len(arrows))
        across, _, _, up = axis.transData.get_matrix()[:2, :2].ravel()
        assert across == pytest.approx(up, rel=1e-3)  # a circle is round
    # the three colours, by the number of points in each: what is there already, what crosses, what stays
    there, crosses, stays = (line.get_xdata() for line in glass.lines[:3])
    assert len(there) + len(crosses) + len(stays) == 4000
    assert stays.max() <= -step < crosses.min() and crosses.max() < 0 <= there.min()
    share = stats.norm.cdf(step) - stats.norm.cdf(-step)
    assert stats.binomtest(len(crosses), len(crosses) + len(stays), share).pvalue > 1e-3


@pytest.mark.parametrize("dim", [2, 768, 196_608])
def test_what_is_written_on_the_shell_is_the_law(dim):
    figure = diagram.draw_shell(dim)
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    share = 2 * stats.norm.cdf(2 * np.sqrt(2 / np.pi)) - 1
    assert f"{share:.1%} of the" in said and f"{1 - share:.1%} stay" in said
    assert (
        f"radius {np.sqrt(dim):.1f}; half of all points in a shell {np.ptp(stats.chi(dim).interval(0.5)):.2f}" in said
    )
    near = stats.chi2(1).cdf(0.01 * dim)  # within a tenth of the radius of the plane
    assert f"{near:.0%} of all in the grey band" in said
    figure.canvas.draw()
    page = figure.bbox
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
