"""The rows on projections against scikit-learn's and SciPy's numbers, and on latents that know nothing."""

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.metrics import roc_auc_score

from glowkit.measures import projections


def mean_area(scores, labels):
    return np.mean([roc_auc_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)])


def test_c21_and_b11_are_differences_of_mean_areas(stage):
    study = stage.study
    for encoding in ("noise", "centres"):
        lines = np.stack([study.direction(name, encoding) for name in stage.attributes], 1)
        latent = mean_area(stage.z[encoding].numpy() @ lines, stage.labels)
        pixels = stage.pixels(range(len(stage.where)), encoding).flatten(1).numpy()
        lines = np.stack([study.pixel_direction(name) for name in stage.attributes], 1)
        image = mean_area(pixels @ lines, stage.labels)
        control = projections.linear_control(stage)[0]
        covariance = (control.axes * (control.variances - control.rest)) @ control.axes.T
        covariance += control.rest * np.eye(len(covariance))
        root = linalg.sqrtm(linalg.inv(covariance)).real  # W, so that W v and W d are what is projected
        linear = mean_area(pixels @ root @ (root @ lines), stage.labels)
        found = {
            id: row.estimate if encoding == "noise" else row.centres
            for id, row in (("C21", projections.c21(stage)), ("B11", projections.b11(stage)))
        }
        assert found["C21"].estimate == pytest.approx(latent - image, abs=1e-4)
        assert found["B11"].estimate == pytest.approx(latent - linear, abs=2e-4)
        assert found["C21"].n == len(np.unique(stage.people))


def test_b11_tells_the_area_at_other_ranks(stage):
    details, control = projections.b11(stage).details, projections.linear_control(stage)[0]
    rank = f"{len(control.variances)}"
    assert list(details["by_rank"])[-1] == rank
    bits = [bits for bits, _, _ in details["by_rank"].values()]
    assert min(bits) == details["by_rank"][rank][0]
    scores = projections.projections(stage, "noise")["linear flow", "opposite"]
    known = projections.known(stage)
    area = mean_area(scores[:, known], stage.labels[:, known])
    assert details["by_rank"][rank][1] == pytest.approx(area, abs=1e-3)
    plain = np.stack([stage.study.pixel_direction(name) for name in stage.attributes], 1)
    white = control.axes.T @ plain / control.variances[:, None]
    pixels = stage.pixels(range(len(stage.where)), "noise").flatten(1).numpy()
    area = mean_area((pixels @ control.axes @ white)[:, known], stage.labels[:, known])
    assert details["by_rank"][rank][2] == pytest.approx(area, abs=1e-3)


def test_latents_that_know_nothing_lose(pure):
    assert projections.c21(pure).estimate.ci[1] < 0 and projections.b11(pure).estimate.ci[1] < 0


def test_a_departure_is_a_mean_over_faces():
    scores = np.random.default_rng(0).normal(size=(300, 4)) * (1, 2, 0.5, 1) + (0, 0, 0, -0.7)
    expected = [stats.kstest(column, "norm").statistic for column in scores.T]
    assert projections._departures(scores).mean(0) == pytest.approx(expected, abs=1e-12)


def test_c24_is_the_distance_beyond_chance(stage, pure):
    found, chance = projections.c24(stage), projections.c24(pure)
    assert found.estimate.ci[0] > max(0.05, chance.estimate.ci[1])
    assert chance.estimate.ci[0] < 0 < chance.estimate.ci[1]
    lines = [stage.study.direction(name) for name in stage.attributes]
    each = [stats.kstest(stage.z["noise"].numpy() @ (d / np.linalg.norm(d)), "norm").statistic for d in lines]
    assert found.details["noise"]["distance"] == pytest.approx(each, abs=1e-3)
