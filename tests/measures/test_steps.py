"""Calibrated and fixed steps, against a judge of the very projection that calibration aims at."""

import numpy as np
import pytest
import torch
from measures.toy_stage import Planted, stage_of

from glowkit.measures import steps
from glowkit.study import CENTRES, NOISE

NAMES = ["Smiling", "Male", "Young", "Black_Hair", "Pale_Skin", "Bangs"]


def always(x):
    return torch.ones(len(x))


@pytest.fixture(scope="module")
def stage():
    found = stage_of((Planted(dict.fromkeys(NAMES, always)),) * 2, always, n=200)

    def reaches(name):
        """Seen is what has come as far along the attribute's direction as the faces with it are on average, nearly."""
        direction = torch.from_numpy(found.study.direction(name, CENTRES))
        at = found.flow.encode(found.x) @ direction
        with_, without = at[torch.from_numpy(found.has(name))].mean(), at[torch.from_numpy(~found.has(name))].mean()
        return lambda x: found.flow.encode(x) @ direction - with_ + 0.3 * (with_ - without)

    sees = {name: reaches(name) for name in NAMES}
    vars(found)["judges"] = (Planted(sees), Planted(dict.fromkeys(NAMES, always)))
    return found


def test_who_knows_where_the_face_is_gets_it_there(stage):
    row = steps.b05(stage)
    assert row.centres.estimate > 0.2 and row.centres.ci[0] > 0 and row.estimate.ci[0] > 0
    assert row.second == (0.0, (0.0, 0.0), 6)  # the second judge sees everything everywhere
    assert row.estimate.n == 6 and set(row.details) == set(NAMES)
    gains = [d["calibrated"][0] - d["fixed"][0] for d in row.details.values()]
    assert row.estimate.estimate == pytest.approx(np.mean(gains), abs=1e-3)


def test_the_step_leads_to_the_mean_of_other_people_with_the_attribute(stage):
    found = steps._steps(stage, NOISE)["Male"]
    rows = stage.faces(~stage.has("Male"), 40)
    direction = stage.study.direction("Male", NOISE).astype(float)
    z = stage.z[NOISE].double().numpy()
    goal = (z[stage.has("Male")] @ direction).mean()
    np.testing.assert_allclose(found["alpha"], (goal - z[rows] @ direction) / (direction @ direction), rtol=1e-3)
    assert (found["people"] == stage.people[rows]).all()


def test_too_few_attributes_decide_nothing():
    few = stage_of((Planted(dict.fromkeys(NAMES[:4], always)),) * 2, always, n=60)
    assert steps.b05(few) is None
