"""How fast a Glow of some shape is, and how good after some steps: ours and, beside it, the one of normflows.

Both have L levels of K steps and equally wide coupling nets, and both are trained by the same loop: the same images,
noise and flips in the same order, the same optimiser, learning rates and clipping, and the same average of the weights
(normflows has none of its own; it takes some thousandths of a step's time). So the columns differ only in the model,
and in the precision that the model can train in. Times are wall-clock seconds, measured in turns (A B A B ...) in one
process.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from glowkit import checkpoint, devices, intervals
from glowkit.bench.peer import INSTALL, Peer
from glowkit.certificate import certify
from glowkit.dataset import Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.flow import Glow
from glowkit.image_flow import BIN_CENTRES, ImageFlow
from glowkit.kernels import FoldedSteps, fold_affine
from glowkit.precision import compute_dtype
from glowkit.training import (
    Config,
    Trainer,
    batch_indices,
    initialise,
    load_images,
    make_step,
    read_state,
    save_state,
    training_images,
)

MODELS = {"glowkit": Glow, "normflows": Peer}
ALPHAS = torch.linspace(-1, 2.5, 8)  # of a filmstrip
NOISE_DRAWS = 2  # of dequantisation noise, for each held-out image
WARM_UP = 3  # rounds that are not counted
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler reports its own start and stop on stderr


def measure(
    config: Config,
    with_peer: bool = True,
    rounds: int = 20,
    out: Path | None = None,
    tell: Callable = print,
    train: bool = True,
    device: str | torch.device | None = None,
) -> dict:
    """Speed and quality of a config's model and, unless `with_peer` is false, of the peer; returned as JSON has it.

    `tell` gets the tables as they are ready. Both models are trained for the steps of the config, unless `train` is
    false: then there is no quality. `out`: see `quality`. `device`: see `devices.choose`.
    """
    only_a_glow(config)
    device = devices.choose(device)
    names = contenders(with_peer)
    result = {**conditions(device), "config": config.as_dict()}
    m, batch = config.model, config.training.batch
    tell(f"{result['machine']}, {result['threads']} threads, torch {result['torch']}, {result['date']}")
    shape = f"L = {m.levels}, K = {m.steps}, width {m.width}, {m.coupling}"
    tell(f"{m.image_size} px, {shape}, {m.bits} bits, batch {batch}, images of {config.data}")
    if len(names) == 1:
        tell(f"alone; to see it beside the Glow of normflows: {INSTALL}")
    else:
        result["normflows"] = version("normflows")
        tell(f"normflows {result['normflows']} in float32, all it has; both in our training loop, averaging included")
    result["speed"] = speed(config, names, device, rounds)
    tell(f"\nmedian [quartiles] of {rounds} rounds\n{speed_table(result['speed'], batch)}")
    if train:
        result["quality"], result["difference"] = quality(config, names, device, out)
        tell(f"\n{quality_table(result['quality'], result['difference'])}")
    return json.loads(json.dumps(result, default=np.ndarray.tolist))


def only_a_glow(config: Config) -> None:
    """Raises GlowkitError for any other kind of model."""
    if (kind := checkpoint.kind_of(config.model)) != "glow":
        raise GlowkitError(f"{config.path}: kind = {kind!r}: only a Glow is timed; leave out kind")


def contenders(with_peer: bool) -> list[str]:
    """Of MODELS, those to measure: the peer where it is wanted and installed."""
    return list(MODELS) if with_peer and find_spec("normflows") else ["glowkit"]


def conditions(device: torch.device) -> dict:
    """Where and when something is measured."""
    cpu = f"{platform.processor() or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"
    return {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


# --------------------------------------------------------------------------------------------------------- speed


def speed(config: Config, names: list[str], device: torch.device, rounds: int = 20) -> dict[str, dict]:
    """For each model of `names` (of MODELS): parameters, times, peak memory in bytes, and what utilisation is made of.

    Times are seconds (rounds,): of a training step as `train` takes it and of `encode` and `decode`, for a batch of
    the config's size, and with our coupling nets in less than float32; of `decode` for one face at eight alphas and for
    eight faces; and of the assembly of weights.
    """
    images = _training_images(config, open_dataset(config.data, config.model.image_size), rounds, device)
    config = replace(config, training=replace(config.training, steps=10_000))  # the rates of a run's beginning
    steps = {name: prepare(name, config, images) for name in names}
    models = {name: step.model for name, step in steps.items()}
    x = images[: config.training.batch]
    z = {name: model.encode(x, noise=BIN_CENTRES) for name, model in models.items()}
    eight = {name: model.encode(images[:8], noise=BIN_CENTRES) for name, model in models.items()}
    strip = {name: w[:1] + ALPHAS.to(w)[:, None] * (w[1] - w[0]) for name, w in eight.items()}
    fast = compute_dtype(device)

    def decode_fast(name: str) -> None:
        with models[name].computing_in(fast):
            models[name].decode(z[name])

    works: dict[str, Callable[[str], object]] = {
        "training step": lambda name: steps[name](x),
        "encode": lambda name: models[name].encode(x, noise=BIN_CENTRES),
        "decode": lambda name: models[name].decode(z[name]),
        "fast decode": decode_fast,
        "decode of 8 alphas": lambda name: models[name].decode(strip[name]),
        "decode of 8": lambda name: models[name].decode(eight[name]),
        "assembly of W": _forward_and_backward(_assemble_affine, models["glowkit"]),
        "assembly of all kernels": _forward_and_backward(_assemble, models["glowkit"]),
    }
    results: dict[str, dict] = {name: {"seconds": {}} for name in names}
    for kind, work in tqdm(works.items(), "timing", leave=False):
        measured = ["glowkit"] if kind.startswith("assembly") else names
        for name, seconds in in_turns(work, measured, rounds, device).items():
            results[name]["seconds"][kind] = seconds
    for name, model in models.items():
        ours = name == "glowkit"
        dtype = fast if fast and ours else torch.float32
        flops = 3 * forward_flops(model, x)  # the backward pass has two products for each of the forward pass
        results[name] |= {
            "parameters": sum(p.numel() for p in model.parameters()),
            "dtype": str(dtype).removeprefix("torch."),
            "peak_memory": step_memory(steps[name], x, device),
            "flops": flops,
            "matrix_peak": matrix_peak(device, dtype, tf32=not ours),
        }
    return results


def in_turns(
    work: Callable[[Any], object], names: list, rounds: int, device: torch.device, warm_up: int = WARM_UP
) -> dict[Any, np.ndarray]:
    """Seconds (rounds,) that work(name) takes, for one name after the other in every round."""
    seconds = np.empty((warm_up + rounds, len(names)))
    for round_ in seconds:
        for i, name in enumerate(names):
            _synchronise(device)
            since = time.perf_counter()
            work(name)
            _synchronise(device)
            round_[i] = time.perf_counter() - since
    return dict(zip(names, seconds[warm_up:].T, strict=True))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _assemble_affine(model: Glow) -> list[Tensor]:
    """Actnorm and invertible convolution of every step as one matrix and bias, from their parameters."""
    return [part for level in model.levels for part in fold_affine(level.steps)]


def _assemble(model: Glow) -> list[Tensor]:
    """The kernels and biases of all convolutions in every step of flow."""
    levels = zip(model.levels, model.level_shapes, strict=True)
    folded = [FoldedSteps(level.steps, size) for level, (_, *size) in levels]
    affine = [part for steps in folded for parts in steps.maps for part in parts]
    return affine + [part for steps in folded for coupling in steps.couplings for part in coupling.kernels]


def _forward_and_backward(assemble: Callable[[Glow], list[Tensor]], model: Glow) -> Callable[[str], None]:
    """The work of assembling kernels in a training step: forward pass, and backward pass to the parameters."""
    gradients = [torch.zeros_like(part) for part in assemble(model)]

    def work(name: str) -> None:
        model.zero_grad()
        torch.autograd.backward(assemble(model), gradients)

    return work


def forward_flops(model: ImageFlow, x: Tensor) -> int:
    """Floating-point operations of one forward pass, those of convolutions and matrix products."""
    with torch.no_grad():
        v = model.dequantise(x, noise=BIN_CENTRES)
        model(v)  # folds the kernels and keeps them: that is work for each change of weights, not for each image
        with FlopCounterMode(display=False) as counter:
            model(v)
    return counter.get_total_flops()


def matrix_peak(device: torch.device, dtype: torch.dtype, tf32: bool = False) -> float:
    """Operations a second of the best of ten square matrix products: what this machine can do at most.

    With `tf32`, in float32 as convolutions multiply it on CUDA by default.
    """
    n = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        seconds = in_turns(lambda _: a @ b, ["product"], 10, device)["product"]
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * n**3 / float(seconds.min())


def step_memory(trainer: Trainer, x: Tensor, device: torch.device) -> int:
    """`peak_memory` of a training step on x; of a step that is replayed, with all that its graph holds for good."""
    trainer.graph = trainer.bits = trainer.v = None
    trainer.model.zero_grad()
    return peak_memory(lambda: trainer(x), device)


def peak_memory(work: Callable, device: torch.device) -> int:
    """Bytes of tensors at the height of `work`, beyond what there was before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()  # or garbage of before may be freed within, and counted
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = [
            event
            for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
            if event["name"] == "[memory]"
        ]
    events.sort(key=lambda event: event["ts"])
    return int(np.cumsum([event["args"]["Bytes"] for event in events]).max(initial=0))


# ------------------------------------------------------------------------------------------------------- quality


def quality(
    config: Config, names: list[str], device: torch.device, out: Path | None = None
) -> tuple[dict[str, dict], intervals.Estimate | None]:
    """For each model of `names`, trained from the start as the config says: bits/dim and exactness on held-out images.

    `bits_per_dim` (n,) are means over NOISE_DRAWS draws of noise, `round_trip` (64,) the largest error of any pixel
    and `fast_round_trip` that of a fast decode; all of the averaged weights, as `train` keeps them. With a folder
    `out` the trainings are kept there, and go on from their last checkpoint. Of two models there is the difference
    too, first less second: the mean over images and its interval, with people counted where they are known.
    """
    dataset = open_dataset(config.data, config.model.image_size)
    images = _training_images(config, dataset, config.training.steps, device)
    where = dataset.subset("valid")[: config.training.held_out]
    held_out = load_images(dataset, where, "held-out images").to(device)
    results: dict[str, dict] = {}
    for name in names:
        trainer = prepare(name, config, images)
        with alone_in(out) if out else nullcontext():
            _train(trainer, images, config, name, out)
        model, draws = trainer.average, [torch.Generator(device).manual_seed(i) for i in range(NOISE_DRAWS)]
        bits = torch.stack([model.bits_per_dim(held_out, noise) for noise in draws])
        results[name] = {
            "bits_per_dim": bits.double().mean(0).cpu().numpy(),
            "round_trip": certify(model, held_out[:64]).pixel_errors,
        }
        if name == "glowkit" and (fast := compute_dtype(device)):
            z, x = model.encode(held_out[:64], noise=BIN_CENTRES), model.quantise(held_out[:64])
            with model.computing_in(fast):
                results[name]["fast_round_trip"] = (model.decode(z) - x).abs().flatten(1).amax(1).cpu().numpy()
        tqdm.write(f"{name}: {bits.mean():.4f} bits/dim after {trainer.step} steps")
    if len(names) < 2:
        return results, None
    ours, theirs = (results[name]["bits_per_dim"] for name in names)
    return results, intervals.mean(ours - theirs, None if dataset.identities is None else dataset.identities[where])


def _train(trainer: Trainer, images: Tensor, config: Config, name: str, out: Path | None) -> None:
    settings, state = config.training, out and out / f"{name}.safetensors"
    if state and state.exists():
        tensors, about = read_state(state)
        if about.get("config") != config.as_dict():
            raise GlowkitError(f"{state}: the training of another config; give another --out")
        try:
            trainer.load_tensors(tensors, about["step"])
        except GlowkitError as error:
            raise GlowkitError(f"{state}: not the state of this training ({error}); give another --out") from None
    for step in tqdm(range(trainer.step, settings.steps), name, settings.steps, initial=trainer.step, leave=False):
        trainer(images[batch_indices(step, len(images), settings)])
        if state and (trainer.step % settings.checkpoint_every == 0 or trainer.step == settings.steps):
            trainer.check(images[batch_indices(trainer.step, len(images), settings)])
            save_state(trainer, state, {"config": config.as_dict()})


def _training_images(config: Config, dataset: Dataset, steps: int, device: torch.device) -> Tensor:
    """The training images of so many steps, all there are at most; a batch or more to initialise on."""
    batch = config.training.batch
    where = dataset.subset("train")[: max(256, steps * batch)]
    if len(where) < batch:
        raise GlowkitError(f"{dataset.name}: {len(where)} training images, fewer than a batch of {batch}")
    return training_images(dataset, where, device)(torch.arange(len(where)))


def prepare(name: str, config: Config, images: Tensor) -> Trainer:
    """A trainer at step 0 as `train` has it, for one of MODELS, initialised on images (n, 3, H, W)."""
    settings = config.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = MODELS[name](config.model).to(images.device)
    initialise(model, images.__getitem__, len(images), settings.seed)
    # The strategies that save memory are made for our layers.
    return make_step(model, settings if name == "glowkit" else replace(settings, memory="store"))


# -------------------------------------------------------------------------------------------------------- tables


def speed_table(results: dict[str, dict], batch: int) -> str:
    """Medians over the rounds with [quartiles]; ratios are of the two works of a round."""
    sides = list(results.values())
    rows = [["", *results, "ratio"][: 2 + 2 * (len(sides) - 1)]]
    rows.append(["parameters", *(f"{side['parameters']:,}" for side in sides)])
    for kind in ("training step", "encode", "decode", "fast decode"):
        seconds = [side["seconds"][kind] for side in sides]
        rows.append([f"{kind}, images/s", *(_spread(batch / taken, ".1f") for taken in seconds)])
        if len(sides) == 2:
            rows[-1].append(_spread(seconds[1] / seconds[0], ".2f"))
    shares = [
        ("decode of 8 alphas / of 8 faces", "decode of 8 alphas", "decode of 8", sides),
        ("assembly of W / training step", "assembly of W", "training step", sides[:1]),
        ("assembly of all kernels / step", "assembly of all kernels", "training step", sides[:1]),
    ]
    for label, part, whole, of in shares:
        rows.append([label, *(_spread(side["seconds"][part] / side["seconds"][whole], ".3f") for side in of)])
    rows.append(["peak memory of a step, MB", *(f"{side['peak_memory'] / 1e6:,.0f}" for side in sides)])
    used = [side["flops"] / np.median(side["seconds"]["training step"]) / side["matrix_peak"] for side in sides]
    rows.append(["utilisation in a step", *(f"{part:.0%}" for part in used)])
    rows.append(["  of", *(f"{side['matrix_peak'] / 1e9:,.0f} GFLOP/s {side['dtype']}" for side in sides)])
    return _table(rows)


def quality_table(results: dict[str, dict], difference: intervals.Estimate | None) -> str:
    """Mean bits/dim, and how they differ with a 95% interval; median and worst round trip."""
    sides = list(results.values())
    rows = [["", *results]]
    bits = [side["bits_per_dim"] for side in sides]
    label = f"bits/dim of {len(bits[0])} held-out images, {NOISE_DRAWS} noises"
    rows.append([label, *(f"{b.mean():.4f}" for b in bits)])
    if difference:
        rows.append(["  the first less the second", f"{difference}, {difference.estimate / bits[1].mean():+.2%}"])
    for kind, label in (("round_trip", "round trip"), ("fast_round_trip", "fast decode")):
        errors = [side[kind] for side in sides if kind in side]
        worst = [f"{np.median(error):.0e}, at worst {error.max():.0e}" for error in errors]
        if worst:
            rows.append([f"error of the worst pixel, {label} of {len(errors[0])}", *worst])
    return _table(rows)


def _spread(values: np.ndarray, shape: str) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:{shape}} [{low:{shape}}, {high:{shape}}]"


def _table(rows: list[list[str]]) -> str:
    # The last cell of a row may be longer than its column is wide.
    widths = [max(map(len, column)) for column in zip_longest(*(row[:-1] for row in rows), fillvalue="")]
    lines = ("  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
