"""Plans are read or refused in one line; runs are made once, from wherever they stopped, the same each time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glowkit import checkpoint, training
from glowkit.errors import GlowkitError
from glowkit.measures.stage import open_stage
from glowkit.replications import examples, results, run
from glowkit.replications import plan as plans

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def tiny():
    return plans.read_plan(HERE / "tiny.toml")


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """The folders of results and of runs after the whole plan was made."""
    out, runs = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("runs")
    files = run.replicate(tiny, out, jobs=2, runs=runs)
    assert [file.stem for file in files] == ["tiny-seed1", "twisted-seed1", "flat-seed0", "attention-seed1"]
    return out, runs


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_a_committed_result_is_found_again(made):
    committed, again = results.read(HERE / "tiny-seed1.json"), results.read(made[0] / "tiny-seed1.json")
    assert again.bits_per_dim.estimate == pytest.approx(committed.bits_per_dim.estimate, rel=1e-3)
    assert again.auc.estimate == pytest.approx(committed.auc.estimate, abs=2e-3)
    for id, row in committed.rows.items():  # on another processor the last digits differ, and training amplifies them
        assert again.rows[id].estimate.estimate == pytest.approx(row.estimate.estimate, rel=0.02, abs=2e-3)
    assert (again.model, again.training, again.images) == (committed.model, committed.training, committed.images)


def test_a_second_time_gives_the_same_numbers_bit_for_bit(tiny, made, tmp_path):
    run.one(tiny, tiny.runs[0], tmp_path / "runs", tmp_path / "tiny-seed1.json")
    assert results.read(tmp_path / "tiny-seed1.json").numbers == results.read(made[0] / "tiny-seed1.json").numbers


def test_twisted_latents_stay_twisted_and_their_likelihood_is_that_of_the_start(made):
    """Trained on, it takes the very steps of the model that it began with: the twist has no gradient."""
    out, runs = made
    start, twisted = (checkpoint.load(runs / name) for name in ("twisted-seed1-start", "twisted-seed1"))
    assert twisted.config.twist == 3.0
    assert any(not np.array_equal(a, b) for a, b in zip(start.parameters(), twisted.parameters(), strict=True))
    assert results.read(out / "twisted-seed1.json").bits_per_dim < results.read(out / "tiny-seed1.json").bits_per_dim


def test_what_is_done_is_not_done_again(tiny, made, monkeypatch):
    out, runs = made
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    run.replicate(tiny, out, runs=runs)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    # A new row is measured on the model that is there, and the old ones are left.
    monkeypatch.setattr(training, "train", None)
    more = replace(tiny, rows=[*tiny.rows, "C21"])
    old = results.read(out / "flat-seed0.json")
    found = run.one(more, tiny.runs[2], runs, out / "flat-seed0.json")
    assert "C21" in found.rows and found.rows["C08"] == old.rows["C08"]


def test_a_stopped_run_goes_on(tiny, made, tmp_path):
    wanted, runs, save = tiny.runs[0], tmp_path / "runs", training.Run.save
    config = training.Config(wanted.shape, wanted.settings, wanted.data, tiny.path)

    def save_and_stop(self):
        save(self)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(GlowkitError, match="stopped at step 10"):
        patch.setattr(training.Run, "save", save_and_stop)
        training.train(config, out=runs / wanted.name, resume=True, device="cpu", n=wanted.images)
    log = [json.loads(line) for line in (runs / wanted.name / training.LOG).read_text().splitlines()]
    run.one(tiny, wanted, runs, tmp_path / "tiny-seed1.json")
    found = results.read(tmp_path / "tiny-seed1.json")
    assert found.numbers == results.read(made[0] / "tiny-seed1.json").numbers
    assert found.seconds["training"] > sum(line["seconds"] for line in log) > 0


def test_a_run_that_stopped_before_it_was_measured_keeps_its_seconds(tiny, tmp_path):
    wanted, runs, file = tiny.runs[0], tmp_path / "runs", tmp_path / "tiny-seed1.json"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "open_stage", raising(KeyboardInterrupt))
        run.one(tiny, wanted, runs, file)
    kept = json.loads((runs / wanted.name / run.SECONDS).read_text())
    found = run.one(tiny, wanted, runs, file).seconds
    assert kept == {key: found[key] for key in ("training", "study")} and min(found.values()) > 0


def test_every_result_says_what_it_is_of(made):
    found = results.open_replications(made[0])
    assert [(result.cell, result.seed, result.kind) for result in found] == [
        ("attention", 1, "autoregressive"), ("flat", 0, "linear"), ("tiny", 1, "glow"), ("twisted", 1, "ablation"),
    ]  # fmt: skip
    for result in found:
        assert result.rows["C08"].estimate.n == result.auc.n < 100  # people, of 100 faces
        assert result.images == 200 and set(result.seconds) == {"training", "study", "measuring"}


def test_the_strip_shows_faces_edits_and_the_truth(tiny, made):
    out, runs = made
    rows = examples.read(out / "flat-seed0.webp", 32)
    stage = open_stage(runs / "flat-seed0", "faces32", tiny.faces, tiny.judges, tiny.each)
    for attribute in examples.ATTRIBUTES:  # a linear flow's edits are sums of pixels
        added = rows["face"] / 255 + stage.study.pixel_direction(attribute).reshape(3, 32, 32).transpose(1, 2, 0)
        assert np.abs(rows[f"{attribute}, added"] / 255 - added.clip(0, 1)).mean() < 0.02
        truth = rows[f"{attribute}, drawn"]
        assert truth.shape == (examples.FACES, 32, 32, 3)
        assert 0.002 < np.abs(truth / 255 - rows["face"] / 255).mean() < 0.1


def test_the_bundled_plan_is_read():
    plan = plans.read_plan(ROOT / "configs" / "replications.toml")
    assert len({run.name for run in plan.runs}) == len(plan.runs)
    cells = {run.cell: run for run in plan.runs}
    assert cells["affine-capped"].shape.parameters == cells["shuffled"].shape.parameters
    assert cells["images-2000"].images == 2000
    attention = cells["attention"].shape  # of the plan's [model] it knows some, and has its own width
    assert (attention.image_size, attention.bits, attention.width) == (32, 5, 80)
    assert attention.parameters == pytest.approx(cells["affine-capped"].shape.parameters, rel=0.1)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('data = "faces32"', "", "data is missing"),
        ('"C07"', '"C99"', "rows: 'C99' is none of"),
        ("seeds = [1]", "seeds = []", "seeds = .*must be a list of whole numbers"),
        ("width = 8", "depth = 8", "depth: no such setting"),
        ('start = "tiny"', 'start = "none"', "starts from none-seed1, which is no run"),
        ('name = "twisted"', 'name = "tiny"', "two runs have the name tiny-seed1"),
        ("steps = 20", "steps = 0", "steps = 0: it must be a whole number"),
        ("[model]", "[model", "not a TOML file"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line(tmp_path, old, new, line):
    text = (HERE / "tiny.toml").read_text()
    assert old in text
    file = tmp_path / "plan.toml"
    file.write_text(text.replace(old, new))
    with pytest.raises(GlowkitError, match=line) as error:
        plans.read_plan(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_an_unknown_cell_is_refused(tiny, tmp_path):
    with pytest.raises(GlowkitError, match="no cell or run 'none'; there are tiny, twisted, flat, attention"):
        run.replicate(tiny, tmp_path, only="none")


def test_a_damaged_result_is_refused(tmp_path):
    text = (HERE / "tiny-seed1.json").read_text()
    for damaged in (text[:-10], text.replace('"seed": 1', '"seed": -1', 1), text.replace('"auc"', '"aux"', 1), "[]"):
        file = tmp_path / "tiny-seed1.json"
        file.write_text(damaged)
        with pytest.raises(GlowkitError, match="not the result of a run"):
            results.open_replications(tmp_path)
    with pytest.raises(GlowkitError, match="no results there yet"):
        results.open_replications(tmp_path / "empty")
