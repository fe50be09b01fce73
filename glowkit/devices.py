"""The device that a model runs on: a card, as torch has it under the name of CUDA, where there is one, else the CPU."""

from __future__ import annotations

import re

import torch
import torch.distributed as dist

from glowkit.errors import GlowkitError

NAME = re.compile(r"cpu|cuda(:(0|[1-9][0-9]?))?")


def choose(name: str | torch.device | None = None) -> torch.device:
    """The device called `name`: "cpu", "cuda", or of several cards "cuda:1", say. By default a card where there is one.

    Raises GlowkitError for any other name, for a card that is not there, and for another device than torchrun's own.

    >>> choose("cpu")
    device(type='cpu')
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        return torch.device("cuda" if cards else "cpu")
    if not NAME.fullmatch(str(name)):
        raise GlowkitError(f"--device {str(name)!r}: give cpu, cuda, or cuda:1 for the second of several cards")
    device = torch.device(name)
    if device.type == "cuda" and not cards:
        raise GlowkitError(f"--device {name}: this machine has no card that torch can use; leave it out for the CPU")
    if cards and dist.is_torchelastic_launched() and str(name) != "cuda":
        raise GlowkitError(f"--device {name}: torchrun gives each process a card of its own; leave it out")
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise GlowkitError(f"--device {name}: the last card of this machine is cuda:{cards - 1}")
    return device
