"""Training: the loop against a plain one, exact resume after kill -9, the guard, and bad configs."""

import copy
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

from glowkit import checkpoint, faces, memory, training
from glowkit import trainer as trainer_module
from glowkit.ablations import AblationConfig
from glowkit.dataset import Dataset, open_dataset
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
    assert torch.allclose(trainer.average.get_parameter(name), expected, atol=1e-6)
    out = training.train(training.Config(MODEL, training.Settings(**SETTINGS)), out=tmp_path / "run")
    state = tensors(out, training.STATE)
    saved = checkpoint.load(out).state_dict()
    assert all(torch.equal(saved[key], state[f"average.{key}"]) for key in saved)
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
        (lambda t, a: [t.pop(k) for k in list(t) if k.startswith("optimiser")], r"bias\.step is missing"),
        (lambda t, a: t[f"optimiser.{NORM}.exp_avg"].fill_(torch.nan), "exp_avg is not finite"),
        (lambda t, a: t[f"optimiser.{NORM}.exp_avg_sq"].fill_(-1), "exp_avg_sq must be nowhere negative"),
        (lambda t, a: t[f"optimiser.{NORM}.step"].fill_(7), "step must be 20"),
        (
            lambda t, a: t.update({f"model.{NORM}": t[f"model.{NORM}"].double()}),
            "is of torch.float64, not torch.float32",
        ),
        (lambda t, a: t["model.levels.0.steps.0.conv.permutation"].zero_(), "permutation must be a permutation"),
        (lambda t, a: t["average.levels.0.steps.0.conv.sign"].zero_(), r"sign must be \+1 or -1"),
        (lambda t, a: t.update({"model.more": torch.zeros(1)}), "'model.more' is none of its tensors"),
        (lambda t, a: a.update(step="20"), "step = '20': it must be a whole number"),
        (lambda t, a: a.update(step=-1), "step = -1: it must be a whole number"),
        (lambda t, a: a.update(step=15), "must be 15"),
        (lambda t, a: a.pop("config"), "config is missing"),
        (lambda t, a: a["config"]["training"].pop("batch"), "config.training.batch is missing"),
        (lambda t, a: a["config"].update(model=[]), "config.model = .*: it must be a table"),
        (lambda t, a: a.update(data={"name": "toy"}), "data.images is missing"),
        (lambda t, a: a.pop("machine"), "machine is missing"),
        (lambda t, a: a["guard"].update(slowed=2), r"guard\.slowed = 2: it must be a number"),
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
    rewinds, notes = notes[: training.MOST_REWINDS], notes[training.MOST_REWINDS :]
    assert all(line["step"] == 20 and "back to step 20" in line["note"] for line in rewinds)
    assert rewinds[2]["note"].endswith("and on at 0.125 times the learning rate")
    assert notes == [
        {"step": 20, "note": "learning_rate = 0.0001, before 0.001"},
        {"step": 20, "note": "clip = 0.5, before 1.0"},
    ]
    assert all(line["note"] in capsys.readouterr().out for line in notes[:1])
    before = log_of(tmp_path / "run")
    training.train(config(steps=60, learning_rate=1e-4, clip=0.5), out=tmp_path / "run", resume=True)
    assert log_of(tmp_path / "run") == before


RATE = 0.4  # at which the loss of the toy jumps


def test_a_rate_that_diverges_is_halved_until_it_does_not(toy, tmp_path, monkeypatch):
    wild = dict(learning_rate=RATE, warmup=5, clip=1e9)
    with monkeypatch.context() as without_guard, pytest.raises(GlowkitError, match="--resume"):
        without_guard.setattr(training, "MOST_REWINDS", 0)
        training.train(config(**wild, steps=60), out=tmp_path / "stopped")
    out = training.train(config(**wild, steps=60), out=tmp_path / "run")
    log = log_of(out)
    notes = [line["note"] for line in log if "note" in line]
    assert 1 <= len(notes) <= 5
    assert notes[0].startswith("step ") and notes[0].endswith("on at 0.5 times the learning rate")
    held_out = [line["held_out_bits_per_dim"] for line in log if "held_out_bits_per_dim" in line]
    assert len(held_out) == 3 and held_out[-1] == min(held_out) < 5
    state, metadata = checkpoint.read_tensors(out / training.STATE)
    about = json.loads(metadata["run"])
    assert about["guard"]["slowed"] == 0.5 ** len(notes)
    assert about["guard"]["lowest"] == min(line["bits_per_dim"] for line in log if "bits_per_dim" in line)


def test_after_a_rewind_a_kill_and_a_resume_the_weights_are_the_same(toy, tmp_path, monkeypatch):
    wild = config(learning_rate=RATE, warmup=5, clip=1e9, steps=60)
    whole = training.train(wild, out=tmp_path / "whole")
    save = training.Run.save

    def save_and_stop(run):
        save(run)
        if run.trainer.step == 40:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(GlowkitError, match="stopped at step 40"):
        patch.setattr(training.Run, "save", save_and_stop)
        training.train(wild, out=tmp_path / "killed")
    killed = training.train(wild, out=tmp_path / "killed", resume=True)
    for file in (training.STATE, checkpoint.WEIGHTS):
        assert (whole / file).read_bytes() == (killed / file).read_bytes()


def test_an_invertible_convolution_takes_smaller_steps_the_more_channels_it_has():
    torch.manual_seed(0)
    model, x = Glow(MODEL), toy_dataset().images(range(16))
    model.initialise(x)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.make_step(model, training.Settings(warmup=1, steps=100, clip=1e9))(x)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}
    for level, channels in enumerate((12, 24)):  # the first step of Adam is as long as the rate, for every entry
        of_step = f"levels.{level}.steps.0"
        assert moved[f"{of_step}.conv.lu"] == pytest.approx(1e-3 / math.sqrt(channels), rel=1e-2)
        assert moved[f"{of_step}.conv.log_s"] == pytest.approx(1e-3, rel=1e-2)
        assert moved[f"{of_step}.coupling.net.conv3.weight"] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("share", ["the rate as it is", "a share of it"])
def test_a_deep_flow_learns_at_a_rate_at_which_its_convolutions_would_explode(share, monkeypatch):
    """Without a guard, and with the shares of the rate, or with none."""
    if share == "the rate as it is":
        monkeypatch.setattr(trainer_module, "rate_share", lambda module: 1.0)
    x = faces.render(faces.factors(np.arange(224), seed=0), 32)
    x = torch.nn.functional.avg_pool2d(x.float(), 2).to(torch.uint8)
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 3, 16, 12, "additive", activation="capped"))
    model.initialise(x, torch.Generator().manual_seed(0))
    trainer = training.make_step(model, training.Settings(steps=10_000, warmup=10, learning_rate=0.01))
    bits = [float(trainer(x[start : start + 16])) for start in (*range(0, 224, 16), *range(0, 224, 16))]
    assert bits[0] < 4
    if share == "the rate as it is":
        assert max(bits) > 50
    else:
        assert max(bits) < 10 and np.mean(bits[-5:]) < bits[0]


# ------------------------------------------------------------------------------------------------- graphs


def test_a_frozen_step_changes_nothing_but_says_how_good_the_model_is():
    """Such steps warm up a capture."""
    torch.manual_seed(0)
    model, x = Glow(MODEL), toy_dataset().images(range(16))
    model.initialise(x)
    trainer = training.make_step(model, training.Settings(warmup=1))
    trainer(x)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    trainer.frozen.fill_(True)
    bits = trainer._run(x)
    trainer.frozen.fill_(False)
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.tensors().items())
    assert int(trainer.taken) == 1
    assert torch.equal(bits, trainer(x))
    assert not torch.equal(before[f"model.{NORM}"], trainer.tensors()[f"model.{NORM}"])


class Replay:
    """In the place of a CUDA graph: replayed, it takes its step again, on what is in its tensors now."""

    def __init__(self, trainer: training.Trainer) -> None:
        self.trainer = trainer

    def replay(self) -> None:
        self.trainer.bits.copy_(self.trainer._update())


def replayed(x: torch.Tensor, settings: training.Settings) -> training.Trainer:
    torch.manual_seed(0)
    model = Glow(MODEL)
    model.initialise(x)
    trainer = training.make_step(model, settings)
    trainer.v, trainer.bits = torch.zeros(x.shape), torch.zeros(())
    trainer.graph = Replay(trainer)
    return trainer


def test_a_replayed_run_is_the_run_itself():
    x, settings = toy_dataset().images(range(64)), training.Settings(warmup=5, log_every=3, flip=True)
    torch.manual_seed(0)
    model = Glow(MODEL)
    model.initialise(x[:16])
    one, other = training.make_step(model, settings), replayed(x[:16], settings)
    for step in range(4):
        batch = x[16 * step : 16 * step + 16]
        assert torch.equal(one(batch), other(batch))
    other.check(x[:16])
    assert all(torch.equal(a, b) for a, b in zip(one.tensors().values(), other.tensors().values(), strict=True))
    assert one.step == other.step == int(other.taken) == 4


def test_a_replayed_run_that_is_lost_stops_where_it_was_lost():
    x, log_every = toy_dataset().images(range(16)), 4
    trainer = replayed(x, training.Settings(warmup=5, log_every=log_every))
    for _ in range(log_every):
        trainer(x)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    trainer(x)
    good = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    assert not torch.equal(before[f"model.{NORM}"], good[f"model.{NORM}"])
    with torch.no_grad():
        trainer.parameters["levels.1.steps.0.conv.log_s"][0] = 200.0
    assert not trainer(x).isfinite()  # and nobody looks yet
    trainer(x)
    with pytest.raises(training.Diverged, match=r"step 5: .* first at levels\.1\.steps\.0"):
        trainer(x)
    assert trainer.step == 5
    good["model.levels.1.steps.0.conv.log_s"][0] = 200.0
    assert all(torch.equal(good[name], tensor) for name, tensor in trainer.tensors().items())


def test_a_run_goes_back_into_the_tensors_that_a_graph_knows():
    x = toy_dataset().images(range(16))
    trainer = training.make_step(Glow(MODEL), training.Settings())
    trainer(x)
    kept = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    where = {name: tensor.data_ptr() for name, tensor in trainer.tensors().items()}
    for _ in range(2):
        trainer(x)
    trainer.load_tensors(kept, 1)
    assert {name: tensor.data_ptr() for name, tensor in trainer.tensors().items()} == where
    assert all(torch.equal(kept[name], tensor) for name, tensor in trainer.tensors().items())
    assert trainer.step == int(trainer.taken) == 1


@pytest.mark.parametrize(("device", "processes", "memory", "why"), [
    ("cpu", 1, "store", "graphs are CUDA's"),
    ("cuda", 1, "store", ""),
    ("cuda:1", 1, "recompute", ""),
    ("cuda", 4, "store", "4 processes"),
    ("cuda", 1, "invert", "memory = 'invert'"),
])  # fmt: skip
def test_what_can_be_a_graph(device, processes, memory, why):
    said = trainer_module.why_eager(torch.device(device), processes, memory)
    assert why in said and bool(said) == bool(why)


def test_what_cannot_be_captured_is_run_kernel_by_kernel_and_says_why(monkeypatch):
    x = toy_dataset().images(range(16))
    torch.manual_seed(0)
    model = Glow(MODEL)
    model.initialise(x)
    trainer = training.make_step(model, training.Settings())
    plain = training.make_step(copy.deepcopy(model), training.Settings())
    trainer.eager = ""  # as on a card; here CUDA itself is what fails

    def no_stream():
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "Stream", no_stream)
    assert torch.equal(trainer(x), plain(x))
    assert trainer.eager == "a step could not be captured: operation not permitted when stream is capturing"
    assert all(torch.equal(a, b) for a, b in zip(trainer.tensors().values(), plain.tensors().values(), strict=True))


# --------------------------------------------------------------------------------------- minutes, start, fresh


class Clock:
    """A clock on which a step takes a second."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(training.time, "perf_counter", lambda: self.now)
        step = training.Trainer.__call__

        def slow(trainer, x):
            self.now += 1
            return step(trainer, x)

        monkeypatch.setattr(training.Trainer, "__call__", slow)


def test_a_run_fits_into_its_minutes_with_the_fall_of_the_rate(toy, tmp_path, monkeypatch):
    clock, rates = Clock(monkeypatch), []
    rate = training.Trainer.learning_rate
    monkeypatch.setattr(training.Trainer, "learning_rate", lambda t: rates.append(rate(t)) or rates[-1])
    out = training.train(config(checkpoint_every=1000), out=tmp_path / "run", minutes=2)
    assert clock.now == pytest.approx(120, abs=2)
    log = log_of(out)
    assert log[-1]["step"] == int(clock.now) and "held_out_bits_per_dim" in log[-1]
    assert max(rates) == 1e-3 and rates[60] == 1e-3 and rates[-2] < 1e-4  # the last is of a check
    assert checkpoint.load(out).config == MODEL
    about = json.loads(checkpoint.read_tensors(out / training.STATE)[1]["run"])
    assert about["step"] == about["config"]["training"]["steps"] == log[-1]["step"]


def test_minutes_may_end_in_the_middle_and_a_resumed_run_gets_new_ones(toy, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    out = training.train(config(), out=tmp_path / "run", minutes=5.5 / 60)
    assert log_of(out)[-1]["step"] == 6
    training.train(config(), out=out, resume=True, minutes=0.5)
    assert log_of(out)[-1]["step"] == pytest.approx(36, abs=1) and clock.now == pytest.approx(36, abs=1)
    assert not [line for line in log_of(out) if "note" in line]
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(GlowkitError, match="--minutes .*: give a number above 0"):
            training.train(config(), out=tmp_path / "other", minutes=minutes)


def test_training_goes_on_from_published_weights(toy, done, tmp_path):
    out = training.train(config(steps=1, warmup=500), out=tmp_path / "run", start=done)
    state, published = tensors(out, training.STATE), checkpoint.load(done).state_dict()
    assert all(torch.allclose(state[f"model.{name}"], tensor, atol=1e-5) for name, tensor in published.items())
    assert any("begins with the weights of" in line.get("note", "") for line in log_of(out))
    with pytest.raises(GlowkitError, match="leave out --start"):
        training.train(config(), out=out, resume=True, start=done)
    other = replace(config(), model=replace(MODEL, width=10))
    with pytest.raises(GlowkitError, match="its width is 12, and config.toml asks for 10"):
        training.train(other, out=tmp_path / "other", start=done)
    shuffled = replace(config(), model=AblationConfig(**MODEL.as_dict(), pixels="shuffled"))
    with pytest.raises(GlowkitError, match="its kind is glow, and config.toml asks for ablation"):
        training.train(shuffled, out=tmp_path / "other", start=done)
    assert not (tmp_path / "other" / training.STATE).exists()


def test_fresh_faces_are_new_in_every_step_and_in_no_data_set(monkeypatch):
    settings = training.Settings(batch=6, fresh=True)
    steps = [training.batch_indices(step, 50, settings) for step in range(20)]
    assert torch.cat(steps).tolist() == list(range(60_000, 60_120))
    data = open_dataset("faces32")
    images = training.training_images(data, data.subset("train"), torch.device("cpu"), fresh=True)
    assert torch.equal(images(steps[2]), faces.render(faces.factors(steps[2].numpy(), seed=0), 32))
    with pytest.raises(GlowkitError, match="toy: photographs have no known factors"):
        training.training_images(toy_dataset(), toy_dataset().subset("train"), torch.device("cpu"), fresh=True)


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
        ("[modle]\nlevels = 2", "modle: no such setting; there are data, kind, model, training"),
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
    configs = set(Path(__file__).parents[1].glob("configs/*.toml"))
    configs = {path for path in configs if path.stem != "replications"}  # a plan: tests/replications
    assert configs
    for path in configs:
        training.read_config(path)


def test_the_config_of_the_thesis_is_of_its_model():
    config = training.read_config(Path(__file__).parents[1] / "configs" / "celeba256.toml")
    assert config.model == GlowConfig(256, levels=6, steps=32, width=512, coupling="additive", bits=5)
    assert config.training.flip and config.training.learning_rate < 1e-3  # where a run was seen to diverge


def test_lines_of_the_log_that_are_none_go_and_the_good_ones_after_them_stay(tmp_path):
    log = tmp_path / training.LOG
    good = [json.dumps({"step": step}).encode() for step in (10, 20, 30)]
    log.write_bytes(
        b"\n".join([good[0], b"{half", b"\xef\xbb\xbf" + good[1], good[1], "{}".encode("utf-16"), b"[]", good[2]])
    )
    training._truncate_log(log, 20)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20]
