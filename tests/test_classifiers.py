"""Classifiers against scikit-learn, exact Gaussian answers and brute-force counting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from glowkit import classifiers as c
from glowkit.errors import GlowkitError
from glowkit.theory import cover_probability


def two_classes(n, dim, distance, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    shift = distance / 2 / np.sqrt(dim) * np.where(labels, 1, -1)
    return rng.standard_normal((n, dim)) + shift[:, None], labels


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_counts_pairs(pairs):  # few distinct scores: ties count a half
    scores, labels = map(np.array, zip(*pairs, strict=True))
    if labels.all() or not labels.any():
        return
    area = c.auc(scores, labels)
    assert area.estimate == pytest.approx(roc_auc_score(labels, scores))
    assert 0 <= area.ci[0] <= area.estimate <= area.ci[1] <= 1


def test_delong_interval_agrees_with_the_bootstrap_and_covers():
    scores, labels = two_classes(600, 1, 1.5, 0)
    area = c.auc(scores[:, 0], labels)
    bootstrap = c.bootstrap(lambda s, y: roc_auc_score(y, s), scores[:, 0], labels, resamples=500)
    assert area.ci == pytest.approx(bootstrap.ci, abs=0.01)
    truth = stats.norm.cdf(1.5 / np.sqrt(2))
    hits = 0
    for seed in range(200):
        scores, labels = two_classes(120, 1, 1.5, seed)
        low, high = c.auc(scores[:, 0], labels).ci
        hits += low <= truth <= high
    assert c.wilson(hits, 200).ci[1] > 0.93


def test_auc_of_separated_classes_keeps_an_open_end():
    area = c.auc(np.arange(20), np.arange(20) >= 10)
    assert area.estimate == 1 and area.ci == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    assert c.auc(-np.arange(20), np.arange(20) >= 10).ci[1] == pytest.approx(1 - 0.025 ** (1 / 10))


def test_mean_projections_reach_the_gaussian_optimum():
    x, y = two_classes(3000, 10, 2.0, 0)
    new, truth = two_classes(3000, 10, 2.0, 1)
    plus, minus = c.class_means(x, y)
    best = stats.norm.cdf(2 / np.sqrt(2))
    opposite = c.auc(c.opposite_projection(new, plus, minus), truth)
    assert opposite.estimate == pytest.approx(best, abs=0.02)
    assert c.auc(c.zero_projection(new, plus), truth).estimate == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_auc_difference_agrees_with_the_bootstrap(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((300, 2)) < 0.4
    good = labels * 1.5 + rng.standard_normal((300, 2))
    poor = good + rng.standard_normal((300, 2))

    def difference(a, b, y):
        return np.mean([roc_auc_score(y[:, k], a[:, k]) - roc_auc_score(y[:, k], b[:, k]) for k in range(2)])

    ours = c.auc_difference(good, poor, labels)
    assert ours.estimate == pytest.approx(difference(good, poor, labels))
    bootstrap = c.bootstrap(difference, good, poor, labels, resamples=200, seed=seed)
    assert np.ptp(ours.ci) == pytest.approx(np.ptp(bootstrap.ci), rel=0.3)
    assert c.auc_difference(good[:, 0], good[:, 0], labels[:, 0]).ci == (0, 0)


def test_auc_counts_people():
    scores, labels = two_classes(120, 1, 1.5, 0)
    person = np.repeat(np.arange(120), 4)
    once, copied = c.auc(scores[:, 0], labels), c.auc(scores[person, 0], labels[person], person)
    assert copied.estimate == pytest.approx(once.estimate)
    assert copied.ci == pytest.approx(once.ci, abs=0.002)  # four copies of each tell no more
    apart = c.auc(np.arange(20)[person % 20], np.arange(20)[person % 20] >= 10, person % 20)
    assert apart.ci == c.auc(np.arange(20), np.arange(20) >= 10).ci


def test_binormal_variance_is_that_of_drawn_scores():
    rng = np.random.default_rng(0)
    for area, m, n in ((0.7, 20, 30), (0.95, 10, 200)):
        shift = np.sqrt(2) * stats.norm.ppf(area)
        positive, negative = rng.normal(size=(4000, m, 1)) + shift, rng.normal(size=(4000, 1, n))
        areas = (positive > negative).mean((1, 2))
        assert c._binormal_variance(area, m, n) == pytest.approx(np.var(areas), rel=0.1)


def test_auc_of_one_person_tells_nothing_of_others():
    assert c.auc([1, 2, 0], [True, True, False], np.zeros(3)).ci == (0, 1)
    found = c.auc_difference([1, 2, 0], [2, 1, 0], [True, True, False], np.zeros(3))
    assert found.ci == (-1, 1) and found.n == 1


def test_separable_agrees_with_counting_and_with_cover():
    points = np.random.default_rng(0).standard_normal((6, 2))
    angles = np.linspace(0, np.pi, 20_001)
    heights = points @ np.stack([np.cos(angles), np.sin(angles)])
    order = np.argsort(heights, axis=0)
    found = set()  # every labelling a line makes: the first k points along some direction, or the others
    for column in np.unique(order, axis=1).T:
        for k in range(1, 6):
            first = np.isin(np.arange(6), column[:k])
            found |= {tuple(first), tuple(~first)}
    labellings = [y for y in itertools.product([False, True], repeat=6) if 0 < sum(y) < 6]
    answers = {y for y in labellings if c.separable(points, y)}
    assert answers == found
    assert (len(answers) + 2) / 2**6 == pytest.approx(cover_probability(6, 2))


def test_random_labels_separate_below_n_equals_d_and_mean_nothing():
    rng = np.random.default_rng(0)
    accuracy, held_out = c.random_labels(rng.standard_normal((60, 100)), rng.standard_normal((400, 100)))
    assert accuracy.estimate == 1
    assert held_out.ci[0] < 0.5 < held_out.ci[1]


def test_one_class_is_refused():
    with pytest.raises(GlowkitError, match="both classes"):
        c.auc([1, 2], [True, True])


def test_discriminants_are_the_shrunk_inverse_on_the_mean_difference():
    x, y = two_classes(400, 12, 2.0, 0)
    x = x * np.linspace(1, 4, 12)
    labels = np.stack([y, np.arange(400) % 2 == 0], 1)
    found = c.discriminants(torch.from_numpy(x), labels, [0.2, 0.7]).numpy()
    covariance = np.cov(x, rowvar=False, bias=True)
    for line, s in zip(found, (0.2, 0.7), strict=True):
        shrunk = (1 - s) * covariance + s * np.trace(covariance) / 12 * np.eye(12)
        for k, label in enumerate(labels.T):
            np.testing.assert_allclose(shrunk @ line[:, k], x[label].mean(0) - x[~label].mean(0), atol=1e-8)
    # the same line as with the covariance within the classes, shrunk to the same sphere
    within = (1 - 0.2) * sum(np.cov(x[part], rowvar=False, bias=True) * part.mean() for part in (y, ~y))
    ridge = within + 0.2 * np.trace(covariance) / 12 * np.eye(12)
    fisher = np.linalg.solve(ridge, x[y].mean(0) - x[~y].mean(0))
    assert fisher @ found[0][:, 0] == pytest.approx(np.linalg.norm(fisher) * np.linalg.norm(found[0][:, 0]))


@pytest.mark.parametrize("loss", list(c.LOSSES))
def test_penalised_classifiers_are_scikit_learns(loss):
    x, y = two_classes(500, 15, 1.5, 0)
    labels = np.stack([y, x[:, 0] > 0.5], 1)
    found = c.penalised(torch.from_numpy(x), labels, loss, (0.3, 30.0), iterations=300).numpy()
    scaled = x - x.mean(0)
    scaled /= np.sqrt(np.square(scaled).sum(1).mean())
    for k, penalty in enumerate((0.3, 30.0)):
        for a, label in enumerate(labels.T):
            if loss == "linear SVM":
                theirs = LinearSVC(C=penalty, intercept_scaling=1e3, tol=1e-8, max_iter=10**5, dual=False)
            else:
                theirs = LogisticRegression(C=penalty, tol=1e-8)
            line = theirs.fit(scaled, label).coef_[0]
            np.testing.assert_allclose(found[k][:, a], line, atol=2e-3 * np.abs(line).max())
