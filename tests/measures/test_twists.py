"""The twist's row against scikit-learn, and on latents that have nothing to lose."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from glowkit import gaussian_maps
from glowkit.measures import twists


def test_b01_is_what_a_twist_takes_off(stage):
    found = twists.b01(stage)
    first, half = twists._halves(stage)
    assert not set(stage.people[first]) & set(stage.people[half])
    assert len(first) + len(half) == len(stage.where)
    areas = []
    for strength in (0.0, 3.0):
        w = gaussian_maps.twist(stage.z["noise"], strength).numpy()
        each = []
        for name in found.details["attributes"]:
            y = stage.has(name)
            line = w[first][y[first]].mean(0) - w[first][~y[first]].mean(0)
            each.append(roc_auc_score(y[half], w[half] @ line))
        areas.append(np.mean(each))
    assert found.estimate.estimate == pytest.approx(areas[0] - areas[1], abs=1e-4)
    assert found.estimate.ci[0] > 0.1 and found.estimate.n == len(np.unique(stage.people[half]))
    assert "Red" not in found.details["attributes"]  # a tenth of the faces


def test_nothing_is_lost_where_nothing_was(pure):
    low, high = twists.b01(pure).estimate.ci
    assert low < 0.1 and high > 0 > low
