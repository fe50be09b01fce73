"""Directions on latents whose every part was planted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit import controlled
from glowkit.errors import GlowkitError
from glowkit.study import NOISE, Noise, Study

DIM, N = 40, 4000
LEVELS = [slice(0, 30), slice(30, 40)]


@pytest.fixture(scope="module")
def planted():
    """A study of z = sum of effects + unit noise, where b comes mostly with a; and the effects (3, D)."""
    rng = np.random.default_rng(0)
    a, c = rng.random(N) < 0.4, rng.random(N) < 0.5
    b = np.where(a, rng.random(N) < 0.8, rng.random(N) < 0.1)
    labels = np.stack([a, b, c], 1)
    effects = rng.normal(size=(3, DIM))
    effects[2, LEVELS[1]] = 0  # the third is in the first level alone
    z = labels @ effects + rng.normal(size=(N, DIM))
    means = np.stack([z[column].mean(0) for column in labels.T])
    nothing = np.zeros(0)
    study = Study(
        name="planted", data="toy", attributes=["a", "b", "c"], n=N, draws=2, counts=labels.sum(0), mean=z.mean(0),
        variance=z.var(0), pixel_mean=nothing, held_out=nothing, labels=labels, identities=None, norms={},
        halves=nothing, half_means=nothing, along_mean=nothing, projections={}, _class_means={NOISE: means},
        _pixel_class_means=nothing, _reliability={},
        _noise=Noise(z.mean(0), z.var(0), nothing, nothing, nothing),
    )  # fmt: skip
    return study, effects


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_partial_finds_each_effect_and_the_mean_difference_does_not(planted):
    study, effects = planted
    for name, effect in zip(study.attributes, effects, strict=True):
        assert cosine(controlled.partial(study, name, LEVELS), effect) > 0.995
    assert cosine(controlled.mean(study, "b", LEVELS), effects[1]) < 0.95


def test_conditional_is_at_right_angles_to_all_others(planted):
    study, _ = planted
    found = controlled.conditional(study, "b", LEVELS)
    for name in ("a", "c"):
        assert abs(cosine(found, study.direction(name))) < 1e-5
    assert cosine(found, study.direction("b")) > 0


def test_of_an_only_attribute_every_direction_is_the_mean_difference(planted):
    """Nothing is there to be taken off. Here the held-out images tell of no other."""
    study, _ = planted
    labels = study.labels & [False, True, False]
    alone = replace(study, labels=labels)
    for direction in (controlled.partial, controlled.conditional):
        assert cosine(direction(alone, "b", LEVELS), study.direction("b")) > 1 - 1e-6


def test_shrunk_leaves_signal_and_takes_noise(planted):
    study, effects = planted
    found, plain = controlled.shrunk(study, "c", LEVELS), study.direction("c")
    signal, noise = LEVELS
    assert np.linalg.norm(found[noise]) < 0.7 * np.linalg.norm(plain[noise])
    assert found[signal] == pytest.approx(plain[signal], rel=0.01)
    # and it is nearer to the truth
    assert np.linalg.norm(found - effects[2]) < np.linalg.norm(plain - effects[2])


def test_of_an_attribute_that_nobody_held_out_has_the_mean_difference_is_left(planted):
    study, _ = planted
    labels = study.labels.copy()
    labels[:, 2] = False
    study = replace(study, labels=labels)
    assert np.array_equal(controlled.partial(study, "c", LEVELS), study.direction("c"))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(2, 30), st.integers(0, 99))
def test_scaled_lines_have_the_component_of_the_mean(attributes, dim, seed):
    line, mean = np.random.default_rng(seed).normal(size=(2, attributes, dim))
    found = controlled.scaled(line, mean)
    assert (found * mean).sum(1) == pytest.approx((mean * mean).sum(1))
    against = (line * mean).sum(1) <= 0
    assert np.array_equal(found[against], mean[against])


@pytest.mark.parametrize("kind", controlled.DIRECTIONS)
def test_every_direction_is_one_of_the_study(planted, kind):
    found = controlled.direction(kind, planted[0], "b", LEVELS)
    assert found.dtype == np.float32 and found @ planted[0].direction("b") == pytest.approx(
        np.square(planted[0].direction("b")).sum(), rel=1e-4
    )


def test_a_direction_that_is_none_is_told_in_a_line(planted):
    with pytest.raises(GlowkitError, match="direction 'mene': want one of mean, partial, conditional, shrunk"):
        controlled.direction("mene", planted[0], "b", LEVELS)
