"""The noise of directions against simulations whose signal is known."""

from dataclasses import replace

import numpy as np
import pytest

from glowkit import directions
from glowkit.errors import GlowkitError
from glowkit.study import Study


def study_of(z, labels, attributes):
    """A study of vectors (n, D), as `study.write_study` would have found it; what only a model knows is left out."""
    return Study(
        name="planted", data="planted", attributes=attributes, n=len(z), draws=0, counts=labels.sum(0),
        mean=z.mean(0), variance=z.var(0), pixel_mean=z.mean(0), held_out=np.arange(0), labels=labels,
        identities=None, norms={}, halves=np.arange(0), half_means=np.zeros((2, 0)), along_mean=np.arange(0),
        projections={}, _class_means={"centres": np.stack([z[y].mean(0) for y in labels.T])},
        _pixel_class_means=np.zeros((len(attributes), z.shape[1])), _reliability={"centres": np.zeros(len(attributes))},
    )  # fmt: skip


def test_the_noise_floor_is_what_random_labels_give_and_the_share_covers_the_truth():
    dim, n = 400, 2000
    signal = np.zeros(dim)
    signal[:20] = 0.5  # |signal|^2 = 5
    pure, covered = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.stack([rng.random(n) < 0.05, rng.random(n) < 0.05], 1)
        z = rng.normal(size=(n, dim)) + labels[:, :1] * signal
        found = study_of(z, labels, ["Planted", "Nothing"])
        pure.append(np.square(found.direction("Nothing")).sum() / directions.noise_floor(found, "Nothing"))
        truth = directions.noise_floor(found, "Planted") / (5 + directions.noise_floor(found, "Planted"))
        share = directions.noise_share(found, "Planted")
        covered += share.ci[0] <= truth <= share.ci[1]
    assert np.mean(pure) == pytest.approx(1, abs=0.03)
    assert covered >= 17


def test_half_sample_cosines_say_the_same_share():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=20_000)
    halves = signal + 1.5 * rng.normal(size=(2, 20_000))  # noise of variance 2.25 a half, 1.125 the whole
    cosine = halves[0] @ halves[1] / np.prod(np.linalg.norm(halves, axis=1))
    assert directions.noise_share_of_halves(cosine) == pytest.approx(1.125 / 2.125, abs=0.02)


def test_distances_between_means_are_free_of_their_noise():
    rng = np.random.default_rng(2)
    n, dim = 4000, 300
    labels = np.stack([np.arange(n) % 40 == 0, np.arange(n) % 40 == 1], 1)  # rare and disjoint, p = 1/40
    shifts = np.zeros((2, dim))
    shifts[0, :50], shifts[1, 50:100] = 0.3, -0.3
    found = study_of(rng.normal(size=(n, dim)) + labels @ shifts, labels, ["A", "B"])
    apart = np.linalg.norm(shifts[0] - shifts[1])
    classes = directions.spread_of_means(found, ["A", "B"], draws=20)
    assert classes.shape == (21,)
    assert classes[0] == pytest.approx(apart, rel=0.15)
    assert classes[1:].mean() == pytest.approx(apart, rel=0.15)
    # mixture identity: the complements are p/(1-p) times as far apart, hidden in noise of the same size
    assert directions.spread_of_means(found, ["A", "B"], positive=False)[0] < 3 * apart / 39


def test_the_length_of_a_direction_without_its_noise():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.random((2000, 1)) < 0.1
        z = rng.normal(size=(2000, 300)) + labels * np.full(300, 3 / np.sqrt(300))
        found.append(directions.signal_length(study_of(z, labels, ["Planted"]), "Planted") ** 2)
    assert np.mean(found) == pytest.approx(9, rel=0.03)
    labels = np.arange(40)[:, None] % 2 == 0  # no signal and hardly an image: the floor may be more than all there is
    rng = np.random.default_rng(1)
    lengths = [directions.signal_length(study_of(rng.normal(size=(40, 5)), labels, ["A"]), "A") for _ in range(20)]
    assert min(lengths) == 0 and np.isfinite(lengths).all()


@pytest.mark.parametrize("measured", [directions.noise_floor, directions.signal_length, directions.noise_share])
@pytest.mark.parametrize("has", [True, False])
def test_an_attribute_of_all_or_none_is_told_in_a_line(measured, has):
    z = np.random.default_rng(0).normal(size=(40, 5))
    found = replace(study_of(z, np.arange(40)[:, None] < 20, ["A"]), counts=np.array([40 * has]))
    with pytest.raises(GlowkitError, match=f"attribute 'A': {40 * has} of the 40 images .* some with and some without"):
        measured(found, "A")
