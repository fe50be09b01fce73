"""The row on sampling noise against a direction's own noise in two halves of the images."""

from dataclasses import replace

import numpy as np
import pytest

from glowkit.measures import certainty


def test_b03_is_the_noise_of_the_rarest_direction(stage):
    study, found = stage.study, certainty.b03(stage)
    assert found.control.startswith("Red") and found.estimate.n == study.count("Red")
    n = study.count("Red")
    for estimate, encoding in ((found.estimate, "noise"), (found.centres, "centres")):
        floor = study.moments(encoding)[1].sum() * (1 / n + 1 / (study.n - n))
        assert estimate.estimate == pytest.approx(floor / np.square(study.direction("Red", encoding)).sum(), rel=1e-3)
    # another way to the same: what two halves of the images have in common
    cosine = study.reliability("Red")
    assert found.estimate.estimate == pytest.approx((1 - cosine) / (1 + cosine), abs=0.1)
    assert found.estimate.ci[1] < 0.5
    assert list(found.details["shares"])[0] == "Red" and len(found.details["curves"]["Red"]) >= 2


def test_a_coin_is_mostly_noise(stage):
    k = stage.study.index("Nothing")
    study = replace(stage.study, attributes=["Nothing"], counts=stage.study.counts[k : k + 1])
    study = replace(
        study, _class_means={key: mean[k : k + 1] for key, mean in study._class_means.items()},
        _reliability={key: value[k : k + 1] for key, value in study._reliability.items()},
        _noise=replace(study._noise, counts=study._noise.counts[:, k : k + 1],
                       thinned=study._noise.thinned[:, k : k + 1]),
    )  # fmt: skip
    assert certainty.b03(replace(stage, study=study)).estimate.ci[0] > 5 * certainty.b03(stage).estimate.ci[1]
