"""Training: the loop against a plain one, exact resume after kill -9, the guard, and bad configs."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glowkit import checkpoint, memory, training
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.flow import Glow, GlowConfig
from glowkit.precision import compute_dtype

MODEL = GlowConfig(16, 2, 2, 12, "affine")
SETTINGS = dict(steps=60, batch=16, warmup=5, log_every=10, checkpoint_every=20, held_out=32)


def toy_dataset(size: int = 16, n: int = 300) -> Dataset:
    """Blocks of colour: nothing to look at, but something to learn."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8).repeat(size // 4, 2).repeat(size // 4, 3)
    splits = np.repeat(np.arange(3, dtype=np.uint8), (n - 60, 30, 30))
    labels = (pixels.mean((2, 3)) > 128)[:, :2]
    return Dataset("toy", size, ["Red", "Green"], labels, splits, None, None, lambda i: pixels[i])


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(training, "open_dataset", lambda name, size: toy_dataset(size))


def tensors(folder: Path, file: str) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(folder / file)[0]


def test_a_step_is_plain_adam_on_bits_per_dim():
    torch.manual_seed(0)
    model = Glow(MODEL).double()
    x = toy_dataset().images(range(8))
    model.initialise(x)
    plain = Glow(MODEL).double()
    plain.load_state_dict(model.state_dict())
    settings = training.Settings(warmup=1, steps=100, clip=1e9, batch=8)
    step = training.make_step(model, settings)
    bits = step(x)
    v = plain.dequantise(x, torch.Generator().manual_seed(0))
    expected = -plain.log_prob_of(*plain(v)).mean() / (768 * math.log(2))
    assert abs(bits - expected) < 0.02  # the coupling nets of the step may run in bfloat16
    if compute_dtype(torch.device("cpu")) is None:
        assert abs(bits - expected) < 1e-9
    # One step of Adam moves each parameter with a gradient by the learning rate, whatever the gradient's size.
    moved = [float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), plain.parameters(), strict=True)]
    assert max(moved) == pytest.approx(1e-3, rel=1e-2)


def test_the_average_is_the_exponential_moving_average_and_is_what_is_saved(toy, tmp_path):
    torch.manual_seed(0)
    model = Glow(MODEL)
    x = toy_dataset().images(range(16))
    model.initialise(x)
    trainer = training.make_step(model, training.Settings(steps=20, warmup=1, average=0.9))
    name = "levels.0.steps.0.norm.bias"
    expected = None
    for k in range(20):
        trainer(x)
        now = trainer.parameters[name].detach().clone()
        decay = min(0.9, (1 + k) / (10 + k))
        expected = now if expected is None else decay * expected + (1 - decay) * now
    assert torch.allclose(trainer.average.module.get_parameter(name), expected, atol=1e-6)
    out = training.train(training.Config(MODEL, training.Settings(**SETTINGS)), out=tmp_path / "run")
    state = tensors(out, training.STATE)
    saved = checkpoint.load(out).state_dict()
    assert all(torch.equal(saved[key], state[f"average.module.{key}"]) for key in saved)
    assert not torch.equal(saved[name], state[f"model.{name}"])


def test_it_learns_and_the_log_says_so(toy, tmp_path):
    out = training.train(training.Config(MODEL, training.Settings(**SETTINGS)), out=tmp_path / "run")
    lines = log_of(out)
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    assert lines[-1]["bits_per_dim"] < lines[0]["bits_per_dim"] - 0.5
    held_out = toy_dataset().images(toy_dataset().subset("valid"))
    model = checkpoint.load(out)
    assert lines[-1]["held_out_bits_per_dim"] == pytest.approx(training.held_out_bits(model, held_out), abs=1e-9)


RUN = """
import json, sys
import click
sys.path.insert(0, {tests!r})
import test_training as t
from glowkit import cli, trainer, training
training.open_dataset = lambda name, size: t.toy_dataset(size)

@cli.app.command()
@click.argument("out")
@click.argument("settings")
def toy(out, settings):
    settings = t.SETTINGS | json.loads(settings)
    if settings.pop("exact", False):
        training.compute_dtype = trainer.compute_dtype = lambda device: None
    stop, save = settings.pop("stop", 0), training.Run.save
    def save_and_stop(run):
        save(run)
        if run.trainer.step == stop:
            raise KeyboardInterrupt
    training.Run.save = save_and_stop
    training.train(training.Config(t.MODEL, training.Settings(**settings)), out=out, resume=True)

cli.app(["toy", *sys.argv[1:]])
"""


def start(out: Path, processes: int = 0, **settings) -> subprocess.Popen:
    """Train on the toy data in a process of its own, or with torchrun in several."""
    script = out.parent / "run.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parent)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    command = [sys.executable, *torchrun, str(script), str(out), json.dumps(settings)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / training.LOG).read_text().splitlines()]


def test_kill_minus_nine_at_any_point_and_resume_to_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    kills = 0
    for lines in (1, 3, 5):  # before the first checkpoint, between checkpoints, late
        process = start(killed)
        log = killed / training.LOG
        while process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) >= lines:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
    assert kills >= 2
    assert start(killed).wait() == 0
    for file in (training.STATE, checkpoint.WEIGHTS):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert [line["step"] for line in log_of(whole)] == [line["step"] for line in log_of(killed)]


# In float32: bfloat16 would make more of a sum in another order than the order itself does.
CURVE = dict(exact=True, flip=True, steps=20, log_every=1, checkpoint_every=10)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert start(run, **CURVE).wait() == 0
    return log_of(run)


def check_curve(run: Path, alone: list[dict]) -> None:
    for key, n in (("bits_per_dim", 20), ("held_out_bits_per_dim", 2)):
        one, other = ([line[key] for line in lines if key in line] for lines in (alone, log_of(run)))
        assert len(one) == len(other) == n
        assert other == pytest.approx(one, abs=1e-5)


def test_two_processes_draw_the_curve_of_one(alone, tmp_path):
    process = start(tmp_path / "run", 2, **CURVE)
    assert process.wait() == 0, process.stderr.read()
    check_curve(tmp_path / "run", alone)


def test_a_run_goes_on_with_another_number_of_processes_and_another_memory(alone, tmp_path):
    process = start(tmp_path / "run", 2, **CURVE, memory="invert", stop=10)
    said = [line for line in process.communicate()[1].splitlines() if line.startswith("glowkit: ")]
    assert process.returncode != 0
    assert len(said) == 1 and "stopped at step 10" in said[0]
    process = start(tmp_path / "run", **CURVE, memory="recompute")
    assert process.wait() == 0, process.stderr.read()
    check_curve(tmp_path / "run", alone)


def test_a_batch_has_equal_shares(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(training.distributed, "size", lambda: 3)
    with pytest.raises(GlowkitError, match="batch = 16 cannot be shared equally by 3 processes"):
        training.train(training.Config(MODEL, training.Settings(**SETTINGS)), out=tmp_path / "run")


def test_inverting_is_watched_and_gives_way_to_recomputing(capsys):
    torch.manual_seed(0)
    model, x = Glow(MODEL), toy_dataset().images(range(16))
    model.initialise(x)
    trainer = training.make_step(model, training.Settings(memory="invert", checkpoint_every=2))

    def strategies() -> set:
        return {level.strategy for level in model.levels}

    for step in range(4):
        trainer(x)
        assert strategies() == {memory.invert}
        if step == 2:  # after the check at step 2, so that the next one, at step 4, is the first to see it
            with torch.no_grad():
                model.levels[0].steps[1].conv.log_s[0] = -25.0
    assert capsys.readouterr().out == ""
    trainer(x)
    assert strategies() == {memory.recompute}
    assert "step 4: inverted, the steps of a level are off by" in capsys.readouterr().out


def test_a_decode_after_a_step_is_of_the_new_weights():
    torch.manual_seed(0)
    model, x = Glow(MODEL), toy_dataset().images(range(16))
    model.initialise(x)
    trainer = training.make_step(model, training.Settings(warmup=1, learning_rate=0.01))
    for _ in range(2):
        trainer(x)
        assert torch.allclose(model.decode(model.encode(x)), model.quantise(x), atol=1e-4)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_run_is_initialised_on_the_images_and_the_noise_of_its_seed(seed):
    data, asked = toy_dataset(), []
    torch.manual_seed(0)
    model = Glow(MODEL)
    plain = Glow(MODEL)
    plain.load_state_dict(model.state_dict())
    training.initialise(model, lambda where: asked.append(where) or data.images(where), 240, seed)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(1_000_003 * seed))
    assert torch.equal(asked[0], order)
    plain.initialise(data.images(order), torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_images_that_do_not_fit_in_memory_are_read_as_they_are_needed(monkeypatch):
    data, indices, where = toy_dataset(), toy_dataset().subset("train"), torch.tensor([7, 3, 200])
    held = training.training_images(data, indices, torch.device("cpu"))
    monkeypatch.setattr(training, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(training, "load_images", None)
    read = training.training_images(data, indices, torch.device("cpu"))
    assert torch.equal(read(where), held(where))
    assert torch.equal(read(where), data.images(indices[where]))


def test_the_guard_names_the_layer_and_keeps_the_weights():
    torch.manual_seed(0)
    model = Glow(MODEL)
    x = toy_dataset().images(range(16))
    model.initialise(x)
    trainer = training.make_step(model, training.Settings())
    trainer(x)
    with torch.no_grad():
        model.levels[1].steps[0].conv.log_s[0] = torch.inf
    before = {name: p.clone() for name, p in trainer.parameters.items()}
    with pytest.raises(GlowkitError, match=r"step 1: .* first at levels\.1\.steps\.0"):
        trainer(x)
    assert all(torch.equal(before[name], p) for name, p in trainer.parameters.items())
    assert trainer.step == 1


def test_each_epoch_shows_every_image_once():
    settings = training.Settings(batch=10)
    epochs = [torch.cat([training.batch_indices(10 * e + k, 100, settings) for k in range(10)]) for e in range(2)]
    assert all(sorted(e.tolist()) == list(range(100)) for e in epochs)
    assert not torch.equal(*epochs)


def test_a_run_is_not_overwritten_nor_continued_with_other_settings(toy, tmp_path):
    config = training.Config(MODEL, training.Settings(**{**SETTINGS, "steps": 20}))
    out = training.train(config, out=tmp_path / "run")
    with pytest.raises(GlowkitError, match="--resume"):
        training.train(config, out=out)
    other = training.Config(MODEL, training.Settings(**{**SETTINGS, "decay": 0.5}))
    with pytest.raises(GlowkitError, match="decay = 0.5, but .* was trained with 0.25"):
        training.train(other, out=out, resume=True)
    (out / training.STATE).write_bytes((out / training.STATE).read_bytes()[:100])
    with pytest.raises(GlowkitError, match=r"state\.safetensors: not a whole safetensors file"):
        training.train(config, out=out, resume=True)


# ------------------------------------------------------------------------------------------- what a resume is given


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A run of 20 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "open_dataset", lambda name, size: toy_dataset(size))
        return training.train(config(), out=tmp_path_factory.mktemp("done") / "run")


@pytest.fixture
def run(toy, done, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(done, tmp_path / "run")


def config(**settings) -> training.Config:
    return training.Config(MODEL, training.Settings(**{**SETTINGS, "steps": 20, **settings}))


def change_state(run: Path, change) -> None:
    """Let change(tensors, about) spoil the state of a run, and write it as no code of ours would."""
    state, metadata = checkpoint.read_tensors(run / training.STATE)
    about = json.loads(metadata["run"])
    change(state, about)
    save_file(state, run / training.STATE, {"run": json.dumps(about)})


NORM = "levels.0.steps.0.norm.bias"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t, a: t.update({f"optimiser.{NORM}.exp_avg": torch.zeros(10**6)}),
            r"exp_avg has the shape \(1000000,\)",
        ),
        (lambda t, a: [t.pop(k) for k in list(t) if k.startswith("optimiser")], "exp_avg is missing"),
        (lambda t, a: t[f"optimiser.{NORM}.exp_avg"].fill_(torch.nan), "exp_avg is not finite"),
        (lambda t, a: t[f"optimiser.{NORM}.exp_avg_sq"].fill_(-1), "exp_avg_sq must be nowhere negative"),
        (lambda t, a: t[f"optimiser.{NORM}.step"].fill_(7), "step must be 20"),
        (lambda t, a: t["average.n_averaged"].zero_(), "n_averaged must be 20"),
        (
            lambda t, a: t.update({f"model.{NORM}": t[f"model.{NORM}"].double()}),
            "is of torch.float64, not torch.float32",
        ),
        (lambda t, a: t["model.levels.0.steps.0.conv.permutation"].zero_(), "permutation must be a permutation"),
        (lambda t, a: t["average.module.levels.0.steps.0.conv.sign"].zero_(), r"sign must be \+1 or -1"),
        (lambda t, a: t.update({"model.more": torch.zeros(1)}), "'model.more' is none of its tensors"),
        (lambda t, a: a.update(step="20"), "step = '20': it must be a whole number"),
        (lambda t, a: a.update(step=-1), "step = -1: it must be a whole number"),
        (lambda t, a: a.update(step=15), "must be 15"),
        (lambda t, a: a.pop("config"), "config is missing"),
        (lambda t, a: a["config"]["training"].pop("batch"), "config.training.batch is missing"),
        (lambda t, a: a["config"].update(model=[]), "config.model = .*: it must be a table"),
        (lambda t, a: a.update(data={"name": "toy"}), "data.images is missing"),
    ],
)
def test_a_damaged_state_is_told_in_a_line_and_kept(run, change, says):
    change_state(run, change)
    before = (run / training.STATE).read_bytes()
    with pytest.raises(GlowkitError, match=says) as error:
        training.train(config(steps=25), out=run, resume=True)
    assert str(error.value).startswith(f"{run / training.STATE}: ") and "\n" not in str(error.value)
    assert (run / training.STATE).read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "older", "half"])
def test_what_a_resume_finds_finished_it_completes(run, damage, capsys):
    file = run / checkpoint.WEIGHTS
    before = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        other = Glow(MODEL) if damage == "older" else checkpoint.load(run)
        checkpoint.save(other, run, "toy", half=damage == "half")
        assert file.read_bytes() != before
    training.train(config(), out=run, resume=True)
    assert file.read_bytes() == before
    assert "its 20 steps are done" in capsys.readouterr().out


def test_a_run_that_leaves_the_finite_keeps_its_last_checkpoint_and_goes_on_slower(toy, tmp_path, monkeypatch, capsys):
    step = training.Trainer.__call__

    def spoil(trainer, x):
        bits = step(trainer, x)
        if trainer.step == 40:  # as a step that is much too long does
            with torch.no_grad():
                trainer.parameters[NORM].fill_(torch.inf)
        return bits

    monkeypatch.setattr(training.Trainer, "__call__", spoil)
    with pytest.raises(GlowkitError, match=r"step 40: not finite any more, first at levels\.0\..* --resume"):
        training.train(config(steps=60), out=tmp_path / "run")
    state, metadata = checkpoint.read_tensors(tmp_path / "run" / training.STATE)
    assert json.loads(metadata["run"])["step"] == 20
    assert all(tensor.isfinite().all() for tensor in state.values())
    monkeypatch.setattr(training.Trainer, "__call__", step)
    training.train(config(steps=60, learning_rate=1e-4, clip=0.5), out=tmp_path / "run", resume=True)
    notes = [line for line in log_of(tmp_path / "run") if "note" in line]
    assert notes == [
        {"step": 20, "note": "learning_rate = 0.0001, before 0.001"},
        {"step": 20, "note": "clip = 0.5, before 1.0"},
    ]
    assert all(line["note"] in capsys.readouterr().out for line in notes[:1])
    training.train(config(steps=60, learning_rate=1e-4, clip=0.5), out=tmp_path / "run", resume=True)
    assert len([line for line in log_of(tmp_path / "run") if "note" in line]) == 2


def test_no_state_that_is_not_finite_is_written(run):
    trainer = training.Trainer(Glow(MODEL), training.Settings())
    x = toy_dataset().images(range(4))
    trainer(x)
    trainer.check(x)
    name, parameter = next(iter(trainer.parameters.items()))
    trainer.optimiser.state[parameter]["exp_avg"].fill_(torch.nan)
    with pytest.raises(GlowkitError, match=f"not finite any more, first at optimiser.{name}.exp_avg"):
        trainer.check(x)


def test_fewer_steps_than_are_done_are_refused(run):
    with pytest.raises(GlowkitError, match=r"steps = 15, but .* has done 20"):
        training.train(config(steps=15), out=run, resume=True)


@pytest.mark.parametrize(("done", "steps", "jumps"), [(20, 30, True), (20, 200, True), (16, 30, False), (17, 30, True)])
def test_a_longer_run_is_the_same_run_until_the_rate_falls(done, steps, jumps):
    """Against the rates themselves: of the steps that are done, and as they would have been in the longer run."""
    trainers = [training.make_step(Glow(MODEL), training.Settings(steps=n, warmup=1)) for n in (20, steps)]
    rates = [[], []]
    for trainer, taken in zip(trainers, rates, strict=True):
        for trainer.step in range(done):
            taken.append(trainer.learning_rate())
    assert (rates[0] != rates[1]) == jumps
    assert bool(training._off_schedule(*(trainer.settings for trainer in trainers), done)) == jumps


def test_an_extension_beyond_the_schedule_says_so(run):
    training.train(config(steps=40), out=run, resume=True)
    notes = [line["note"] for line in log_of(run) if "note" in line]
    assert notes[0] == "steps = 40, before 20" and notes[1].startswith("the learning rate jumps: by step 20")


def test_other_images_are_refused_and_moved_ones_are_not(run, monkeypatch):
    data = toy_dataset()
    for other in (toy_dataset(n=290), replace(data, _pixels=lambda i: data._pixels(i) // 2)):
        monkeypatch.setattr(training, "open_dataset", lambda name, size, other=other: other)
        with pytest.raises(GlowkitError, match="training images are not the 240 of toy that .* was trained on"):
            training.train(config(steps=25), out=run, resume=True)
    monkeypatch.setattr(training, "open_dataset", lambda name, size: replace(data, name="elsewhere"))
    training.train(config(steps=20), "elsewhere", out=run, resume=True)
    assert not [line for line in log_of(run) if "note" in line]


def test_another_machine_is_told(run):
    change_state(run, lambda t, a: a["machine"].update(threads=7))
    training.train(config(), out=run, resume=True)
    (note,) = [line["note"] for line in log_of(run) if "note" in line]
    assert note.startswith("threads = 1, before 7: weights may differ in their last bits")


def test_a_state_without_data_and_machine_goes_on_and_says_so(run):
    change_state(run, lambda t, a: [a.pop("data"), a.pop("machine")])
    training.train(config(), out=run, resume=True)
    (note,) = [line["note"] for line in log_of(run) if "note" in line]
    assert "which they were before, the state does not say" in note


@pytest.mark.parametrize("line", [b'{"step": 1', b"7", b"\xff", b'{"step": "x"}', b"[" * 100_000])
def test_a_broken_line_of_the_log_is_dropped_alone(run, line):
    before = log_of(run)
    first, *others = (run / training.LOG).read_bytes().splitlines()
    (run / training.LOG).write_bytes(b"\n".join([first, line, *others]) + b"\n")
    training.train(config(), out=run, resume=True)
    assert log_of(run) == before


def test_two_runs_do_not_share_a_folder(run):
    with alone_in(run), pytest.raises(GlowkitError, match=f"in use by process {os.getpid()} on "):
        training.train(config(steps=40), out=run, resume=True)
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "state.safetensors",
    ]


def test_a_full_disk_names_the_log(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training.json, "dumps", full)
    with pytest.raises(OSError, match="No space left") as caught:
        training._log(run / training.LOG, {})
    assert caught.value.filename == str(run / training.LOG)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[model\n", "not a TOML file"),
        ("[modle]\nlevels = 2", "modle: no such setting; there are data, model, training"),
        ("[model]\nlevles = 2", "levles: no such setting; there are image_size, levels"),
        ("[model]\nlevels = 'two'", "a whole number from 1 to 8"),
        ("[training]\nbatch = 0", "a whole number from 1 to 65536"),
        ("[training]\nmemory = 'little'", "must be one of store, recompute, invert"),
        ("[training]\nlearning_rate = true", "must be a number from"),
        ("[model]\nwidth = 1000000000", "width = 1000000000: it must be a whole number from 1 to 4096"),
        ("[model]\nlevels = 1000000000000", "from 1 to 8"),
        ("[training]\nsteps = 1000000000", "from 1 to 16777216"),
        ("[training]\nsteps = " + "9" * 5000, "not a TOML file"),
        ("[training]\nseed = 99999999999999999999", "from 0 to 4294967295"),
        ("[training]\nlearning_rate = inf", "must be a number from"),
        ("[training]\nclip = nan", "must be a number from"),
        ("model = 3", "model = 3: it must be a table"),
        ("data = 3", "data = 3: it must be text"),
        ("[training]\nlog_every = 30\ncheckpoint_every = 100", "multiple of log_every"),
    ],
)
def test_a_bad_config_names_file_and_setting(tmp_path, text, says):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(GlowkitError, match=says) as error:
        training.read_config(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_committed_configs_are_valid():
    configs = sorted(Path(__file__).parents[1].glob("configs/*.toml"))
    assert configs
    for path in configs:
        training.read_config(path)


def test_the_config_of_the_thesis_is_of_its_model():
    config = training.read_config(Path(__file__).parents[1] / "configs" / "celeba256.toml")
    assert config.model == GlowConfig(256, levels=6, steps=32, width=512, coupling="additive", bits=5)
    assert config.training.flip and config.training.learning_rate == 1e-3


def test_lines_of_the_log_that_are_none_go_and_the_good_ones_after_them_stay(tmp_path):
    log = tmp_path / training.LOG
    good = [json.dumps({"step": step}).encode() for step in (10, 20, 30)]
    log.write_bytes(
        b"\n".join([good[0], b"{half", b"\xef\xbb\xbf" + good[1], good[1], "{}".encode("utf-16"), b"[]", good[2]])
    )
    training._truncate_log(log, 20)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20]
