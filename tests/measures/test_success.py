"""Rows on success from a planted sweep, whose answers are known."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowkit.measures import success
from glowkit.measures.stage import PIXEL
from glowkit.measures.sweep import ALPHAS, SPACES, Edits
from glowkit.study import CENTRES, NOISE

NAMES = [f"a{k}" for k in range(12)]
FACES = 80


@dataclass(frozen=True, eq=False)
class Planted:
    """Enough of a stage for what only reads the sweep."""

    attributes: list = field(default_factory=lambda: NAMES)
    drawn: bool = True
    _found: dict = field(default_factory=dict)


def planted(gain: float, dearer: float, ceiling: float = 0.8, seed: int = 0) -> dict:
    """Edits whose chance of success grows with alpha up to the ceiling, in latent space `gain` times as fast as in
    pixels; their error is 1 + alpha, in latent space `dearer` times that."""
    rng = np.random.default_rng(seed)
    found = {}
    for space in SPACES:
        for name in NAMES:
            fast, dear = (gain, dearer) if space != PIXEL else (1, 1)
            chance = np.minimum(0.35 * fast * np.array(ALPHAS), 1)[:, None] * ceiling
            steps = np.array(ALPHAS)[:, None]
            draws = rng.random((2, 1, FACES))
            people = np.arange(FACES) // 2
            found[name, True, space] = Edits(
                name, True, space, np.arange(FACES), people,
                seen=draws < chance, true=rng.random((2, FACES)) < ceiling,
                error=dear * (1 + steps) * rng.uniform(0.9, 1.1, FACES), passes=np.ones((len(ALPHAS), FACES), bool),
                aside=np.stack([dear * steps + 0 * draws[0]] * 2), leak=np.zeros((2, len(NAMES))),
            )  # fmt: skip
    return found


@pytest.fixture
def plant(monkeypatch):
    def put(**change):
        made = planted(**change)
        monkeypatch.setattr(success, "sweep", lambda stage: made)
        return Planted()

    return put


def test_where_few_attributes_get_there_no_mean_is_made_up(monkeypatch):
    """Of twelve attributes five succeed; in some of the resamples of attributes none of them is left."""
    made = planted(gain=1.0, dearer=1.0)
    for (name, _, space), edits in made.items():
        if space != PIXEL and name in NAMES[5:]:
            edits.seen[:] = False
    monkeypatch.setattr(success, "sweep", lambda stage: made)
    found, reached = success.at_equal_success(success._adding(Planted(), NOISE, 0), "error")
    assert found is None and sorted(reached) == sorted(NAMES[:5])
    assert success.b02(Planted()) is None


def test_success_in_latents_less_that_in_pixels_as_a_share_of_the_ceiling(plant):
    found = success.c16(plant(gain=2.0, dearer=1.0))
    for one in (found.estimate, found.second, found.centres):
        assert one.ci[0] < 0.35 < one.ci[1] and one.n == len(NAMES)  # 0.7 of the ceiling less 0.35 of it
    found = success.c16(plant(gain=1.0, dearer=1.0))
    assert found.estimate.ci[0] < 0 < found.estimate.ci[1]
    assert success.c16(plant(gain=0.2, dearer=1.0)).estimate.ci[1] < 0


@pytest.mark.parametrize(("gain", "dearer"), [(1.0, 1.5), (2.0, 1.0), (2.0, 1.5)])
def test_errors_are_compared_where_success_is_equal(plant, gain, dearer):
    """Three quarters of the ceiling are reached at alpha 0.75 / 0.35 in pixels, `gain` times sooner in latents."""
    found = success.b02(plant(gain=gain, dearer=dearer))
    pixel = 0.75 / 0.35
    expected = dearer * (1 + pixel / gain) / (1 + pixel)
    assert found.estimate.estimate == pytest.approx(expected, rel=0.07)
    assert found.estimate.ci[0] < expected < found.estimate.ci[1]
    assert found.estimate.n >= len(NAMES) - 1 == len(found.details["attributes"]) - 1
    aside = success.b12(plant(gain=gain, dearer=dearer)).estimate
    assert aside.ci[0] < dearer / gain < aside.ci[1]


def test_what_cannot_be_judged_is_left_out(plant):
    stage = plant(gain=1.0, dearer=1.0, ceiling=0.05)
    assert [row(stage) for row in (success.c16, success.c18, success.b02, success.b12)] == [None] * 4
    assert np.isnan(success._success(stage, NOISE, 0, True)).all()


def test_the_best_alpha_has_to_pass_as_a_face(plant, monkeypatch):
    stage = plant(gain=1.0, dearer=1.0)
    found = success.c18(stage)
    assert found.estimate.estimate == pytest.approx(0.8 * (1 - 0.35), abs=0.07)  # at alpha 3
    made = planted(gain=1.0, dearer=1.0)
    for edits in made.values():
        edits.passes[ALPHAS.index(1.5) :] = False  # beyond alpha 1 they are monsters
    monkeypatch.setattr(success, "sweep", lambda stage: made)
    assert abs(success.c18(Planted()).estimate.estimate) < 0.02
    assert success.c18(Planted()).estimate.ci[1] < 0.02


def test_leakage_follows_the_labels_or_does_not(plant, monkeypatch):
    rng = np.random.default_rng(3)
    labels = rng.random((500, 3)) < 0.5
    mixed = np.array([rng.permutation(labels[:, k % 3]) if k > 8 else labels[:, k % 3] ^ (rng.random(500) < 0.2)
                      for k in range(len(NAMES))]).T  # fmt: skip
    correlation = np.corrcoef(mixed.T.astype(float))

    def found(noise: float, sign: float):
        made = planted(1.0, 1.0)
        for k, name in enumerate(NAMES):
            for space in SPACES:
                made[name, True, space].leak[:] = sign * correlation[k] + noise * rng.standard_normal(len(NAMES))
        monkeypatch.setattr(success, "sweep", lambda stage: made)
        stage = Planted()
        object.__setattr__(stage, "labels", mixed)
        return success.b04(stage).estimate

    assert found(0.01, 1).ci[0] > 0.3
    assert found(0.01, -1).ci[1] < -0.3
    chance = found(10, 0)
    assert chance.ci[0] < 0 < chance.ci[1] and chance.n == len(NAMES)
    mixed[:, 1:] = False  # of one attribute that varies there is nothing to be said
    stage = Planted()
    object.__setattr__(stage, "labels", mixed)
    assert success.b04(stage) is None


def test_a_control_without_a_correlation_is_told():
    x = np.array([0.1, 0.3, 0.2])
    assert success._rank(x, -x) == "-1.00"
    assert success._rank(x, np.zeros(3)) == success._rank(x[:1], x[:1]) == "none (all are the same)"


@given(
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    st.floats(0.05, 0.95),
)
def test_level_is_found_as_on_a_fine_grid(success_, values, level):
    """Against the first of many small steps along the same straight lines."""
    found = success.at_level(np.array(success_)[:, None], np.array(values)[:, None], np.array([level]))[0]
    fine = np.linspace(0, 5, 50_001)
    curve, along = (np.interp(fine, np.arange(6), y) for y in (success_, values))
    there = np.flatnonzero(curve >= level)
    if not len(there) or there[0] == 0:
        assert np.isnan(found) or abs(success_[0] - level) < 1e-6 or abs(max(success_) - level) < 1e-6
    else:
        steepest = np.abs(np.diff(values)).max() * 2e-4 + 1e-9
        assert found == pytest.approx(along[there[0]], abs=steepest)


def test_spaces_are_those_of_the_study():
    assert SPACES == (NOISE, CENTRES, PIXEL)
