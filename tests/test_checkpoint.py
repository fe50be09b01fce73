"""A model on disk: the same model back, and one line for whatever is not one."""

import json

import pytest
import torch
from safetensors.torch import save_file

import glowkit
from glowkit import checkpoint
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 2, 2, 8, "affine"))
    model.initialise(torch.rand(8, 3, 16, 16))
    for parameter in model.parameters():  # couplings and priors start at zero, where rounding would not show
        parameter.data += 0.03 * torch.randn_like(parameter)
    checkpoint.save(model, tmp_path / "model", "faces32")
    return model, tmp_path / "model"


def test_the_same_model_comes_back(saved):
    model, folder = saved
    x = torch.rand(4, 3, 16, 16)
    back = glowkit.load(folder)
    assert back.config == model.config and checkpoint.data_of(folder) == "faces32"
    assert torch.equal(back.encode(x), model.encode(x))
    assert not any(p.requires_grad for p in back.parameters())
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_half_keeps_an_exact_inverse_of_the_rounded_model(saved):
    model, folder = saved
    checkpoint.save(model, folder, "faces32", half=True)
    back = checkpoint.load(folder)
    x = torch.rand(4, 3, 16, 16)
    z = back.encode(x)
    assert not torch.equal(z, model.encode(x))
    assert (z - model.encode(x)).abs().max() < 0.05
    assert (back.decode(z) - back.quantise(x)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json: not the config"),
        (lambda f: (f / "config.json").write_text('{"data": "faces64", "model": {"depth": 3}}'), "depth"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not the config"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle?"), "only that format is read"),
        (lambda f: _cut(f / "model.safetensors"), "not a whole safetensors file"),
        (lambda f: _deepen(f / "config.json"), "not the weights of the Glow in config.json"),
        (lambda f: _spoil(f / "model.safetensors"), "not finite"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_says_which_file(saved, damage, says):
    _, folder = saved
    damage(folder)
    with pytest.raises(GlowkitError, match=says) as error:
        checkpoint.load(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def _deepen(path):
    config = json.loads(path.read_text())
    config["model"]["steps"] = 3
    path.write_text(json.dumps(config))


def _spoil(path):
    tensors, _ = checkpoint.read_tensors(path)
    tensors["levels.0.steps.0.norm.bias"][0] = torch.nan
    save_file(tensors, path)  # `checkpoint` would not write it


def test_no_model_lists_the_bundled_ones(tmp_path):
    with pytest.raises(GlowkitError, match="bundled models: "):
        checkpoint.load(tmp_path / "nothing")


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    _, folder = saved
    before = (folder / "model.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write_tensors(folder / "model.safetensors", {"a": torch.zeros(1)})
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
