"""The comparators' row: it reads blocks from disk, and sees whether the mean difference is the best line."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from glowkit import classifiers, files
from glowkit.measures import rivals


def test_blocks_are_encoded_once_and_with_the_noise_of_their_pictures(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "BLOCK", 64)
    own = replace(stage, folder=tmp_path)
    first = rivals.encoded(own, "valid", 60)
    assert len(list(tmp_path.glob("valid-*.npy"))) == 1 and len(rivals.encoded(own, "train", 130).z) == 130
    np.save(tmp_path / "valid-000000.npy", np.zeros((60, stage.flow.dim), np.float32))
    files.seal(tmp_path / "valid-000000.npy")
    assert not rivals.encoded(own, "valid", 60).z.any()  # read, not made again
    v = rivals._pixels(own, first.indices).view(-1, 3, 16, 16)
    assert torch.allclose(stage.flow(v)[0], first.z, atol=1e-5)
    assert (v - (stage.flow.quantise(stage.seen.images(first.indices)) - 0.5)).abs().max() <= 2**-6 + 1e-6


def stage_labels(stage, name):
    return stage.seen.has(name)[stage.seen.subset("train")]


def points(n, spread, seed, dim=30):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 2)) < 0.5
    shift = 0.35 * np.stack([np.ones(dim), np.where(np.arange(dim) % 2, 1, -1)])
    x = rng.standard_normal((n, dim)) * np.where(np.arange(dim) < 3, spread, 1) + labels @ shift
    return torch.from_numpy(x).float(), labels


@pytest.mark.parametrize(("spread", "gain"), [(1.0, 0.0), (12.0, 0.1)])
def test_the_mean_difference_is_best_where_points_are_white(spread, gain):
    (x, y), (v, others), (test, labels) = (points(n, spread, seed) for n, seed in ((800, 0), (1000, 1), (1000, 2)))
    found = rivals.fitted(x, v, test, y, others)
    areas = {name: np.mean(rivals._areas(scores, labels)) for name, (_, scores) in found.items()}
    for name in (rivals.LDA, "logistic regression", "linear SVM"):
        assert gain - 0.01 <= areas[name] - areas["opposite"] <= (0.01 if gain == 0 else 1)


def test_c22_of_a_stage(stage, monkeypatch):
    found = rivals.c22(stage)
    plus, minus = classifiers.class_means(rivals.encoded(stage, "train", 300).z.numpy(), stage_labels(stage, "Left"))
    area = roc_auc_score(stage.has("Left"), stage.z["noise"].numpy() @ (plus - minus))
    where = found.details["attributes"].index("Left")
    assert found.details["latent"]["opposite"][where] == pytest.approx(area, abs=1e-3)
    best = max(found.details["gains"], key=lambda name: found.control.count(f"against {name}, the best"))
    assert found.estimate.estimate == pytest.approx(found.details["gains"][best][0], abs=1e-4)
    means = {name: np.mean(areas) for name, areas in found.details["latent"].items()}
    assert found.estimate.estimate == pytest.approx(means["opposite"] - means[best], abs=1e-3)
    monkeypatch.setattr(rivals, "LARGEST", 100)
    assert rivals.c22(stage) is None
