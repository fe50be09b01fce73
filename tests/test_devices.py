"""Which device is chosen, whatever this machine has."""

import pytest
import torch

from glowkit import devices
from glowkit.errors import GlowkitError


@pytest.fixture(params=[0, 1, 2])
def cards(request, monkeypatch):
    """A machine with so many cards, and no torchrun."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    return request.param


def test_a_card_is_the_default_where_there_is_one(cards):
    assert devices.choose() == devices.choose(None) == torch.device("cuda" if cards else "cpu")


def test_a_device_that_is_there_is_taken(cards):
    there = ["cpu", "cuda", *(f"cuda:{i}" for i in range(cards))] if cards else ["cpu"]
    for name in there:
        assert devices.choose(name) == devices.choose(torch.device(name)) == torch.device(name)


def test_a_card_that_is_not_there_is_refused(cards):
    words = f"the last card of this machine is cuda:{cards - 1}$" if cards else "no card that torch can use; leave it"
    for name in (f"cuda:{cards}", "cuda:7", *(["cuda"] if not cards else [])):
        with pytest.raises(GlowkitError, match=f"^--device {name}: .*{words}"):
            devices.choose(name)


@pytest.mark.parametrize(
    "name", ["", "gpu", "meta", "mps", "CPU", "cpu:1", "cuda:", "cuda:01", "cuda:-1", "cuda\n", "0"]
)
def test_any_other_name_is_refused(cards, name):
    with pytest.raises(GlowkitError, match="^--device '.*': give cpu, cuda, or cuda:1"):
        devices.choose(name)


def test_under_torchrun_each_process_has_its_own(cards, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    if not cards:
        assert devices.choose("cpu") == devices.choose() == torch.device("cpu")
        return
    assert devices.choose("cuda") == devices.choose() == torch.device("cuda")
    for name in ("cpu", "cuda:0"):
        with pytest.raises(GlowkitError, match=f"^--device {name}: torchrun gives each process a card"):
            devices.choose(name)
