"""The autoregressive flow against autograd, torch's own transformer, and an inverse by nothing but forward passes."""

import json
import math
from pathlib import Path

import pytest
import torch
from test_training import toy_dataset
from torch import nn

from glowkit import certificate, checkpoint, memory, training
from glowkit.autoregressive import BOUND, Autoregressive, AutoregressiveConfig, Block, Layer
from glowkit.errors import GlowkitError
from glowkit.trainer import Settings

SHAPE = {"image_size": 8, "patch": 4, "blocks": 3, "layers": 2, "heads": 2, "width": 8}
SMALL = AutoregressiveConfig(image_size=16, patch=2, blocks=2, layers=1, heads=2, width=16)
SETTINGS = dict(steps=40, batch=16, warmup=5, log_every=10, checkpoint_every=20, held_out=32, learning_rate=3e-3)
both_ways = pytest.mark.parametrize("backwards", [False, True])


def stirred(module: nn.Module, by: float = 0.1) -> nn.Module:
    """With weights that are not those of its beginning, where nothing depends on anything."""
    for parameter in module.parameters():
        parameter.data += by * torch.randn_like(parameter)
    return module.eval().requires_grad_(False)


def model(seed: int = 0, **shape) -> Autoregressive:
    torch.manual_seed(seed)
    return stirred(Autoregressive(AutoregressiveConfig(**SHAPE | shape)).double())


def block(backwards: bool) -> tuple[Block, torch.Tensor]:
    """A block, and two images of its tokens (2, 4, 48)."""
    torch.manual_seed(1)
    return stirred(Block(AutoregressiveConfig(**SHAPE), backwards).double()), torch.randn(2, 4, 48).double()


@pytest.mark.parametrize("shape", [{}, {"patch": 8, "blocks": 2}, {"patch": 2, "blocks": 1}], ids=str)
def test_it_is_a_flow(shape):
    flow, v = model(**shape), torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    z, ladj = flow(v)
    torch.testing.assert_close(flow.inverse(z), v)
    for one, expected in zip(v, ladj, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda u: flow(u.view(1, 3, 8, 8))[0][0], one.flatten())
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, expected)
    back = torch.autograd.functional.jacobian(lambda u: flow.inverse(u[None]).flatten(), z[-1])
    torch.testing.assert_close(back @ jacobian, torch.eye(192, dtype=torch.float64))


@both_ways
def test_a_token_depends_on_those_before_it_alone(backwards):
    flow, x = block(backwards)
    jacobian = torch.autograd.functional.jacobian(lambda u: flow(u[None])[0][0], x[0])
    by_token = jacobian.abs().amax((1, 3))
    seen = torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(by_token > 0, seen.triu() if backwards else seen.tril())
    own = jacobian[2, :, 2]
    assert torch.equal(own, own.diagonal().diag())  # numbers of one token do not see each other


@both_ways
def test_the_inverse_is_what_forward_passes_find(backwards):
    """Token by token: what is done to one is affine in it, and known from two of its values."""
    flow, x = block(backwards)
    z, _ = flow(x)
    found = torch.zeros_like(x)
    for k in reversed(range(4)) if backwards else range(4):
        at = []
        for value in (0.0, 1.0):
            found[:, k] = value
            at.append(flow(found)[0][:, k])
        found[:, k] = (z[:, k] - at[0]) / (at[1] - at[0])
    torch.testing.assert_close(flow.inverse(z), found)
    torch.testing.assert_close(found, x)


def test_a_layer_is_a_transformers_of_torch():
    torch.manual_seed(0)
    layer, h = stirred(Layer(12, 3)), torch.randn(2, 5, 12)
    theirs = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs.load_state_dict({
        "self_attn.in_proj_weight": layer.qkv.weight, "self_attn.in_proj_bias": layer.qkv.bias,
        "self_attn.out_proj.weight": layer.out.weight, "self_attn.out_proj.bias": layer.out.bias,
        "linear1.weight": layer.net[0].weight, "linear1.bias": layer.net[0].bias,
        "linear2.weight": layer.net[2].weight, "linear2.bias": layer.net[2].bias,
        "norm1.weight": layer.norm1.weight, "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight, "norm2.bias": layer.norm2.bias,
    })  # fmt: skip
    expected = theirs(h, src_mask=nn.Transformer.generate_square_subsequent_mask(5), is_causal=True)
    torch.testing.assert_close(layer(h), expected)


def test_it_decodes_what_it_encodes_in_float32():
    torch.manual_seed(0)
    flow = stirred(Autoregressive(AutoregressiveConfig()), 0.02)
    x = torch.rand(4, 3, 32, 32)
    assert certificate.certify(flow, x).holds


def test_at_its_start_latents_are_standardised_pixels_in_their_places():
    flow, x = Autoregressive(AutoregressiveConfig(**SHAPE)), torch.rand(50, 3, 8, 8) ** 2
    flow.initialise(x)
    z = flow.encode(x).view(50, 3, 8, 8)
    pixels = flow.quantise(x)
    mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(z, (pixels - mean) / std, atol=1e-5, rtol=1e-5)


def test_a_far_latent_moves_a_token_no_farther_than_its_bounds():
    """t is a linear map of numbers with mean 0 and variance 1, however far the tokens before are."""
    flow, z = block(backwards=False)
    t = flow.last.weight[48:] * flow.norm.weight
    farthest = t.norm(dim=1) * math.sqrt(8) + (flow.last.weight[48:] @ flow.norm.bias + flow.last.bias[48:]).abs()
    for scale in (1, 1e3, 1e9):
        assert (flow.inverse(scale * z).abs() <= math.exp(BOUND) * scale * z.abs() + farthest).all()


@pytest.mark.parametrize("shape", [{}, {"image_size": 32, "heads": 4}, {"patch": 8, "blocks": 1, "layers": 3}], ids=str)
def test_it_has_the_parameters_that_its_shape_tells(shape):
    made = Autoregressive(AutoregressiveConfig(**SHAPE | shape))
    assert sum(p.numel() for p in made.parameters()) == made.config.parameters


def test_it_comes_back_from_its_file(tmp_path):
    flow, x = model().float(), torch.rand(3, 3, 8, 8)
    checkpoint.save(flow, tmp_path, "toy", half=True)
    back = checkpoint.load(tmp_path)
    assert torch.equal(back.encode(x), flow.encode(x)) and torch.equal(back.log_prob(x), flow.log_prob(x))
    assert back.config == flow.config and checkpoint.kind_of(back.config) == "autoregressive"
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["kind"] == "autoregressive"


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"patch": 3}, "model.patch = 3: it must divide image_size = 8"),
        ({"heads": 3}, "model.heads = 3: it must divide width = 8"),
        ({"width": 4096, "layers": 64}, "parameters; there may be 1,000,000,000"),
        ({"blocks": 0}, "model.blocks = 0: it must be a whole number from 1 to 64"),
    ],
)
def test_a_shape_that_cannot_be_is_told_in_a_line(shape, says):
    with pytest.raises(GlowkitError, match=says) as error:
        AutoregressiveConfig(**SHAPE | shape)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------ training


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(training, "open_dataset", lambda name, size: toy_dataset(size))


def run(out: Path, resume: bool = False, start: Path | None = None, **changed) -> Path:
    config = training.Config(changed.pop("model", SMALL), Settings(**SETTINGS | changed))
    return training.train(config, out=out, resume=resume, device="cpu", start=start)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / training.LOG).read_text(encoding="utf-8").splitlines()]


def test_it_learns_and_goes_on_to_the_same_weights(toy, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    bits = [line["held_out_bits_per_dim"] for line in log_of(whole) if "held_out_bits_per_dim" in line]
    untrained = Autoregressive(SMALL)
    x = toy_dataset().images(toy_dataset().subset("valid"))
    untrained.initialise(x)
    assert bits[1] < bits[0] < float(untrained.bits_per_dim(x).mean())

    save = training.Run.save

    def save_and_stop(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "save", save_and_stop)
        with pytest.raises(GlowkitError, match="stopped at step 20"):
            run(tmp_path / "stopped")
    resumed = run(tmp_path / "stopped", resume=True)
    for file in (training.STATE, checkpoint.WEIGHTS):
        assert (whole / file).read_bytes() == (resumed / file).read_bytes()


def test_it_begins_with_weights_of_its_own_shape(toy, tmp_path):
    first = run(tmp_path / "first", steps=2)
    second = run(tmp_path / "second", steps=1, start=first)
    assert any("begins with the weights of" in line.get("note", "") for line in log_of(second))
    other = AutoregressiveConfig(**SMALL.as_dict() | {"layers": 2})
    with pytest.raises(GlowkitError, match="its layers is 1, and config.toml asks for 2"):
        run(tmp_path / "third", start=first, model=other)


@pytest.mark.parametrize("strategy", sorted(set(memory.STRATEGIES) - {"store"}))
def test_memory_is_saved_in_the_levels_of_a_glow_alone(toy, tmp_path, strategy):
    with pytest.raises(GlowkitError, match=f"training.memory = '{strategy}': .* want 'store'") as error:
        run(tmp_path / "run", memory=strategy)
    assert "\n" not in str(error.value)


def test_a_config_file_may_ask_for_one(tmp_path):
    file = tmp_path / "autoregressive.toml"
    file.write_text('kind = "autoregressive"\n[model]\nimage_size = 64\npatch = 8\n', encoding="utf-8")
    assert training.read_config(file).model == AutoregressiveConfig(image_size=64, patch=8)
    file.write_text('kind = "autoregressive"\n[model]\nlevels = 3\n', encoding="utf-8")
    with pytest.raises(GlowkitError, match="levels: no such setting"):
        training.read_config(file)
