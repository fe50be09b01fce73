"""What is kept of a stage: on disk in a folder that knows what it was made of, in memory as long as the stage lives."""

import json
import shutil
import weakref
from dataclasses import replace
from inspect import get_annotations

import pytest
import torch

from glowkit import checkpoint, measures, study
from glowkit.judge import FIRST, SECOND, Judge
from glowkit.measures import projections, success, sweep
from glowkit.measures import stage as stages
from glowkit.measures.projections import LATENT, OPPOSITE


def write_judges(folder, seed):
    torch.manual_seed(seed)
    for kind in (FIRST, SECOND):
        made = Judge(["Left", "Red"], 4, kind)
        about = {"attributes": made.attributes, "width": 4, "scores": {}, "weights": checkpoint.weights_hash(folder)}
        checkpoint.write_tensors(folder / kind.file, made.state_dict(), {"judge": json.dumps(about)})


@pytest.fixture
def opened(stage, tmp_path, monkeypatch):
    """opened(**asked): the stage of the album's faces for a model in the folder `opened.model`, which has judges."""
    monkeypatch.setenv("GLOWKIT_CACHE", str(tmp_path / "cache"))
    for module in (stages, study):
        monkeypatch.setattr(module, "open_dataset", lambda name, size: stage.album)

    def opened(**asked):
        return stages.open_stage(opened.model, **{"n": 4, **asked})

    opened.model = tmp_path / "model"
    checkpoint.save(stage.flow, opened.model, "toy")
    study.write_study(opened.model, n=200, held_out=20)
    write_judges(opened.model, seed=0)
    return opened


def test_each_stage_has_a_folder_of_its_own(opened, tmp_path):
    first = opened()
    assert opened().folder == first.folder and opened(each=dict(reversed(stages.EACH.items()))).folder == first.folder
    others = [opened(n=5), opened(each=stages.EACH | {"noise": 5})]
    beside = shutil.copytree(opened.model, tmp_path / "beside")
    assert opened(judges=beside).folder == first.folder  # the same ones
    write_judges(beside, seed=1)
    others.append(opened(judges=beside))
    write_judges(opened.model, seed=2)
    others.append(opened())
    study.write_study(opened.model, n=200, held_out=20, seed=1)  # the same images, with other noise
    others.append(opened())
    assert len({stage.folder for stage in (first, *others)}) == 6


def test_what_was_found_goes_with_the_stage(opened):
    stage = opened(n=None)
    found = projections.projections(stage, "noise")
    assert projections.projections(stage, "noise") is found and projections.projections(stage, "centres") is not found
    other = replace(stage, z={kind: -z for kind, z in stage.z.items()})
    turned = projections.projections(other, "noise")[LATENT, OPPOSITE]
    assert turned == pytest.approx(-found[LATENT, OPPOSITE], abs=1e-6)
    success._sheet(stage), success._right(stage, stage.judges[0])
    latents = weakref.ref(stage.z["noise"])
    del stage
    assert latents() is None and len(found) == 5


@pytest.mark.parametrize("module", [stages, sweep, *measures._MODULES], ids=lambda module: module.__name__)
def test_nothing_that_is_kept_for_good_is_of_a_stage(module):
    for function in vars(module).values():
        if hasattr(function, "cache_clear"):
            assert "Stage" not in get_annotations(function).values()
