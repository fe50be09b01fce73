"""Class means against planted judges of brightness and of colour, and closed forms of a linear flow."""

import numpy as np
import pytest
import torch
from measures.toy_stage import Planted, stage_of

from glowkit import affine, edits, traits
from glowkit.measures import means
from glowkit.study import CENTRES


def red(x):
    return x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))


HAIR = {name: (lambda x, k=k: 50 * (x[:, k % 3, :8].mean((1, 2)) - 0.3)) for k, name in enumerate(traits.HAIR)}
SEES = {"Male": lambda x: 40 * (x.mean((1, 2, 3)) - 0.5), **HAIR}
OTHER = {"Male": lambda x: 40 * red(x), **HAIR}


@pytest.fixture(scope="module")
def stage():
    return stage_of((Planted(SEES), Planted(OTHER)), lambda x: x.mean((1, 2, 3)) < 2, n=500)


def test_means_of_a_linear_flow_are_no_more_of_prototypes_than_means_of_pixels(stage):
    row = means.c15(stage)
    for found in (row.estimate, row.second, row.centres):
        assert found.estimate == pytest.approx(0, abs=0.02)
        assert found.ci[0] < found.estimate < found.ci[1] and found.n == 500
    men, women = (stage.study.pixel_class_mean("Male", has) for has in (True, False))
    pixels = torch.from_numpy(np.stack([men, women])).view(2, 3, 32, 32)
    assert row.details["pixels"][1] == pytest.approx(stage.judges[1](pixels)[:, 0].tolist(), rel=1e-3)
    assert row.details["latent"][0] == pytest.approx(row.details["pixels"][0], abs=0.02)


def test_a_contrast_beyond_that_of_pixels_is_seen(stage):
    latent = np.array([[0.9, 0.2], [0.88, 0.2], [0.92, 0.2]])
    found = means._contrast(latent, np.array([0.5, 0.4]), 500)
    assert found.estimate == pytest.approx(0.6)
    assert (found.ci[1] - found.ci[0]) / 2 == pytest.approx(1.96 * 0.04 / 2**0.5)


def test_one_image_or_all_as_shares_of_what_is_seen_in_the_truth(stage, monkeypatch):
    monkeypatch.setattr(means, "FACES", 20)
    row = means.c35(stage)
    colours = row.details["colours"]
    assert colours and set(colours) <= set(traits.HAIR)
    parts = []
    for dye in means._dyes(stage):
        z = stage.z[CENTRES][dye.rows]
        every = edits.succeeded(
            stage.judges[0], stage.flow.decode(affine.add(z, stage.study.direction(dye.colour, CENTRES))), dye.colour
        )
        one = means._dyed(stage, CENTRES, dye, 1)[0]
        truth = stage.judges[0].says(stage.truth(dye.rows, dye.colour, True), dye.colour)
        assert not stage.has(dye.colour)[dye.rows].any() and stage.has(dye.colour)[dye.givers].all()
        parts.append((every.mean() - one.mean()) / truth.mean())
    assert row.centres.estimate == pytest.approx(np.mean(parts))
    assert set(row.details["curve"]) == {"1", "3", "10", "all"}


def test_shares_of_the_ceiling_count_colours_alike():
    gain, ceiling, colour = np.array([1, 0, 1, 1.0]), np.array([1, 1, 0.5, 0.5]), np.array([0, 0, 3, 3])
    assert means._share_of_ceiling(gain, ceiling, colour) == pytest.approx((0.5 + 2) / 2)
