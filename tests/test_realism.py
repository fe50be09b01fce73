"""What is a face, against drawn ones and ruined ones; Frechet distances against scipy and planted shifts."""

import numpy as np
import pytest
import torch
from scipy import linalg

from glowkit import faces, realism
from glowkit.errors import GlowkitError


def test_faces_pass_as_faces_and_what_is_none_does_not():
    real = faces.render(faces.factors(range(300), seed=5), 32).float() / 255
    others = faces.render(faces.factors(range(60), seed=6), 32).float() / 255
    reader = realism.FaceReader(real)
    assert reader(others).mean() >= 0.95
    assert reader(others.flip(2)).mean() <= 0.05  # upside down
    assert reader(others.roll(12, 3)).mean() <= 0.2  # half of it out of the picture
    generator = torch.Generator().manual_seed(0)
    assert not reader(torch.rand(60, 3, 32, 32, generator=generator)).any()
    assert not reader(torch.zeros(1, 3, 32, 32)).any()
    assert not reader(torch.where(torch.arange(32) == 3, torch.nan, others)).any()


def drawn(n: int, seed: int) -> torch.Tensor:
    return faces.render(faces.factors(range(n), seed=seed), 32)


@pytest.fixture(scope="module")
def looks():
    return realism.LooksReader(drawn(600, 5), drawn(100, 6), steps=200)


def test_double_exposures_do_not_pass_and_faces_do(looks):
    real = drawn(100, 7).float() / 255
    faded = (real + real.roll(1, 0)) / 2
    odds, chance = looks(real), looks(faded)
    # Few steps, so that the test is quick: chance would be an area of 0.5, and as many of the one as of the other.
    assert (odds[:, None] > chance).float().mean() >= 0.7  # the area under the ROC curve
    assert looks.passes(real).mean() >= 0.85
    assert looks.passes(faded).mean() <= 0.7
    assert looks.passes(drawn(100, 6)).mean() == pytest.approx(0.95, abs=0.01)  # by construction
    assert not looks.passes(torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))).any()
    assert not looks.passes(torch.where(torch.arange(32) == 3, torch.nan, real)).any()


def test_looks_are_read_alike_whenever_they_are_learnt():
    real, others = drawn(64, 5), drawn(40, 6)
    before = torch.random.get_rng_state()
    one, same, other = (realism.LooksReader(real, others, steps=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one(others), same(others)) and one.threshold == same.threshold
    assert not torch.equal(one(others), other(others))
    with pytest.raises(GlowkitError, match="32 real pictures at least, not 3"):
        realism.LooksReader(real[:3], others)


def test_a_blend_is_of_the_two_and_neither_of_them():
    torch.manual_seed(0)
    share = realism._blended(torch.zeros(400, 3, 32, 32), torch.ones(400, 3, 32, 32))
    assert share.min() >= 0 and share.max() <= 1
    assert ((share.mean((1, 2, 3)) > 0.1) & (share.mean((1, 2, 3)) < 0.9)).float().mean() > 0.9
    even = share.flatten(1).std(1) < 1e-6  # cross-fades
    assert 0.4 < even.float().mean() < 0.6
    assert share[even].min() >= 0.25 and share[even].max() <= 0.75


def test_shuffled_pictures_keep_their_tiles():
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    shuffled = realism._shuffled(x, 4, torch.Generator().manual_seed(1))
    assert shuffled.shape == x.shape and not torch.equal(shuffled, x)

    def tiles(picture):
        corners = [(i, j) for i in range(0, 8, 2) for j in range(0, 8, 2)]
        return {tuple(picture[:, i : i + 2, j : j + 2].flatten().tolist()) for i, j in corners}

    assert tiles(shuffled[0]) == tiles(x[0])


def test_frechet_distance_against_scipy_s_matrix_root():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(150, 5)) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert realism.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert realism.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_the_frechet_ratio_covers_a_known_one():
    # Means shifted by 1 and by 2 in one direction, equal covariances: distances 1 and 4.
    covered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        real, base = rng.normal(size=(4000, 3)), rng.normal(size=(400, 3))
        found = realism.frechet_ratio(base + [1, 0, 0], base + [2, 0, 0], real, components=3)
        assert found.ci[0] < found.estimate < found.ci[1] and found.n == 400
        covered += found.ci[0] <= 0.25 <= found.ci[1]
    assert covered >= 24
