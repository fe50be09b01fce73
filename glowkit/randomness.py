"""Randomness as a function of (seed, step): nothing of it has to be stored to go on, or to do a part again."""

from __future__ import annotations

import torch


def stream(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one step of a run: the same numbers for the same seed and step, whoever asks and when.

    Streams of different steps, or of different seeds below a million steps, are different.
    """
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)
