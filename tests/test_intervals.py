"""Intervals against scipy's own and against their coverage on data whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from glowkit import intervals
from glowkit.errors import GlowkitError


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_solves_its_equation(n, share):
    k = round(share * n)
    estimate, (low, high), _ = intervals.wilson(k, n)
    theirs = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high))
    z = stats.norm.ppf(0.975)
    for bound in (low, high):  # the bounds are where the score test is just at z
        assert (estimate - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / n, abs=1e-9)


def test_mean_is_the_t_interval():
    values = np.random.default_rng(0).normal(3, 2, 40)
    ours = intervals.mean(values)
    assert ours.ci == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval()))
    assert str(ours).endswith("(n = 40)")


@pytest.mark.parametrize("estimate, ci, text", [
    (443.34, (443.25, 443.43), "443.34 [443.25, 443.43] (n = 5)"),
    (0.89, (0.8801, 0.8999), "0.890 [0.880, 0.900] (n = 5)"),
    (1.0, (1.0, 1.0), "1.0000 [1.0000, 1.0000] (n = 5)"),
    (1.7e-7, (0, 1.7e-7), "1.7e-07 [0, 1.7e-07] (n = 5)"),
    (60_000, (59_000, 61_000), "60000 [59000, 61000] (n = 5)"),
])  # fmt: skip
def test_an_estimate_shows_the_decimals_it_has(estimate, ci, text):
    assert str(intervals.Estimate(estimate, ci, 5)) == text


def test_bootstrap_matches_scipy_and_repeats():
    values = np.random.default_rng(1).exponential(size=300)
    ours = intervals.bootstrap(np.median, values, resamples=2000)
    theirs = stats.bootstrap((values,), np.median, method="percentile", rng=2).confidence_interval
    assert ours.ci == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours == intervals.bootstrap(np.median, values, resamples=2000)


def test_bootstrap_of_groups_is_as_wide_as_the_groups_demand():
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(50), 20)
    values = rng.normal(size=50)[person] + 0.1 * rng.normal(size=1000)  # 50 people, 20 alike images each
    single = intervals.bootstrap(np.mean, values)
    grouped = intervals.bootstrap(np.mean, values, groups=person)
    width = np.diff(grouped.ci)[0]
    assert width > 3 * np.diff(single.ci)[0]
    assert width == pytest.approx(2 * 1.96 * values.reshape(50, 20).mean(1).std() / np.sqrt(50), rel=0.15)


def test_mean_and_share_count_people():
    rng = np.random.default_rng(3)
    truth, hits, covered, counted = 0.3, 0, 0, 0
    for _ in range(200):
        person = np.repeat(np.arange(60), 5)
        chance = rng.beta(0.6, 1.4, 60)[person]  # people differ much, each one's images are alike; mean 0.3
        seen = rng.random(300) < chance
        low, high = intervals.mean(seen, person).ci
        hits += low <= truth <= high
        low, high = intervals.share(seen, person).ci
        covered += low <= truth <= high
        low, high = intervals.share(seen).ci
        counted += low <= truth <= high
    assert hits >= 182 and covered >= 182
    assert counted < 170  # as single images they promise too much
    copies = intervals.share(np.ones(300), person)
    assert copies.ci == pytest.approx(intervals.wilson(60, 60).ci) and copies.n == 300


def test_bad_input_says_what_would_be_right():
    for call in (
        lambda: intervals.wilson(5, 3),
        lambda: intervals.mean([1.0]),
        lambda: intervals.bootstrap(np.mean, [1, 2], groups=[1]),
    ):
        with pytest.raises(GlowkitError, match="want|must"):
            call()


def test_a_total_that_is_just_not_rare_is_kept():
    assert intervals.german_tank(49, 1).ci == (49, 980)  # 49 / 980 is 1 - 0.95


@given(total=st.integers(1, 60), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_total_from_the_highest_number_against_counting(total, data):
    highest = data.draw(st.integers(1, total))
    seen = data.draw(st.integers(1, highest))
    found = intervals.german_tank(highest, seen)
    kept = [n for n in range(highest, 4000) if 20 * math.comb(highest, seen) >= math.comb(n, seen)]
    assert found.ci == (highest, kept[-1]) or kept[-1] == 3999
    # Unbiased: the mean of the estimate over every draw of `seen` from `total`.
    weights = {m: math.comb(m - 1, seen - 1) / math.comb(total, seen) for m in range(seen, total + 1)}
    average = sum(w * intervals.german_tank(m, seen).estimate for m, w in weights.items())
    assert average == pytest.approx(total)


def test_a_total_needs_something_seen():
    with pytest.raises(GlowkitError, match="1 <= seen <= highest"):
        intervals.german_tank(3, 4)


def test_share_difference_is_newcombes():
    # Newcombe (1998), table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339
    found = intervals.share_difference(intervals.wilson(56, 70), intervals.wilson(48, 80))
    assert found.estimate == pytest.approx(0.2) and found.n == 150
    assert found.ci == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_share_of_one_level_is_wilsons_and_levels_weigh_by_their_size():
    hits = np.arange(40) < 30
    single = intervals.weighted_share(hits[None], [7])
    assert (single.estimate, *single.ci) == pytest.approx((0.75, *intervals.wilson(30, 40).ci))
    every = intervals.weighted_share(np.stack([hits, np.ones(40, bool)]), [100, 300])
    assert every.estimate == pytest.approx(0.25 * 0.75 + 0.75 * 1) and every.n == 80
    assert every.ci[0] < every.estimate < every.ci[1] <= 1


def test_share_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    p, sizes, k = np.array([0.97, 0.6, 0.1]), np.array([600, 300, 100]), 60
    truth = float(p @ sizes / sizes.sum())
    found = [intervals.weighted_share(rng.random((3, k)) < p[:, None], sizes).ci for _ in range(300)]
    assert np.mean([low <= truth <= high for low, high in found]) > 0.92


def test_an_estimate_without_n_and_an_increasing_function_of_it():
    share = intervals.wilson(889, 1000)
    assert share.brief == "0.889 [0.868, 0.907]" and str(share) == "0.889 [0.868, 0.907] (n = 1,000)"
    squares = intervals.Estimate(4.0, (1.0, 9.0), 7).through(math.sqrt)
    assert squares == (2.0, (1.0, 3.0), 7) and isinstance(squares, intervals.Estimate)


def test_pearson_has_fishers_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    found = intervals.pearson(x, y)
    middle = np.arctanh(np.corrcoef(x, y)[0, 1])
    margin = stats.norm.ppf(0.975) / np.sqrt(37)
    assert found.n == 40
    assert (found.estimate, *found.ci) == pytest.approx(tuple(np.tanh([middle, middle - margin, middle + margin])))


def test_spearman_is_blind_to_the_scale_and_resamples_groups():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    found = intervals.spearman(x, y)
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    assert found.estimate == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert intervals.spearman(np.exp(x), y**3) == found and found.ci[0] < found.estimate < found.ci[1]
    same = intervals.spearman(x, np.exp(x))
    assert (same.estimate, *same.ci) == pytest.approx((1, 1, 1))
    copies = intervals.spearman(np.repeat(x, 4), np.repeat(y, 4), groups=np.repeat(np.arange(60), 4))
    assert np.diff(copies.ci) == pytest.approx(np.diff(found.ci), rel=0.2)  # four copies are no more evidence
