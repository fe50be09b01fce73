"""Intervals against scipy's own and against their coverage on data whose truth is known."""

import math

import numpy as np
import pytest
from campaigns import coverage
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
    theirs = stats.bootstrap((values,), np.median, method="percentile", random_state=2).confidence_interval
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
    assert copies.ci == pytest.approx(intervals.wilson(60, 60).ci) and copies.n == 60


def test_bad_input_says_what_would_be_right():
    for call in (
        lambda: intervals.wilson(5, 3),
        lambda: intervals.mean([1.0]),
        lambda: intervals.bootstrap(np.mean, [1, 2], groups=[1]),
        lambda: intervals.share([]),
        lambda: intervals.paired_difference([], []),
        lambda: intervals.paired_difference([True, False], [True]),
        lambda: intervals.paired_ratio([True, False], [True]),
        lambda: intervals.pearson([], []),
    ):
        with pytest.raises(GlowkitError, match="want|must"):
            call()


def test_a_constant_has_no_correlation():
    rows = np.arange(6.0)
    for correlation in (intervals.pearson, intervals.spearman):
        name = correlation.__name__
        for x, y, words in (
            (rows, np.full(6, 0.5), "all 6 values of y are 0.5; want values that differ"),
            (np.zeros(6, bool), rows, "all 6 values of x are 0;"),
            (rows, [0, 1, 2, 3, 4, math.nan], "want finite numbers, y has nan"),
        ):
            with pytest.raises(GlowkitError, match=f"{name}: {words}"):
                correlation(x, y)
    alone = rows == 3  # has a correlation, and without that one none
    assert intervals.pearson(rows, alone).estimate == pytest.approx(np.corrcoef(rows, alone)[0, 1])
    with pytest.raises(GlowkitError, match="spearman: all but 1 of 6 values of y are 0"):
        intervals.spearman(rows, alone)
    with pytest.raises(GlowkitError, match="not a number in [0-9]+ of 1000 resamples"), np.errstate(all="ignore"):
        intervals.bootstrap(lambda x, y: np.corrcoef(x, y)[0, 1], rows, alone)


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


def test_mean_difference_is_students_and_covers():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0])
    pooled = (np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / 3
    margin = stats.t.ppf(0.975, 3) * np.sqrt(pooled * (1 / 3 + 1 / 2))
    found = intervals.mean_difference(a, b)
    assert found.estimate == pytest.approx(11 / 6) and found.n == 5
    assert found.ci == pytest.approx((11 / 6 - margin, 11 / 6 + margin))
    rng = np.random.default_rng(0)
    many = [intervals.mean_difference(rng.normal(size=5), rng.normal(size=3)).ci for _ in range(1000)]
    assert 0.93 <= np.mean([low <= 0 <= high for low, high in many]) <= 0.97
    with pytest.raises(GlowkitError, match="want three"):
        intervals.mean_difference([1.0], [2.0])


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


@pytest.mark.parametrize("row", [
    "share: 0.7, 2 people, 30 images each, alike by 0.3",
    "share: 0.5, 5 people, 20 images each, alike by 0.3",
    "share: 0.02, 50 people, 20 images each, alike by 0.3",
    "paired_difference: 0.95 less 0.9, 50 people, 4 images each",
    "paired_ratio: 0.8 over 0.95, 50 people, 4 images each",
    "auc: 0.99, 10 positives of 2,000",
    "auc: 0.99, 40 wider positives of 2,000",
    "bootstrap: mean of 10 normal values",
])  # fmt: skip
def test_intervals_cover_at_the_n_of_the_book(row):  # all of them, with more repeats: tests/campaigns/coverage.py
    assert coverage.coverage(coverage.ROWS[row], 200) > 0.915  # of 200, 0.93 is below this in one seed of five


def test_one_person_tells_nothing_of_others():
    person, hits = np.zeros(30), np.arange(30) < 20
    assert intervals.share(hits, person).ci == (0, 1) and intervals.share(hits, person).n == 1
    assert intervals.paired_difference(hits, ~hits, person).ci == (-1, 1)
    for call in (
        lambda: intervals.mean(hits, person),
        lambda: intervals.paired_ratio(hits, ~hits, person),
        lambda: intervals.spearman(np.arange(30), hits, person),
        lambda: intervals.bootstrap(np.mean, hits, groups=person),
        lambda: intervals.hierarchical(np.mean, hits, outer=person),
        lambda: intervals.two_way(np.mean, hits, rows=person, columns=np.arange(30)),
    ):
        with pytest.raises(GlowkitError, match="at least"):
            call()


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_share_of_people_with_one_image_each_is_wilsons(data):
    hits = np.array(data.draw(st.lists(st.booleans(), min_size=2, max_size=60)))
    grouped, single = intervals.share(hits, np.arange(len(hits))), intervals.share(hits)
    assert grouped.estimate == single.estimate and grouped.n == single.n == len(hits)
    assert (grouped.ci[0], grouped.ci[1]) == pytest.approx(single.ci)


def test_paired_difference_of_single_images_is_bonett_and_prices():
    first, second = np.arange(60) < 45, np.arange(60) % 3 > 0
    found = intervals.paired_difference(first, second)
    more, less = ((first & ~second).sum() + 1) / 62, ((~first & second).sum() + 1) / 62
    assert found.estimate == pytest.approx(first.mean() - second.mean()) and found.n == 60
    error = math.sqrt((more + less - (more - less) ** 2) / 61)
    margin = stats.t.ppf(0.975, 61) * error
    assert found.ci == pytest.approx((more - less - margin, more - less + margin))


def test_paired_ratio_is_one_for_equal_shares_and_turns_over():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 3)
    first, second = rng.random((2, 120)) < [[0.4], [0.8]]
    same, ratio = intervals.paired_ratio(first, first, person), intervals.paired_ratio(first, second, person)
    assert same.estimate == 1 and same.ci[0] < 1 < same.ci[1]
    other = intervals.paired_ratio(second, first, person)
    assert (1 / other.ci[1], 1 / other.ci[0]) == pytest.approx(ratio.ci) and ratio.n == 40


def test_two_way_knows_the_variance_of_rows_and_of_columns():
    rng = np.random.default_rng(0)
    rows, columns = 40, 25
    values = 2 * rng.normal(size=(rows, 1)) + rng.normal(size=columns) + 0.1 * rng.normal(size=(rows, columns))
    row, column = np.indices(values.shape)
    found = intervals.two_way(np.mean, values.ravel(), rows=row.ravel(), columns=column.ravel())
    error = math.sqrt(values.mean(1).var() / rows + values.mean(0).var() / columns)
    expected = 2 * error * stats.t.ppf(0.975, (columns - 1) / 2) * math.sqrt(columns / (columns - 1))
    assert np.diff(found.ci)[0] == pytest.approx(expected, rel=0.15) and found.n == 25
    by_row = intervals.bootstrap(np.mean, values.ravel(), groups=row.ravel())
    assert np.diff(by_row.ci) < np.diff(found.ci)


def test_hierarchical_draws_people_within_attributes():
    outer, inner = np.repeat(np.arange(6), 8), np.tile(np.repeat(np.arange(4), 2), 6)
    seen = []

    def statistic(attribute, person, row):
        seen.append((attribute, person, row))
        return float(row.mean())

    assert intervals.hierarchical(statistic, outer, inner, np.arange(48), outer=outer, inner=inner, resamples=50).n == 6
    kinds = set()
    for attribute, person, row in seen[:-1]:
        assert (attribute == outer[row]).all() and (person == inner[row]).all() and len(row) == 48
        times = np.bincount(row, minlength=48).reshape(6, 4, 2)
        assert (times[:, :, 0] == times[:, :, 1]).all()  # both images of a person, or neither
        each = times[:, :, 0].sum(1)
        assert (each % 4 == 0).all()  # an attribute drawn twice draws its four people twice
        kinds |= set(times.ravel())
    assert len(kinds) > 3


def test_spearman_of_many_leaves_out_blocks():
    with pytest.raises(GlowkitError, match="at least 3"):
        intervals.spearman([1, 2], [2, 1])
    rng = np.random.default_rng(1)
    many = rng.normal(size=(2, 1000))
    low, high = intervals.spearman(*many).ci
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(1000), rel=0.15)  # 200 blocks of five are left out
