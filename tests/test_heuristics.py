"""The cheat sheet's numbers against least squares on real pixels, closed forms, scipy and simulations."""

import numpy as np
import pytest
import torch
from scipy import stats

from glowkit import heuristics
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig
from glowkit.study import Study

RNG = np.random.default_rng(0)


def test_partial_differences_are_least_squares_on_the_pixels():
    labels = RNG.random((300, 3)) < [0.1, 0.5, 0.4]
    labels[:, 2] |= labels[:, 0]  # they go together
    x = labels @ RNG.normal(size=(3, 7)) + RNG.normal(size=(300, 7))
    plain = np.stack([x[y].mean(0) - x[~y].mean(0) for y in labels.T])
    design = np.column_stack([np.ones(300), labels])
    expected = np.linalg.lstsq(design, x, rcond=None)[0][1:]
    np.testing.assert_allclose(heuristics.partial_differences(plain, labels), expected, atol=1e-10)
    with pytest.raises(GlowkitError, match="images without it"):
        heuristics.partial_differences(plain, labels | [True, False, False])


def test_support_counts_pixels():
    difference = np.zeros((3, 10, 10))
    difference[:, 2:5, 1:6] = 0.7
    assert heuristics.support(difference) == pytest.approx(0.15)
    assert heuristics.support(np.ones((3, 4, 4))) == pytest.approx(1)
    # a Gaussian of energy exp(-r^2 / 2 s^2): (sum e)^2 / sum e^2 = 4 pi s^2
    y, x = np.mgrid[:80, :80] - 39.5
    blob = np.exp(-(x**2 + y**2) / (4 * 6.0**2))
    assert heuristics.support(blob[None]) == pytest.approx(4 * np.pi * 36 / 6400, rel=1e-3)
    with pytest.raises(GlowkitError, match="zero everywhere"):
        heuristics.support(np.zeros((3, 4, 4)))


def test_spread_is_the_deviation_where_the_difference_is():
    difference = np.zeros((3, 8, 8))
    difference[:, :4] = 0.5
    x = RNG.normal(0, 1.0, (4000, 3, 8, 8))
    x[:, :, :4] *= 0.2
    assert heuristics.spread(x, difference) == pytest.approx(0.2 / 0.5, rel=0.02)
    with pytest.raises(GlowkitError, match="at least two"):
        heuristics.spread(x[:1], difference)


def test_balanced_pool_has_enough_of_each_and_not_many_more():
    labels = RNG.random((400, 5)) < [0.02, 0.1, 0.5, 0.9, 0.3]
    rows = heuristics.balanced_pool(labels, each=12)
    assert len(set(rows)) == len(rows) <= 2 * 5 * 12
    for y in labels.T:
        for members in (y, ~y):
            assert members[rows].sum() >= min(12, members.sum())


class Stripes:
    """A judge of 'bright' and 'red' that is right by construction."""

    attributes = ["bright", "red"]

    def __call__(self, x):
        return torch.stack([x.mean((1, 2, 3)) > 0.5, x[:, 0].mean((1, 2)) > x[:, 1].mean((1, 2))], 1).float()

    def says(self, x, attribute):
        return (self(x)[:, self.attributes.index(attribute)] > 0.5).numpy()


def test_outcomes_add_to_those_without_and_remove_from_those_with():
    torch.manual_seed(0)
    model = Glow(GlowConfig(8, 1, 1, 4, "additive"))  # at its start it is linear: arithmetic on pixels
    x = (torch.rand(60, 3, 1, 1) * 0.6 + 0.2).expand(-1, -1, 8, 8).contiguous()
    x = model.quantise(x)
    judge = Stripes()
    labels = judge(x).numpy() > 0.5
    labels[0] ^= True  # a face that the judge sees otherwise
    up = (model.encode(torch.full((1, 3, 8, 8), 0.9)) - model.encode(torch.full((1, 3, 8, 8), 0.1)))[0].numpy()
    dim = np.zeros((2, model.dim), np.float32)
    nothing = np.arange(0)
    study = Study(
        name="x", data="x", attributes=judge.attributes, n=100, draws=0, counts=np.array([50, 50]), mean=0 * up,
        variance=0 * up, pixel_mean=0 * up, held_out=np.arange(60), labels=labels, identities=None, norms={},
        halves=nothing, half_means=nothing, along_mean=nothing, projections={}, _pixel_class_means=dim,
        _class_means={"centres": dim + [up / 2, 0 * up]}, _reliability={"centres": np.ones(2)},
    )  # fmt: skip
    found = heuristics.outcomes(model, judge, study, x, model.encode(x), labels, ["bright", "red"], n=8)
    for wanted in (True, False):
        rows, success = found["bright", wanted]
        assert len(rows) == 8 and 0 not in rows and (labels[rows, 0] != wanted).all() and success.all()
        assert not found["red", wanted].success.any()  # its direction is zero
    still = heuristics.outcomes(model, judge, study, x, model.encode(x), labels, ["bright"], n=8, alpha=0.0)
    assert not still["bright", True].success.any()


def test_sampled_directions_get_longer_as_images_get_fewer():
    z = 3.0 + torch.randn(200, 900, generator=torch.Generator().manual_seed(0))
    for n in (1, 4, 25):
        directions = heuristics.sampled_directions(z, n, 50, np.full(900, 2.9))
        assert directions.shape == (50, 900)
        assert float(directions.square().sum(1).mean()) == pytest.approx(900 * (0.01 + 1 / n), rel=0.1)
    assert torch.equal(heuristics.sampled_directions(z, 200, 1, np.zeros(900))[0].round(decimals=3),
                       z.mean(0).round(decimals=3))  # fmt: skip
    with pytest.raises(GlowkitError, match="there are 200"):
        heuristics.sampled_directions(z, 201, 1, np.zeros(900))


def test_overlap_is_one_at_home_and_the_area_by_chance():
    truth = torch.zeros(2, 3, 20, 20)
    truth[:, :, 3:9, 4:14] = 0.3
    assert heuristics.area(truth, 1.0) == pytest.approx([60 / 400] * 2)
    assert heuristics.overlap(truth * 5, truth, 1.0) == pytest.approx([1, 1])
    chance = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert heuristics.overlap(chance, truth, 1.0) == pytest.approx([0.15, 0.15], abs=0.05)
    assert heuristics.area(truth, 0.5) == pytest.approx([30 / 400] * 2)


def test_foretold_knows_a_law_and_no_noise():
    groups = np.repeat(np.arange(40), 2)
    features = RNG.normal(size=(80, 3)) * [1, 10, 0.1]
    law = features @ [1, -0.1, 3] + 0.1 * RNG.normal(size=80)
    assert stats.spearmanr(heuristics.foretold(features, law, groups), law).statistic > 0.95
    noise = RNG.normal(size=80)
    assert abs(stats.spearmanr(heuristics.foretold(features, noise, groups), noise).statistic) < 0.35
    # the row's own group is not used: a wild value does not foretell itself
    law[:2] = 1e6
    assert abs(heuristics.foretold(features, law, groups)[:2]).max() < 10


def test_nothing_is_foretold_of_an_only_attribute():
    with pytest.raises(GlowkitError, match="two are needed at least, not 1"):
        heuristics.foretold(np.ones((4, 2)), np.ones(4), np.zeros(4))


def test_plane_holds_origin_mean_and_face():
    mean, z = RNG.normal(size=50).astype(np.float32), torch.randn(50, generator=torch.Generator().manual_seed(1))
    slice_ = heuristics.plane(mean, z)
    points = slice_.at([0, np.linalg.norm(mean), slice_.face[0]], [0, 0, slice_.face[1]])
    torch.testing.assert_close(points, torch.stack([torch.zeros(50), torch.from_numpy(mean), z]), atol=1e-5, rtol=1e-5)
    assert float(slice_.along @ slice_.across) == pytest.approx(0, abs=1e-6)
    with pytest.raises(GlowkitError, match="no direction"):
        heuristics.plane(0 * mean, z)


def test_along_sphere_keeps_norms_and_mirrors_in_a_plane():
    g = torch.Generator().manual_seed(2)
    normal, z = torch.randn(30, generator=g), torch.randn(5, 30, generator=g)
    normal = normal / normal.norm()
    height = z @ normal
    mirrored = heuristics.along_sphere(z, -height.sign()[:, None] * normal, 2 * height.abs())
    torch.testing.assert_close(mirrored, z - 2 * height[:, None] * normal, atol=1e-5, rtol=1e-5)
    moved = heuristics.along_sphere(z, torch.randn(5, 30, generator=g), 3.0)
    torch.testing.assert_close(moved.norm(dim=1), z.norm(dim=1))
    torch.testing.assert_close((moved - z).norm(dim=1), torch.full((5,), 3.0))
    with pytest.raises(GlowkitError, match="twice the norm"):
        heuristics.along_sphere(z, normal, 30.0)


def test_strangeness_is_one_for_real_pictures_and_grows_with_distance():
    g = torch.Generator().manual_seed(0)
    basis = torch.randn(5, 3, 32, 32, generator=g)

    def pictures(n):
        weights = torch.randn(n, 5, generator=g) * torch.tensor([1, 0.8, 0.6, 0.4, 0.2])
        return torch.einsum("nk,kchw->nchw", weights, basis) + 0.1 * torch.randn(n, 3, 32, 32, generator=g)

    real = pictures(400)
    assert np.median(heuristics.strangeness(pictures(100), real)) == pytest.approx(1, abs=0.05)
    # added noise of the size that is there already: twice the square of the distance
    noisier = pictures(100) + 0.1 * torch.randn(100, 3, 32, 32, generator=g)
    assert np.median(heuristics.strangeness(noisier, real)) == pytest.approx(2**0.5, abs=0.1)
    noisier[0, 0, 0, 0] = torch.nan
    assert heuristics.strangeness(noisier, real)[0] == np.inf
