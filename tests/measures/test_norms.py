"""The rows on norms against sums over pairs, NumPy's norms and counts; and on latents that are Gaussian draws."""

from dataclasses import replace

import numpy as np
import pytest

from glowkit.measures import norms


def scaled(stage, factor):
    return replace(stage, z={kind: factor * z for kind, z in stage.z.items()})


def test_c07_is_the_mean_product_of_different_people(stage, pure):
    found, z = norms.c07(stage), stage.z["noise"].double().numpy()
    sums = np.stack([z[stage.people == person].mean(0) for person in np.unique(stage.people)])
    products = sums @ sums.T
    square = products[~np.eye(len(sums), dtype=bool)].mean()
    assert found.estimate.estimate == pytest.approx(np.sqrt(1 + 12_000 * square / z.shape[1]), rel=1e-3)
    assert found.estimate.n == len(sums) and found.estimate.ci[0] > 2
    gauss = norms.c07(pure)
    assert gauss.estimate.ci[0] <= 1.1 and gauss.centres.ci[0] <= 1.1


def test_c08_is_the_mean_norm(stage, pure):
    found, z = norms.c08(stage), stage.z["centres"].double().numpy()
    assert found.centres.estimate == pytest.approx(np.linalg.norm(z, axis=1).mean() / np.sqrt(z.shape[1]), rel=1e-5)
    first = stage.flow.level_slices[0]
    deep = np.linalg.norm(z[:, first], axis=1).mean() / np.sqrt(first.stop)
    assert found.details["ratios"]["centres"][1][0] == pytest.approx(deep, rel=1e-4)
    assert norms.c08(pure).estimate.estimate == pytest.approx(1, abs=0.005)
    assert norms.c08(pure).details["ks"]["noise"][0] < 0.15 < found.details["ks"]["noise"][0]
    assert norms.c08(scaled(pure, 1.05)).estimate.ci[0] > 1 > norms.c08(scaled(pure, 0.95)).estimate.ci[1]


def test_c09_counts_sides(stage, pure):
    found = norms.c09(stage)
    sides = stage.z["noise"].numpy() @ stage.study.moments("noise")[0] > 0
    assert found.estimate.estimate == sides.mean() > 0.6
    assert norms.c09(scaled(stage, -1)).estimate.estimate == pytest.approx(1 - sides.mean())
    low, high = norms.c09(pure).estimate.ci
    assert low < 0.5 < high
