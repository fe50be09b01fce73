"""All that a card is asked in one go: is it exact there, is it fast, and then a training for the time that is left.

Time on a card is often lent by the minute. Nothing here needs a decision on the way, what is measured is written as
soon as it is known, and the training ends when the time does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import bundled, checkpoint, training
from glowkit.bench import compare
from glowkit.certificate import certify
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import expanded, replacing
from glowkit.flow import GlowConfig
from glowkit.memory import STRATEGIES
from glowkit.trainer import Settings, Trainer

NUMBERS = "card.json"
CERTIFIED = 256  # test faces of each bundled model
CURVE = 200  # steps of two trainings that should be one
ROUNDS = 8  # of each time
PICTURES = 1024  # drawn, to see how fast
# What is timed: the shape of the thesis at 64 pixels, beside the peer, and at 256 with what fits on most cards.
SHAPES = {
    "64 px, L4 K32 width 512": (GlowConfig(64, 4, 32, 512, "affine"), Settings(batch=64), True),
    "256 px, L6 K32 width 512, recompute": (
        GlowConfig(256, 6, 32, 512, "affine"),
        Settings(batch=32, memory="recompute"),
        False,
    ),
}


def measure(
    out: Path,
    device: torch.device,
    minutes: float,
    config: Path | None = None,
    shapes: dict[str, tuple[GlowConfig, Settings, bool]] | None = None,
    tell: Callable = print,
) -> dict:
    """Measures the card, writes out/card.json, and trains what `config` says in what is left of the minutes.

    `shapes`: for each name a model, how to train it, and whether the peer stands beside it (default SHAPES). The
    training is in out/NAME, its publishable form in out/NAME-16bit. A training that is there already goes on.
    """
    ends = time.perf_counter() + 60 * minutes
    out = expanded(out)
    out.mkdir(parents=True, exist_ok=True)
    result = {**compare.conditions(device), "minutes": minutes}

    def keep(part: str, found: object, line: str) -> None:
        result[part] = found
        with replacing(out / NUMBERS) as temporary:
            temporary.write_text(json.dumps(result, default=np.ndarray.tolist, indent=1) + "\n", encoding="utf-8")
        tell(f"{part}: {line}")

    for name in bundled.models():
        found = certificate(name, device)
        keep(f"certificate of {name}", found, f"worst pixel {found['worst']:.1e}, holds: {found['holds']}")
    found = gradients(device)
    keep("gradients", found, ", ".join(f"{memory} {error:.1e}" for memory, error in found.items()))
    found = curves(device)
    keep("replayed less run kernel by kernel", found, f"bits/dim differ by {found['largest']:.1e} at most")
    found = drawing(device)
    keep("faces drawn a second", found, f"{found['a second']:,.0f} at 256 px, {found['equal']:.4%} of values equal")
    for name, (model, settings, with_peer) in (SHAPES if shapes is None else shapes).items():
        found = speed(model, settings, with_peer, device)
        keep(name, found, f"\n{compare.speed_table(found, settings.batch)}")
    if config:
        left = (ends - time.perf_counter()) / 60
        if left <= 0:
            raise GlowkitError(f"--minutes {minutes:g}: the measurements alone took them; give more, for the training")
        run = out / config.stem
        training.train(config, out=run, resume=(run / training.STATE).exists(), device=device, minutes=left)
        half = out / f"{config.stem}-16bit"
        checkpoint.save(checkpoint.load(run), half, checkpoint.data_of(run), half=True)
        tell(f"{half}: the model, to be bundled")
    return result


def certificate(name: str, device: torch.device) -> dict:
    """The round trip of a bundled model on the device, and how its latents differ from those of the CPU."""
    model, here = checkpoint.load(name, device), checkpoint.load(name)
    album = open_dataset("faces64" if checkpoint.data_of(name) == "celeba" else checkpoint.data_of(name))
    x = album.images(album.subset("test")[:CERTIFIED])
    found, z, reference = certify(model, x), model.encode(x[:32]).cpu(), here.encode(x[:32])
    return {
        "n": len(x),
        "median": float(np.median(found.pixel_errors)),
        "worst": float(found.pixel_errors.max()),
        "holds": found.holds,
        "latents": float((z - reference).norm() / reference.norm()),
    }


def gradients(device: torch.device) -> dict[str, float]:
    """|g - g_store| / |g_store| of one step's gradient, for every other way to save memory."""
    x = _pixels(32, 16, device)
    found: dict[str, Tensor] = {}
    for memory in STRATEGIES:
        trainer = _trainer(GlowConfig(32, 3, 8, 32, "affine"), Settings(batch=16, memory=memory), x)
        trainer.check(x)
        found[memory] = torch.cat([p.grad.flatten() for p in trainer.parameters.values() if p.grad is not None])
    stored = found.pop("store")
    return {memory: float((g - stored).norm() / stored.norm()) for memory, g in found.items()}


def curves(device: torch.device) -> dict:
    """Bits/dim of the same training replayed from a graph and run kernel by kernel."""
    x = _pixels(32, 512, device)
    settings = Settings(batch=32, warmup=20)
    trainers = [_trainer(GlowConfig(32, 3, 8, 32, "affine"), settings, x) for _ in range(2)]
    trainers[1].eager = "the reference"
    losses = np.empty((CURVE, 2))
    for step in tqdm(range(CURVE), "two trainings", leave=False):
        batch = x[training.batch_indices(step, len(x), settings)]
        losses[step] = [float(trainer(batch)) for trainer in trainers]
    return {
        "steps": CURVE,
        "replayed": trainers[0].graph is not None,
        "why not": trainers[0].eager,
        "largest": float(np.abs(losses[:, 0] - losses[:, 1]).max()),
    }


def drawing(device: torch.device) -> dict:
    """How fast procedural faces are drawn at 256 pixels, and the share of their values that the CPU draws the same."""
    album = open_dataset("faces256")
    album.draw(range(4), device)  # or a first launch would be counted
    seconds = compare.in_turns(lambda _: album.draw(range(PICTURES), device), ["draw"], 1, device, warm_up=0)["draw"]
    few = range(4)
    equal = album.draw(few, device).cpu() == album.draw(few, "cpu")
    return {"a second": PICTURES / float(seconds[0]), "equal": float(equal.double().mean())}


def speed(model: GlowConfig, settings: Settings, with_peer: bool, device: torch.device) -> dict:
    """As `compare.speed`, on procedural faces."""
    config = training.Config(model, settings, f"faces{model.image_size}")
    return compare.speed(config, compare.contenders(with_peer), device, ROUNDS)


def _pixels(size: int, n: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (n, 3, size // 8, size // 8), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3).to(device)


def _trainer(model: GlowConfig, settings: Settings, x: Tensor) -> Trainer:
    return compare.prepare("glowkit", training.Config(model, settings), x)
