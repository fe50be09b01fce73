"""The bench: the peer's density against autograd, equal terms for both models, and what the command says and writes."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats

from glowkit import checkpoint, training
from glowkit.ablations import AblationConfig
from glowkit.autoregressive import AutoregressiveConfig
from glowkit.bench import compare, scaling
from glowkit.bench.peer import Peer
from glowkit.cli import app
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
TINY = """
data = "toy"
[model]
image_size = 16
levels = 2
steps = 1
width = 6
coupling = "affine"
[training]
steps = 3
batch = 4
warmup = 2
flip = true
log_every = 1
checkpoint_every = 2
held_out = 10
"""


@pytest.fixture
def config(monkeypatch, tmp_path) -> Path:
    """A tiny config on blocks of colour of which every two are one person's."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 3, 4, 4), dtype=np.uint8).repeat(4, 2).repeat(4, 3)
    splits = np.repeat(np.arange(3, dtype=np.uint8), 20)
    toy = Dataset("toy", 16, ["Red"], pixels[:, 0, :1, 0] > 128, splits, None, np.arange(60) // 2, lambda i: pixels[i])
    monkeypatch.setattr(compare, "open_dataset", lambda name, size: toy)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app(["bench", *map(str, arguments)])
        return caught.value.code or 0, *capsys.readouterr()

    return run


# ------------------------------------------------------------------------------------------------------ the peer


@pytest.mark.parametrize("coupling", ["additive", "affine"])
def test_the_density_of_the_peer_is_that_of_normflows_and_of_the_jacobian(coupling):
    torch.manual_seed(0)
    peer = Peer(GlowConfig(8, 2, 2, 4, coupling)).double()
    x = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    peer.initialise(x)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    v = peer.dequantise(x, torch.Generator().manual_seed(0))
    z, ladj = peer(v)
    assert z.shape == (5, peer.dim)
    jacobian = torch.autograd.functional.jacobian(lambda v: peer(v[None])[0][0], v[0]).reshape(peer.dim, peer.dim)
    assert torch.allclose(torch.linalg.slogdet(jacobian)[1], ladj[0], atol=1e-9) and abs(ladj[0]) > 1
    # Ours reads bins of the quantised image, theirs points of the unit cube.
    theirs = peer.flow.log_prob(v, None) - peer.dim * 5 * math.log(2)
    assert torch.allclose(peer.log_prob_of(z, ladj), theirs, atol=1e-9)
    assert torch.allclose(peer.inverse(z), v, atol=1e-9)
    assert torch.allclose(peer.decode(peer.encode(x)), peer.quantise(x), atol=1e-9)


@pytest.mark.parametrize("name", ["bench64", "celeba64"])
def test_the_two_have_nearly_as_many_parameters(name):
    config = training.read_config(ROOT / "configs" / f"{name}.toml").model
    ours, theirs = (sum(p.numel() for p in model(config).parameters()) for model in (Glow, Peer))
    assert abs(theirs / ours - 1) < 0.03


def test_the_peer_is_initialised_on_data_once():
    torch.manual_seed(0)
    peer = Peer(GlowConfig(16, 1, 1, 4))
    x = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8)
    peer.initialise(x)
    seen = peer.encode(x)
    assert abs(float(seen.mean())) < 0.05 and abs(float(seen.std()) - 1) < 0.1
    before = [p.clone() for p in peer.parameters()]
    peer.initialise(x[:4])
    assert all(torch.equal(a, b) for a, b in zip(before, peer.parameters(), strict=True))


# --------------------------------------------------------------------------------------------------- equal terms


def test_both_models_are_trained_on_the_same_images_noise_and_flips(config, monkeypatch):
    seen: dict[type, list] = {Glow: [], Peer: []}
    for model in seen:

        def forward(self, v, forward=model.forward, kept=seen[model]):
            if torch.is_grad_enabled():
                kept.append(v.clone())
            return forward(self, v)

        monkeypatch.setattr(model, "forward", forward)
    plan = training.read_config(config)
    compare.quality(plan, list(compare.MODELS), CPU)
    assert len(seen[Glow]) == plan.training.steps
    assert all(torch.equal(a, b) for a, b in zip(seen[Glow], seen[Peer], strict=True))
    assert not torch.equal(seen[Glow][0], seen[Glow][1])


def test_ours_ends_where_train_ends(config, monkeypatch, tmp_path):
    plan = training.read_config(config)
    monkeypatch.setattr(training, "open_dataset", compare.open_dataset)
    trained = checkpoint.load(training.train(plan, out=tmp_path / "run"))
    results, difference = compare.quality(plan, ["glowkit"], CPU)
    images = compare.open_dataset("toy", 16).images(range(20, 30))
    noise = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    expected = torch.stack([trained.bits_per_dim(images, g) for g in noise]).mean(0)
    assert difference is None and np.allclose(results["glowkit"]["bits_per_dim"], expected, atol=1e-6)


def test_the_difference_is_that_of_pairs_and_counts_people(config):
    results, difference = compare.quality(training.read_config(config), list(compare.MODELS), CPU)
    bits = [side["bits_per_dim"] for side in results.values()]
    people = (bits[0] - bits[1]).reshape(5, 2).mean(1)  # the held-out images are five people's, two of each
    expected = stats.ttest_1samp(people, 0).confidence_interval()
    assert difference.n == 5 and np.allclose(difference.ci, expected, rtol=1e-6)
    assert difference.estimate == pytest.approx(bits[0].mean() - bits[1].mean())


def test_a_stopped_training_goes_on_to_the_same_end(config, monkeypatch, tmp_path):
    plan = training.read_config(config)
    whole, _ = compare.quality(plan, ["normflows"], CPU)
    step = training.Trainer.__call__

    def stops(trainer, x):
        if trainer.step == 2:
            raise KeyboardInterrupt
        return step(trainer, x)

    monkeypatch.setattr(training.Trainer, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        compare.quality(plan, ["normflows"], CPU, tmp_path / "out")
    calls = []
    monkeypatch.setattr(training.Trainer, "__call__", lambda trainer, x: calls.append(0) or step(trainer, x))
    resumed, _ = compare.quality(plan, ["normflows"], CPU, tmp_path / "out")
    assert len(calls) == 1
    assert (resumed["normflows"]["bits_per_dim"] == whole["normflows"]["bits_per_dim"]).all()
    state = tmp_path / "out" / "normflows.safetensors"
    tensors, metadata = checkpoint.read_tensors(state)
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    save_file({**tensors, moment: torch.zeros(10**6)}, state, metadata)
    with pytest.raises(GlowkitError, match=r"normflows.safetensors: not the state of this training .*\(1000000,\)"):
        compare.quality(plan, ["normflows"], CPU, tmp_path / "out")
    config.write_text(TINY.replace("steps = 3", "steps = 4"))
    with pytest.raises(GlowkitError, match="normflows.safetensors: the training of another config"):
        compare.quality(training.read_config(config), ["normflows"], CPU, tmp_path / "out")


# ------------------------------------------------------------------------------------------------- measuring


def test_works_take_turns():
    calls = []
    seconds = compare.in_turns(calls.append, ["a", "b"], 4, CPU)
    assert calls == ["a", "b"] * (4 + compare.WARM_UP)
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 4, "b": 4}


def test_peak_memory_is_the_most_there_is_at_once():
    def work():
        a = torch.zeros(1000)
        del a
        b = torch.zeros(2000)  # noqa: F841
        torch.zeros(500)
        torch.zeros(300)

    assert compare.peak_memory(work, CPU) == 4 * 2500


def test_flops_are_those_of_the_convolutions():
    config = GlowConfig(8, 1, 1, 5, "additive")
    x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    # At 12 channels of 4 x 4 pixels: the 1x1 convolution, and a net of 6 channels with ones beside them, 5, 5, and 6.
    per_pixel = 12 * 12 + 9 * 7 * 5 + 5 * 5 + 9 * 5 * 6
    assert compare.forward_flops(Glow(config), x) == 2 * 2 * 16 * per_pixel


# ------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_both_and_writes_every_number(config, run, tmp_path, monkeypatch):
    file = tmp_path / "bench.json"
    monkeypatch.setattr(sys, "argv", ["glowkit", "bench", "tiny.toml"])
    status, out, err = run(config, "--rounds", 2, "--steps", 2, "--json", file)
    assert status == 0, err
    rows = ["training step, images/s", "encode, images/s", "decode, images/s", "fast decode, images/s"]
    for row in [*rows, "assembly of W / training step", "assembly of all kernels / step"]:
        assert row in out
    assert re.search(r"bits/dim of 10 held-out images, 2 noises +\d\.\d{4} +\d\.\d{4}\n.*\(n = 5\), [+-]\d", out)
    result = json.loads(file.read_text())
    assert set(result) == {
        *("command", "machine", "threads", "torch", "normflows", "date", "config", "speed", "quality", "difference")
    }
    assert result["command"] == "glowkit bench tiny.toml" and result["torch"] == torch.__version__
    assert result["normflows"] == "1.7.3"
    assert result["config"]["training"]["steps"] == 2
    for name, model in compare.MODELS.items():
        side = result["speed"][name]
        assert side["parameters"] == sum(p.numel() for p in model(GlowConfig(16, 2, 1, 6, "affine")).parameters())
        assert all(len(taken) == 2 for taken in side["seconds"].values())
        assert min(side["peak_memory"], side["flops"], side["matrix_peak"]) > 0
        assert len(result["quality"][name]["bits_per_dim"]) == 10
        assert max(result["quality"][name]["round_trip"]) < 1e-4
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part.json")] == []


@pytest.mark.parametrize("way", ["asked", "absent"])
def test_alone_it_says_how_to_get_the_peer(config, run, monkeypatch, way):
    if way == "absent":
        monkeypatch.setattr(compare, "find_spec", lambda name: None)
    status, out, _ = run(config, "--rounds", 1, "--steps", 0, *(["--no-peer"] if way == "asked" else []))
    assert status == 0 and "pip install normflows==1.7.3" in out
    assert "bits/dim" not in out and re.search(r"\n +glowkit\n", out)


def test_a_peer_without_normflows_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "normflows", None)
    with pytest.raises(GlowkitError, match="pip install normflows==1.7.3"):
        Peer(GlowConfig(8, 1, 1, 4))


def test_the_peer_stores_what_ours_inverts(config):
    config.write_text(TINY.replace("flip", 'memory = "invert"\nflip'))
    results, _ = compare.quality(training.read_config(config), list(compare.MODELS), CPU)
    assert all(np.isfinite(side["bits_per_dim"]).all() for side in results.values())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.toml"], "missing.toml: no such file"),
        (["CONFIG", "--rounds", 0], "'--rounds': 0 is not in the range 1<=x<=10000"),
        (["CONFIG", "--steps", -1], "'--steps': -1 is not in the range 0<=x<=16777216"),
        (["CONFIG", "--json", "no/such/file.json"], "no/such: no such folder to write file.json to"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(config, run, arguments, words):
    status, out, err = run(*(config if a == "CONFIG" else a for a in arguments))
    assert status and out == "" and err.startswith("glowkit: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize("measure", [compare.measure, scaling.measure])
@pytest.mark.parametrize("shape", [AblationConfig(), AutoregressiveConfig()])
def test_only_a_glow_is_timed(measure, shape):
    with pytest.raises(GlowkitError, match=r"config.toml: kind = '\w+': only a Glow is timed"):
        measure(training.Config(shape, training.Settings()))


def test_too_few_images_are_told_in_a_line(config, run):
    config.write_text(TINY.replace("batch = 4", "batch = 21"))
    status, _, err = run(config)
    assert status == 1 and err.splitlines()[-1] == "glowkit: toy: 20 training images, fewer than a batch of 21"
