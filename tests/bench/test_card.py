"""What a card is asked, asked of the CPU on a small scale."""

import itertools
import json
import time

import pytest
import torch

from glowkit import bundled, checkpoint, training
from glowkit.bench import card, compare
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig
from glowkit.trainer import Settings

CPU = torch.device("cpu")
CONFIG = bundled.root() / "configs" / "faces32-additive.toml"


@pytest.fixture
def small(monkeypatch):
    for name, value in {"CERTIFIED": 2, "CURVE": 3, "ROUNDS": 2, "PICTURES": 1}.items():
        monkeypatch.setattr(card, name, value)
    monkeypatch.setattr(bundled, "models", lambda: ["faces64"])
    monkeypatch.setattr(compare, "matrix_peak", lambda device, dtype, tf32: 1e9)
    seconds = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))  # every look at the clock takes one
    return {"tiny": (GlowConfig(32, 2, 1, 6, "affine"), Settings(batch=2), False)}


def test_all_in_one_go_and_a_training_in_what_is_left(small, tmp_path, monkeypatch):
    asked = {}

    def train(config, out, **settings):
        asked.update(settings)
        checkpoint.save(Glow(training.read_config(config).model), out, "faces32")

    monkeypatch.setattr(training, "train", train)
    told = []
    result = card.measure(tmp_path / "out", CPU, 60.0, CONFIG, small, tell=told.append)
    assert json.loads((tmp_path / "out" / card.NUMBERS).read_text()) == json.loads(json.dumps(result, default=list))
    found = result["certificate of faces64"]
    assert found["holds"] and found["n"] == 2 and found["worst"] < 1e-4 and found["latents"] < 1e-6
    assert set(result["gradients"]) == {"recompute", "invert"} and max(result["gradients"].values()) < 0.02
    found = result["replayed less run kernel by kernel"]
    assert found["largest"] == 0 and not found["replayed"] and found["why not"] == "graphs are CUDA's"
    assert result["faces drawn a second"]["equal"] == 1
    assert set(result["tiny"]) == {"glowkit"}
    assert len(told) == 6
    assert 0 < asked["minutes"] < 60 and asked["resume"] is False and asked["device"] == CPU
    published = tmp_path / "out" / f"{CONFIG.stem}-16bit"
    assert checkpoint.load(published).config == checkpoint.load(tmp_path / "out" / CONFIG.stem).config


def test_no_time_left_is_said_and_the_numbers_are_kept(small, tmp_path):
    with pytest.raises(GlowkitError, match=r"--minutes 0\.001: the measurements alone took them"):
        card.measure(tmp_path / "out", CPU, 0.001, CONFIG, {}, tell=lambda line: None)
    assert "gradients" in json.loads((tmp_path / "out" / card.NUMBERS).read_text())
