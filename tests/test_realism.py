"""What is a face, against drawn ones and ruined ones; Frechet distances against scipy and planted shifts."""

import numpy as np
import pytest
import torch
from scipy import linalg

from glowkit import faces, realism


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
