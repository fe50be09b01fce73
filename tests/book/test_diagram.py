"""Figure 2's numbers against torch's own and a count by hand; its wiring against models wired otherwise."""

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
