"""The certificate tells a model that inverts from one that does not, and the bundled model holds it."""

import numpy as np
import pytest
import scipy.stats
import torch

from glowkit import certificate, checkpoint, dataset
from glowkit.flow import Glow, GlowConfig


def tiny(double: bool) -> Glow:
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 2, 2, 8, "additive"))
    model.initialise(torch.rand(8, 3, 16, 16))
    return model.double() if double else model


def test_it_measures_the_round_trip():
    x = torch.rand(6, 3, 16, 16)
    exact = certificate.certify(tiny(double=True), x)
    single = certificate.certify(tiny(double=False), x)
    assert exact.holds and exact.pixel_errors.shape == exact.bits_per_dim.shape == (6,)
    assert exact.pixel_errors.max() < 1e-12 < single.pixel_errors.max()
    assert exact.latent_errors.max() < 1e-12 < single.latent_errors.max()
    assert "holds" in str(exact)
    bits = single.bits_per_dim
    low, high = scipy.stats.t.interval(0.95, 5, bits.mean(), bits.std(ddof=1) / 6**0.5)
    assert f"bits/dim {bits.mean():.4f} +- {(high - low) / 2:.4f} (95%)" in str(single)
    one = certificate.certify(tiny(double=False), x[:1])
    assert f"bits/dim {one.bits_per_dim[0]:.4f}\n" in str(one)  # which has no margin


def test_a_model_that_loses_precision_does_not_hold():
    model = tiny(double=False)
    with torch.no_grad():
        for level in model.levels:
            level.steps[0].conv.log_s[0] = -14.0  # a nearly singular W
    found = certificate.certify(model, torch.rand(6, 3, 16, 16))
    assert not found.holds and "does NOT hold" in str(found)


@pytest.mark.skipif(not (checkpoint.BUNDLED / "faces64" / checkpoint.WEIGHTS).exists(), reason="no bundled model")
def test_the_bundled_model_holds_on_held_out_faces():
    faces = dataset.open_dataset("faces64")
    found = certificate.certify(checkpoint.load("faces64"), faces.images(faces.subset("test")[:100]))
    assert np.median(found.pixel_errors) <= 1e-5 and found.pixel_errors.max() <= 1e-3
