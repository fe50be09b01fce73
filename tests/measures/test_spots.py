"""Corruption's rows on flows of known reach: a pixel each, everywhere, and changes in each other's way."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from glowkit.image_flow import ImageFlow
from glowkit.measures import spots


class Known(ImageFlow):
    """Latents are pixels, turned by an orthogonal matrix, if there is one; decoded through `bent`."""

    def __init__(self, turn=None, bent=lambda v: v):
        super().__init__(16, 5, [(6, 8, 8), (24, 4, 4)])
        self.one, self.turn, self.bent = nn.Parameter(torch.ones(()), requires_grad=False), turn, bent

    def forward(self, v):
        z = v.flatten(1)
        return (z if self.turn is None else z @ self.turn), torch.zeros(len(v))

    def inverse(self, z):
        return self.bent((z if self.turn is None else z @ self.turn.T).view(-1, 3, 16, 16))


def of(stage, flow):
    flow = flow.eval()
    return replace(stage, flow=flow, z={"noise": flow(stage.pixels(range(80), "noise") - 0.5)[0]}, people=stage.where)


def test_single_pixels_are_spots_and_add_up(stage):
    own = of(replace(stage, where=stage.where[:80]), Known())
    found = spots.c25(own)
    assert found.estimate.estimate == 1 and found.estimate.n == 80
    assert spots.c26(own).estimate.estimate == pytest.approx(1, abs=1e-9)


def test_a_hologram_has_no_spots(stage):
    turn = torch.linalg.qr(torch.randn(768, 768, generator=torch.Generator().manual_seed(0))).Q
    own = of(replace(stage, where=stage.where[:80]), Known(turn))
    assert spots.c25(own).estimate.ci[1] < 0.5
    assert sum(own_radii := [max(values) for values in spots.c25(own).details["radii"].values()]) > 0.3 * len(own_radii)


def test_changes_that_meet_do_not_add_up(stage):
    # a picture that is darkened as a whole by what any component does to it
    own = of(
        replace(stage, where=stage.where[:80]),
        Known(bent=lambda v: v / (1 + v.square().sum((1, 2, 3)).view(-1, 1, 1, 1) / 1e3)),
    )
    found = spots.c26(own)
    assert found.estimate.ci[1] < 0.9
    assert {level for level, *_ in found.details["pairs"]} == {1, 2}
