"""Plans are read or refused in one line; runs are made once, from wherever they stopped, the same each time."""

import json
import multiprocessing
import shutil
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from glowkit import bundled, checkpoint, study, training
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.measured import Found
from glowkit.measures.stage import open_stage
from glowkit.replications import examples, processes, recipe, results, run
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
    names = ["tiny-seed1", "twisted-seed1", "trained-on-seed1", "flat-seed0", "attention-seed1"]
    assert [file.stem for file in files] == names
    return out, runs


@pytest.fixture
def copied(made, tmp_path):
    """The same, to be changed."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in made]


def named(plan, name):
    return next(run for run in plan.runs if run.name == name)


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
    x = open_dataset("faces32").images(range(20))
    bits = checkpoint.load(runs / "tiny-seed1").bits_per_dim(x).numpy()
    np.testing.assert_allclose(start.bits_per_dim(x).numpy(), bits, atol=1e-4)
    tiny, twisted, trained_on = (
        results.read(out / f"{name}-seed1.json").bits_per_dim for name in ("tiny", "twisted", "trained-on")
    )
    assert twisted < tiny
    assert twisted.estimate == pytest.approx(trained_on.estimate, abs=1e-4)


def test_what_is_done_is_not_done_again(tiny, copied, monkeypatch):
    out, runs = copied
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    run.replicate(tiny, out, runs=runs)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    # A new row is measured on the model that is there, and the old ones are left.
    monkeypatch.setattr(run, "_train", raising(AssertionError))
    for id in tiny.rows:
        monkeypatch.setitem(run.ROWS, id, raising(AssertionError))
    more = replace(tiny, rows=[*tiny.rows, "C21"])
    old = results.read(out / "flat-seed0.json")
    found = run.one(more, named(tiny, "flat-seed0"), runs, out / "flat-seed0.json")
    assert "C21" in found.rows and found.rows["C08"] == old.rows["C08"]
    assert found.seconds["training"] == old.seconds["training"]
    assert found.seconds["measuring"] > old.seconds["measuring"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda plan, wanted: (plan, replace(wanted, settings=replace(wanted.settings, steps=40))),
         r"training.steps = 20, and the plan has 40"),
        (lambda plan, wanted: (plan, replace(wanted, shape=replace(wanted.shape, twist=1.0))),
         r"model.twist = 3.0, and the plan has 1.0"),
        (lambda plan, wanted: (plan, replace(wanted, images=100)), "images = 200, and the plan has 100"),
        (lambda plan, wanted: (plan, replace(wanted, start=None)), "start.name = tiny-seed1, and the plan has None"),
        (lambda plan, wanted: (replace(plan, study=100), wanted), "study = 200, and the plan has 100"),
        (lambda plan, wanted: (replace(plan, runs=[replace(each, images=50) for each in plan.runs]), wanted),
         "start.images = 200, and the plan has 50"),
    ],
)  # fmt: skip
def test_the_model_of_another_plan_is_not_taken_for_this_ones(tiny, made, tmp_path, change, line):
    plan, wanted = change(tiny, named(tiny, "twisted-seed1"))
    with pytest.raises(GlowkitError, match=f"twisted-seed1: a model made with {line} now; remove it, or"):
        run.one(plan, wanted, made[1], tmp_path / "twisted-seed1.json")
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_say_what_it_is_made_of_is_not_taken(tiny, copied, tmp_path):
    made_of = copied[1] / "flat-seed0" / recipe.MADE
    for damage, line in ((lambda: made_of.write_text("{"), "remove the folder"), (made_of.unlink, "a model without")):
        damage()
        with pytest.raises(GlowkitError, match=line):
            run.one(tiny, named(tiny, "flat-seed0"), copied[1], tmp_path / "flat-seed0.json")


def test_a_result_of_another_plan_is_refused_and_left(tiny, made):
    out, runs = made
    slower = [replace(each, settings=replace(each.settings, learning_rate=1e-4)) for each in tiny.runs]
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    line = r"failed runs: 5, the first: .*tiny-seed1.json: of a model made with training.learning_rate = 0.001, and the"
    with pytest.raises(GlowkitError, match=line):
        run.replicate(replace(tiny, runs=slower), out, runs=runs)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_rows_of_a_model_that_was_made_on_another_machine_are_measured_anew(tiny, copied):
    out, runs = copied
    file = out / "flat-seed0.json"
    here = results.read(file)
    there = here.bits_per_dim._replace(estimate=here.bits_per_dim.estimate + 1e-6)
    results.write(replace(here, bits_per_dim=there, rows=dict.fromkeys(here.rows)), file)
    assert run.one(tiny, named(tiny, "flat-seed0"), runs, file).numbers == here.numbers


def test_a_start_that_is_half_trained_is_none(tiny, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(GlowkitError, match="stopped at step 10"):
        stopping(patch)
        run.one(tiny, tiny.runs[0], tmp_path, tmp_path / "tiny-seed1.json")
    assert checkpoint.load(tmp_path / "tiny-seed1")
    with pytest.raises(GlowkitError, match="it starts from tiny-seed1, which is not made yet in"):
        run.one(tiny, named(tiny, "trained-on-seed1"), tmp_path, tmp_path / "trained-on-seed1.json")


def test_a_start_of_another_shape_is_refused_in_one_line(tiny, made, tmp_path):
    shutil.copytree(made[1] / "tiny-seed1", tmp_path / "tiny-seed1")
    wanted = named(tiny, "trained-on-seed1")
    for shape in (replace(wanted.shape, width=16), replace(wanted.shape, levels=1)):
        with pytest.raises(GlowkitError, match="starts from tiny-seed1, which has another shape: "):
            wide = replace(wanted, cell=f"of-{shape.parameters}", shape=shape)
            run.one(tiny, wide, tmp_path, tmp_path / "wide.json")


def test_a_start_whose_model_is_gone_is_made_again_and_its_result_is_left(tiny, copied, tmp_path):
    out, again = copied[0], tmp_path / "again"
    before = (out / "tiny-seed1.json").stat().st_mtime_ns
    wanted = results.read(out / "trained-on-seed1.json").numbers
    (out / "trained-on-seed1.json").unlink()
    run.replicate(tiny, out, runs=again, only="trained-on")
    assert results.read(out / "trained-on-seed1.json").numbers == wanted
    assert (out / "tiny-seed1.json").stat().st_mtime_ns == before
    assert sorted(folder.name for folder in again.iterdir()) == [
        "tiny-seed1",
        "trained-on-seed1",
        "trained-on-seed1-start",
    ]


def stopping(patch):
    """Ctrl-C at the first checkpoint."""
    save = training.Run.save

    def save_and_stop(self):
        save(self)
        raise KeyboardInterrupt

    patch.setattr(training.Run, "save", save_and_stop)


def test_a_stopped_run_goes_on(tiny, made, tmp_path):
    wanted, runs = tiny.runs[0], tmp_path / "runs"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(GlowkitError, match="stopped at step 10"):
        stopping(patch)
        run.one(tiny, wanted, runs, tmp_path / "tiny-seed1.json")
    path = runs / wanted.name / training.LOG
    log = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_bytes(path.read_bytes() + b'{"step": 20, "sec')  # as a kill leaves it
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


def test_a_run_that_was_killed_right_after_its_study_keeps_its_seconds(tiny, tmp_path):
    wanted, runs, file, write = tiny.runs[0], tmp_path / "runs", tmp_path / "tiny-seed1.json", study.write_study

    def write_and_stop(*args, **options):
        write(*args, **options)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(study, "write_study", write_and_stop)
        run.one(tiny, wanted, runs, file)
    assert set(run.one(tiny, wanted, runs, file).seconds) == {"training", "study", "measuring"}


def test_what_goes_wrong_in_one_run_is_told_in_a_line(tiny, tmp_path, monkeypatch):
    task = (tiny.runs[0], tmp_path / "tiny-seed1.json")
    for error, line in (
        (RuntimeError("size mismatch:\n\tfor weight"), r"RuntimeError('size mismatch:\n\tfor weight')"),
        (OSError(28, "No space left"), "OSError(28, 'No space left')"),
        (GlowkitError("tiny: no such data"), "tiny: no such data"),
    ):
        monkeypatch.setattr(run, "make", raising(error))
        assert run._attempt(tiny, tmp_path, task) == (f"tiny-seed1: {line}", False)


def test_a_number_that_is_none_is_named_before_it_is_written(tiny, made, tmp_path, monkeypatch):
    half, none = Estimate(0.5, (0.4, 0.6), 10), Estimate(float("nan"), (0.0, 1.0), 10)
    wanted, file = named(tiny, "flat-seed0"), tmp_path / "flat-seed0.json"
    for found, where in (
        (Found(half, "a control", second=none), "C08.second"),
        (Found(half, "a control", centres=none), "C08.centres"),
    ):
        monkeypatch.setitem(run.ROWS, "C08", lambda stage, found=found: found)
        with pytest.raises(GlowkitError, match=rf"{where} = \[nan, 0.0, 1.0, 10\]: want"):
            run.one(replace(tiny, rows=["C08"]), wanted, made[1], file)
    for name, where in (("mean_auc", "auc"), ("bits_per_dim", "bits_per_dim")):
        monkeypatch.setattr(run, name, lambda stage: none)
        with pytest.raises(GlowkitError, match=f"^{where} = "):
            run.one(tiny, wanted, made[1], file)
    assert not file.exists()


def test_what_cannot_be_decided_or_shown_is_told_and_left_out(tiny, made, tmp_path, monkeypatch):
    monkeypatch.setitem(run.ROWS, "C08", raising(GlowkitError("too few attributes")))
    monkeypatch.setattr(examples, "write", raising(GlowkitError("2 faces")))
    file, told = tmp_path / "flat-seed0.json", []
    run.one(replace(tiny, rows=["C08", "C09"]), named(tiny, "flat-seed0"), made[1], file, told.append)
    found = results.read(file).rows
    assert found["C08"] is None and found["C09"] is not None
    assert told == ["C08 is left out: too few attributes", "no strip of edits: 2 faces"]


def test_a_strip_that_lacks_faces_or_an_attribute_is_not_written(tiny, made, tmp_path):
    stage = open_stage(made[1] / "flat-seed0", "faces32", 5, tiny.judges, tiny.each)
    plain = [name for name in stage.attributes if name != "Eyeglasses"]
    for lacking, line in ((stage, r"\d faces without Smiling and Eyeglasses, of the 6"),
                          (replace(stage, attributes=plain), "Eyeglasses is unknown")):  # fmt: skip
        with pytest.raises(GlowkitError, match=line):
            examples.write(lacking, tmp_path / "strip.webp")
    assert not list(tmp_path.iterdir())


def test_without_git_or_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert run._commit() == "unknown"
    monkeypatch.setattr(bundled, "root", lambda: ROOT / "glowkit")  # within a repository, as a .venv may be
    assert run._commit() == "unknown"


def test_a_process_that_is_killed_takes_no_other_with_it():
    items = ["1 + 1", "__import__('os').kill(__import__('os').getpid(), 9)", "2 + 2"]
    assert dict(processes.each(eval, items, jobs=2)) == dict(zip(items, (2, None, 4), strict=True))


def test_processes_end_with_the_loop_over_them():
    with closing(processes.each(time.sleep, [600, 0], jobs=2)) as answers:
        assert next(answers) == (0, None)
    assert not multiprocessing.active_children()


def test_a_run_whose_process_was_killed_is_told_and_the_others_go_on(tiny, tmp_path, monkeypatch):
    asked = []

    def each(attempt, wave, jobs):
        asked.extend(task[0].name for task in wave)
        return [(task, None if task[0].cell == "tiny" else ("well", True)) for task in wave]

    monkeypatch.setattr(run, "each", each)
    line = "failed runs: 1, the first: tiny-seed1: its process was ended from outside, .* give fewer --jobs"
    with pytest.raises(GlowkitError, match=line):
        run.replicate(tiny, tmp_path / "out", runs=tmp_path / "runs")
    assert sorted(asked) == sorted(each.name for each in tiny.runs)


def test_a_damaged_result_stops_no_other_run(tiny, copied):
    out, runs = copied
    (out / "tiny-seed1.json").write_text("{")
    (out / "flat-seed0.json").unlink()
    with pytest.raises(
        GlowkitError, match="failed runs: 1, the first: tiny-seed1: .*remove it, and `glowkit replicate`"
    ):
        run.replicate(tiny, out, runs=runs)
    assert (out / "flat-seed0.json").exists() and (out / "tiny-seed1.json").read_text() == "{"


def test_every_result_says_what_it_is_of(made):
    found = results.open_replications(made[0])
    assert [(result.cell, result.seed, result.kind) for result in found] == [
        ("attention", 1, "autoregressive"), ("flat", 0, "linear"), ("tiny", 1, "glow"), ("trained-on", 1, "glow"),
        ("twisted", 1, "ablation"),
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


COMMITTED = sorted(results.FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_a_committed_result_is_that_of_the_bundled_plan(file):
    plan = plans.read_plan(ROOT / "configs" / "replications.toml")
    wanted, found = named(plan, file.stem), results.read(file)
    kind = checkpoint.KINDS[found.kind]
    shape = kind.config(**found.model)  # what it does not say yet was as it is unless said
    if found.kind == "linear":  # its images choose it
        shape = replace(shape, rank=wanted.shape.rank)
    assert (found.cell, found.seed, shape) == (wanted.cell, wanted.seed, wanted.shape)
    assert found.training == asdict(wanted.settings)
    assert (found.data, found.images) == (wanted.data, min(wanted.images, 50_000))
    # As `replicate` sees it, it is done.
    assert recipe.found_before(wanted, file).rows.keys() >= set(plan.rows)


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
        ('name = "flat"', 'name = "a/b"', r"cells\[3\].name = 'a/b': it must be letters, digits"),
        ('kind = "linear"', 'kind = "linear"\nstart = "tiny"', "start = 'tiny': a linear flow starts from nothing"),
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


def test_a_plan_without_cells_is_refused(tmp_path):
    file, text = tmp_path / "plan.toml", (HERE / "tiny.toml").read_text()
    file.write_text("cells = []\n" + text[: text.index("[[cells]]")])
    with pytest.raises(GlowkitError, match=r"plan.toml: cells = \[\]: want one at least"):
        plans.read_plan(file)


def test_an_unknown_cell_is_refused(tiny, tmp_path):
    with pytest.raises(
        GlowkitError, match="no cell or run 'none'; there are tiny, twisted, trained-on, flat, attention"
    ):
        run.replicate(tiny, tmp_path, only="none")


def test_a_damaged_result_is_refused(tmp_path):
    text = (HERE / "tiny-seed1.json").read_text()
    for damaged in (text[:-10], text.replace('"seed": 1', '"seed": -1', 1), text.replace('"auc"', '"aux"', 1), "[]"):
        file = tmp_path / "tiny-seed1.json"
        file.write_text(damaged)
        with pytest.raises(GlowkitError, match="not the result of a run"):
            results.open_replications(tmp_path)
    for part, value, line in (("auc", [1], r"auc = \[1\]: want"), ("rows", {"C08": {}}, "C08.estimate is missing"),
                              ("rows", {"C08": False}, "C08 must be a table")):  # fmt: skip
        file.write_text(json.dumps(json.loads(text) | {part: value}))
        with pytest.raises(GlowkitError, match=f"not the result of a run .{line}.*; remove it, and"):
            results.open_replications(tmp_path)
    with pytest.raises(GlowkitError, match="no results there yet"):
        results.open_replications(tmp_path / "empty")
