"""A model on disk: the same model back, and one line for whatever is not one."""

import json

import pytest
import torch
from safetensors import SafetensorError
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
        (lambda f: _spoil(f / "model.safetensors", "conv.permutation", 0), "permutation must be a permutation"),
        (lambda f: _spoil(f / "model.safetensors", "conv.sign", 0.5), r"sign must be \+1 or -1 everywhere"),
        (lambda f: (f / "config.json").write_text("[]"), "not the config"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "not the config of a Glow .nested too deep"),
        (lambda f: (f / "config.json").write_bytes(b" " * 2 * 10**6), "more than 1,000,000 bytes"),
        (lambda f: _configure(f / "config.json", data=5), "data = 5: it must be text"),
        (lambda f: _configure(f / "config.json", width=10**9), "width = 1000000000: it must be"),
        (lambda f: _configure(f / "config.json", width=4000), "not the weights .* numbers, of at least"),
        (lambda f: _configure(f / "config.json", activation=None), "model.activation is missing"),
        (lambda f: _configure(f / "config.json", depth=3), "model.depth: no such setting"),
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


def _configure(path, **changes):
    content = json.loads(path.read_text())
    for name, value in changes.items():
        (content if name == "data" else content["model"])[name] = value
    content["model"] = {name: value for name, value in content["model"].items() if value is not None}
    path.write_text(json.dumps(content))


def _spoil(path, name="norm.bias", value=torch.nan):
    tensors, _ = checkpoint.read_tensors(path)
    tensors[f"levels.0.steps.0.{name}"][:2] = value
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


def test_what_is_not_finite_is_not_written(tmp_path):
    checkpoint.write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(GlowkitError, match="a.safetensors: not written, for a is not finite"):
        checkpoint.write_tensors(tmp_path / "a.safetensors", {"a": torch.tensor([0, torch.inf])})
    assert checkpoint.read_tensors(tmp_path / "a.safetensors")[0]["a"].tolist() == [0, 0]


def test_an_error_of_safetensors_is_told_in_a_line(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        (path.parent / ".tmpX").touch()
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(GlowkitError, match="a.safetensors: not written: .*No space left on device"):
        checkpoint.write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_a_letter_is_any_length_but_one():
    forms = {name: checkpoint.Form(("m", 2), (torch.float32,)) for name in "ab"}
    checkpoint.check_tensors({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, forms)
    with pytest.raises(GlowkitError, match=r"b has the shape \(4, 2\), not \(3, 2\)"):
        checkpoint.check_tensors({"a": torch.zeros(3, 2), "b": torch.zeros(4, 2)}, forms)
    with pytest.raises(GlowkitError, match=r"a has the shape \(3,\), not \(m, 2\)"):
        checkpoint.check_tensors({"a": torch.zeros(3), "b": torch.zeros(4, 2)}, forms)
