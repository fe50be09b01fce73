"""Values inside the inverse against the inverse itself."""

import numpy as np
import torch

from glowkit import ranges
from glowkit.flow import Glow, GlowConfig


def test_the_ranges_inside_the_inverse_end_at_the_pixels():
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_size=8, levels=2, steps=2, width=8, coupling="additive")).double().eval()
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    z = torch.randn(3, model.dim, dtype=torch.float64)
    levels, largest = ranges.inverse_ranges(model, z)
    assert levels == [2, 2, 2, 1, 1, 1] and largest.shape == (3, 6)
    with torch.no_grad():
        np.testing.assert_allclose(largest[:, -1], model.inverse(z).abs().flatten(1).amax(1))
