"""How the cost of a Glow grows: with image size, depth, width and batch, and a study's with the number of images.

A config gives the reference shape. Each measurement changes one of these and leaves the others as they are; the shapes
are timed in turns, on random pixels, since the time does not depend on what an image shows. The ceiling of the hardware
is the time that the convolutions and matrix products would take if all ran as fast as the machine's best matrix product
of the same precision (`compare.matrix_peak`). No measured time can be below it; ceiling over time is the utilisation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import devices, memory
from glowkit.bench import compare
from glowkit.book import figures
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.image_flow import BIN_CENTRES
from glowkit.precision import compute_dtype
from glowkit.study import class_sums
from glowkit.training import Config

# What is varied, and by which factors.
FACTORS = {
    "image_size": (1 / 4, 1 / 2, 1, 2),
    "steps": (1 / 4, 1 / 2, 1, 2),
    "width": (1 / 4, 1 / 2, 1, 2),
    "batch": (1 / 16, 1 / 4, 1, 4),
}
DEPTHS = (1 / 2, 1, 2, 4)  # factors of K, for the memory that a step takes
COUNTS = (64, 128, 256, 512)  # images of a study
ATTRIBUTES = [str(a) for a in range(40)]  # as many as CelebA has
LABELS = {"image_size": "image size", "steps": "steps of flow K", "width": "width", "batch": "batch"}
# Forward passes that each amounts to: a backward pass has two matrix products for each of the forward pass.
WORKS = {"training step": 3, "encode": 1}


def measure(config: Config, rounds: int = 5, tell: Callable = print, device: str | torch.device | None = None) -> dict:
    """Times, memory and operations of shapes around that of a config, returned as JSON has it; `tell` gets the tables.

    Seconds (rounds,) are for one image, but for a study for all of its images; peak memory is in bytes beyond what was
    allocated before, gradients included; flops are those of the forward pass of one image; matrix_peak is in FLOP/s.
    `device`: see `devices.choose`.
    """
    compare.only_a_glow(config)
    device = devices.choose(device)
    # The learning rates of a run's beginning, and every activation kept.
    config = replace(config, training=replace(config.training, steps=10_000, memory="store"))
    dtypes = {"training step": compute_dtype(device) or torch.float32, "encode": torch.float32}
    result = {
        **compare.conditions(device),
        "config": config.as_dict(),
        "dtype": {work: str(dtype).removeprefix("torch.") for work, dtype in dtypes.items()},
        "matrix_peak": {work: compare.matrix_peak(device, dtype) for work, dtype in dtypes.items()},
        "sweeps": sweeps(config, rounds, device),
        "memory": memory_of_depth(config, device),
        "study": study(config, rounds, device),
    }
    result = json.loads(json.dumps(result, default=np.ndarray.tolist))
    tell(tables(result))
    return result


def shapes(config: Config, axis: str, factors: tuple[float, ...]) -> dict[int, Config]:
    """The config with `axis`, one of FACTORS, multiplied: by its value, without those that no model can have."""
    part = "training" if axis == "batch" else "model"
    base, found = getattr(config, part), {}
    for factor in factors:
        value = max(1, int(getattr(base, axis) * factor))
        try:
            found[value] = replace(config, **{part: replace(base, **{axis: value})})
        except GlowkitError:
            continue
    return found


def sweeps(config: Config, rounds: int, device: torch.device) -> dict[str, list[dict]]:
    """For each of FACTORS, for each of its values: parameters, flops, peak memory of a step, and seconds by WORKS."""
    axes = {axis: shapes(config, axis, factors) for axis, factors in FACTORS.items()}
    distinct = list(dict.fromkeys(shape for values in axes.values() for shape in values.values()))
    images = {shape: _images(shape, shape.training.batch, device) for shape in distinct}
    trainers = {shape: compare.prepare("glowkit", shape, images[shape]) for shape in distinct}
    works = {
        "training step": lambda shape: trainers[shape](images[shape]),
        "encode": lambda shape: trainers[shape].model.encode(images[shape], noise=BIN_CENTRES),
    }
    measured: dict[Config, dict] = {shape: {"seconds": {}} for shape in distinct}
    for name, work in tqdm(works.items(), "timing", leave=False):
        for shape, seconds in compare.in_turns(work, distinct, rounds, device).items():
            measured[shape]["seconds"][name] = seconds / shape.training.batch
    for shape, trainer in tqdm(trainers.items(), "peak memory", leave=False):
        measured[shape] |= {
            "parameters": sum(p.numel() for p in trainer.parameters.values()),
            "flops": compare.forward_flops(trainer.model, images[shape]) / shape.training.batch,
            "peak_memory": compare.step_memory(trainer, images[shape], device),
        }
    return {
        axis: [{"value": value, **measured[shape]} for value, shape in values.items()] for axis, values in axes.items()
    }


def memory_of_depth(config: Config, device: torch.device) -> list[dict]:
    """For K multiplied by DEPTHS: parameters, and peak memory of a step by what it keeps (memory.STRATEGIES)."""
    rows, x = [], _images(config, config.training.batch, device)
    for steps, shape in tqdm(shapes(config, "steps", DEPTHS).items(), "memory by depth", leave=False):
        trainer = compare.prepare("glowkit", shape, x)
        peak = {}
        for mode in memory.STRATEGIES:
            memory.set_strategy(trainer.model, mode)
            peak[mode] = compare.step_memory(trainer, x, device)
        rows.append({"steps": steps, "parameters": sum(p.numel() for p in trainer.parameters.values()), "peak": peak})
    return rows


def study(config: Config, rounds: int, device: torch.device) -> list[dict]:
    """For each of COUNTS: seconds and peak memory of a study's first pass (`study.class_sums`), and of encode alone."""
    n, size = max(COUNTS), config.model.image_size
    pixels, rng = _images(config, n, torch.device("cpu")).numpy(), np.random.default_rng(0)
    labels = rng.integers(0, 2, (n, len(ATTRIBUTES))).astype(bool)
    dataset = Dataset("random", size, ATTRIBUTES, labels, np.zeros(n, np.uint8), None, None, pixels.__getitem__)
    on_device = torch.from_numpy(pixels).to(device)
    model = compare.prepare("glowkit", config, on_device[:64]).model
    works: dict[str, Callable[[int], object]] = {
        "study": lambda count: class_sums(model, dataset, np.arange(count)),
        "encode": lambda count: model.encode(on_device[:count], noise=BIN_CENTRES),
    }
    names = [("encode", min(COUNTS)), *(("study", count) for count in COUNTS)]
    seconds = compare.in_turns(lambda name: works[name[0]](name[1]), names, rounds, device, warm_up=1)
    return [
        {
            "work": work,
            "images": count,
            "seconds": seconds[work, count],
            "peak_memory": compare.peak_memory(lambda work=work, count=count: works[work](count), device),
        }
        for work, count in names
    ]


def _images(config: Config, n: int, device: torch.device) -> Tensor:
    shape = (n, 3, config.model.image_size, config.model.image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)


# -------------------------------------------------------------------------------------------------------- tables


def tables(result: dict) -> str:
    """Three tables in Markdown: shapes, memory by depth, study. Medians of an image with [quartiles].

    Memory is the peak of a step, without parameters and optimiser.
    """
    works = [f"{work}, ms an image | utilisation" for work in WORKS]
    rows = [["", "GFLOP of a step, an image", *" | ".join(works).split(" | "), "memory of a step, MB"]]
    for axis, values in result["sweeps"].items():
        for shape in values:
            rows.append([f"{LABELS[axis]} {shape['value']}", f"{WORKS['training step'] * shape['flops'] / 1e9:.3g}"])
            for work in WORKS:
                used = ceiling(result, shape, work) / np.median(shape["seconds"][work])
                rows[-1] += [_spread(1000 * np.array(shape["seconds"][work])), f"{used:.0%}"]
            rows[-1].append(f"{shape['peak_memory'] / 1e6:.0f}")
    depths = [["", *(f"`{mode}`, MB" for mode in memory.STRATEGIES), "of which gradients, MB"]]
    for row in result["memory"]:
        sizes = [*row["peak"].values(), 4 * row["parameters"]]
        depths.append([f"K = {row['steps']}", *(f"{size / 1e6:.0f}" for size in sizes)])
    studies = [["", "ms an image", "memory, MB"]]
    for row in result["study"]:
        each = 1000 * np.array(row["seconds"]) / row["images"]
        studies.append([f"{row['work']} of {row['images']}", _spread(each), f"{row['peak_memory'] / 1e6:.0f}"])
    return "\n\n".join(map(_markdown, (rows, depths, studies)))


def ceiling(result: dict, shape: dict, work: str) -> float:
    """Seconds of an image at the least: its operations at the machine's matrix peak."""
    return WORKS[work] * shape["flops"] / result["matrix_peak"][work]


def _spread(values: np.ndarray) -> str:
    low, middle, high = (f"{quartile:.3g}" for quartile in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{middle} [{low}, {high}]"


def _markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


# -------------------------------------------------------------------------------------------------------- figure


def figure(result: dict) -> Figure:
    """Time of an image against each of FACTORS over the ceiling, memory of a step against depth, time of a study."""
    figures.use_style()
    drawing, axes = plt.subplots(2, 3, figsize=(7.2, 4.8))
    colours = dict(zip(WORKS, ("blue", "vermillion"), strict=True))
    for axis, panel in zip(FACTORS, axes.flat, strict=False):
        values = result["sweeps"][axis]
        x = [shape["value"] for shape in values]
        for work, name in colours.items():
            low, middle, high = np.quantile([shape["seconds"][work] for shape in values], (0.25, 0.5, 0.75), axis=1)
            panel.plot(x, 1000 * middle, "o-", color=figures.COLOURS[name], label=work)
            panel.fill_between(x, 1000 * low, 1000 * high, color=figures.COLOURS[name], alpha=0.3, linewidth=0)
            least = [1000 * ceiling(result, shape, work) for shape in values]
            panel.plot(x, least, ":", color=figures.COLOURS[name], label=f"{work}: ceiling")
        panel.set(yscale="log", ylabel="ms an image" if axis in ("image_size", "batch") else None)
        _ticks(panel, x, LABELS[axis])
    limits = [panel.get_ylim() for panel in axes.flat[:4]]
    for panel in axes.flat[:4]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    depth, study = axes.flat[4:]
    x = [row["steps"] for row in result["memory"]]
    for mode, name in zip(memory.STRATEGIES, ("black", "green", "purple"), strict=True):
        peaks = [row["peak"][mode] / 1e6 for row in result["memory"]]
        depth.plot(x, peaks, "o-", color=figures.COLOURS[name], label=mode)
    depth.plot(x, [4 * row["parameters"] / 1e6 for row in result["memory"]], ":", color="grey", label="gradients")
    depth.set(title="memory of a step, MB", xlabel=LABELS["steps"], xticks=x, ylim=(0, None))
    depth.legend(fontsize=8, labelspacing=0.2, handlelength=1.2, borderaxespad=0)
    alone, *rows = result["study"]
    x = [row["images"] for row in rows]
    study.plot(x, [1000 * np.median(row["seconds"]) / row["images"] for row in rows], "o-", label="study")
    encode = 1000 * np.median(alone["seconds"]) / alone["images"]
    study.axhline(encode, color=figures.COLOURS[colours["encode"]], label="encode alone")
    _ticks(study, x, "images")
    study.set(title="study, ms an image", ylim=(0, 1.2 * encode))
    study.legend(loc="lower right")
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    plt.close(drawing)
    return drawing


def _ticks(panel: Axes, x: list[int], label: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [f"{value}" for value in x])
    panel.minorticks_off()
    panel.set_xlabel(label)
