"""The sweep: one thing varied at a time, its operations counted by hand, and a page that says what was measured."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glowkit import intervals, memory
from glowkit.bench import compare, scaling
from glowkit.cli import app
from glowkit.flow import GlowConfig
from glowkit.training import Config, Settings, read_config

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "book" / "measured"
CPU = torch.device("cpu")
TINY = """
[model]
image_size = 16
levels = 1
steps = 2
width = 4
coupling = "additive"
[training]
batch = 4
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> tuple[Path, dict, str]:
    """Folder, numbers and printed lines of the command on a tiny config."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "FACTORS", dict.fromkeys(scaling.FACTORS, (1, 2)))
        patch.setattr(scaling, "DEPTHS", (1, 4))
        patch.setattr(memory, "GROUP", 2)  # no more than the steps of the shallower: a group's kernels are no depth
        patch.setattr(scaling, "COUNTS", (8, 16))
        patch.setattr(compare, "matrix_peak", lambda device, dtype: 1e9 if dtype == torch.float32 else 2e9)
        patch.setattr(sys, "argv", ["glowkit", "cost", "tiny.toml"])
        lines = []
        patch.setattr("click.echo", lines.append)
        with pytest.raises(SystemExit) as caught:
            app(["cost", str(folder / "tiny.toml"), "--rounds", "2", "--json", str(folder / "tiny.json")])
    assert not caught.value.code
    return folder, json.loads((folder / "tiny.json").read_text()), "\n".join(lines)


def test_one_thing_is_varied_at_a_time():
    config = read_config(ROOT / "configs" / "bench64.toml")
    expected = {
        "image_size": [16, 32, 64, 128],
        "steps": [2, 4, 8, 16],
        "width": [32, 64, 128, 256],
        "batch": [1, 4, 16, 64],
    }
    for axis, values in expected.items():
        shapes = scaling.shapes(config, axis, scaling.FACTORS[axis])
        assert list(shapes) == values
        for value, shape in shapes.items():
            if axis == "batch":
                assert shape == replace(config, training=replace(config.training, batch=value))
            else:
                assert shape == replace(config, model=replace(config.model, **{axis: value}))


def test_shapes_that_no_model_can_have_are_left_out():
    config = Config(GlowConfig(256, 6, 2, 4), Settings(batch=2))
    assert list(scaling.shapes(config, "image_size", (1 / 8, 1 / 4, 1, 2))) == [64, 256]
    assert list(scaling.shapes(config, "batch", (1 / 16, 1, 4))) == [1, 2, 8]


def test_the_command_writes_every_number_and_the_picture(tiny):
    folder, result, printed = tiny
    assert result["command"] == "glowkit cost tiny.toml" and result["torch"] == torch.__version__
    assert set(result) == {
        *("command", "machine", "threads", "torch", "date", "config", "dtype", "matrix_peak"),
        *("sweeps", "memory", "study"),
    }
    values = {axis: [row["value"] for row in rows] for axis, rows in result["sweeps"].items()}
    assert values == {"image_size": [16, 32], "steps": [2, 4], "width": [4, 8], "batch": [4, 8]}
    for rows in result["sweeps"].values():
        for row in rows:
            assert all(len(row["seconds"][work]) == 2 and min(row["seconds"][work]) > 0 for work in scaling.WORKS)
    assert printed.strip() == scaling.tables(result)
    assert (folder / "tiny.svg").read_text().count("<svg") == 1


def test_operations_and_ceiling_are_those_of_the_convolutions(tiny):
    _, result, _ = tiny
    for row in result["sweeps"]["image_size"]:
        # At 12 channels two steps of a 1x1 convolution and a net of 6 channels with ones beside them, 4, 4, and 6.
        per_pixel = 12 * 12 + 9 * 7 * 4 + 4 * 4 + 9 * 4 * 6
        assert row["flops"] == pytest.approx(2 * 2 * (row["value"] // 2) ** 2 * per_pixel)
        assert scaling.ceiling(result, row, "encode") == pytest.approx(row["flops"] / 1e9)
        step = result["dtype"]["training step"]
        assert scaling.ceiling(result, row, "training step") == pytest.approx(
            3 * row["flops"] / {"float32": 1e9, "bfloat16": 2e9}[step]
        )


def test_memory_is_what_each_mode_keeps(tiny):
    _, result, _ = tiny
    assert [row["steps"] for row in result["memory"]] == [2, 8]
    kept = [{mode: peak - 4 * row["parameters"] for mode, peak in row["peak"].items()} for row in result["memory"]]
    growth = {mode: kept[-1][mode] - kept[0][mode] for mode in kept[0]}
    assert growth["store"] > 2 * growth["recompute"] > 8 * abs(growth["invert"])


def test_a_study_takes_the_memory_of_its_sums(tiny):
    _, result, _ = tiny
    alone, *studies = result["study"]
    assert (alone["work"], alone["images"]) == ("encode", 8)
    assert [row["images"] for row in studies] == [8, 16]
    sums = 2 * (1 + 2 * 41) * 3 * 16**2 * 8  # float64: squares, and sums of two halves, of latents and of pixels
    assert all(row["peak_memory"] > sums for row in studies)


# ------------------------------------------------------------------------------------------------------ the page


def measured(name: str) -> dict:
    """The numbers of a file, with arrays for the lists that tables are made of."""
    result = json.loads((MEASURED / name).read_text())
    sides = [*(side["seconds"] for side in result.get("speed", {}).values()), *result.get("quality", {}).values()]
    for side in sides:
        side |= {key: np.array(values) for key, values in side.items()}
    return result


PAGE = (ROOT / "book" / "cost.md").read_text()


def test_the_page_says_what_was_measured_on_a_card():
    result = measured("card-h100.json")
    for name in ("card", "date", "torch", "commit"):
        assert str(result[name]) in PAGE
    for row in result["rows"]:
        numbers = (row["batch"], row["train"], row.get("encode"), row.get("decode"), row["gigabytes"])
        cells = (row["shape"], row["who"], f"`{row['memory']}`", *("" if n is None else f"{n:g}" for n in numbers))
        assert f"| {' | '.join(cells)} |" in PAGE
    for part in ("kernel_by_kernel", "one_graph"):
        assert f"{result[part]['milliseconds']} ms" in PAGE.replace("\n", " ")
    assert f"{result['faces_a_second']:,} a second" in PAGE and f"{result['peaks']['bfloat16']} TFLOP/s" in PAGE


FILES = {kind: sorted(path.name for path in MEASURED.glob(f"{kind}-*.json")) for kind in ("cost", "bench")}


@pytest.mark.parametrize("name", FILES["cost"])
def test_the_page_shows_the_tables_and_the_picture_of_every_sweep(name):
    for table in scaling.tables(measured(name)).split("\n\n"):
        assert table in PAGE
    assert f"measured/{Path(name).stem}.svg" in PAGE and (MEASURED / name).with_suffix(".svg").exists()


@pytest.mark.parametrize("name", FILES["bench"])
def test_the_page_shows_the_tables_of_every_bench(name):
    result = measured(name)
    assert compare.speed_table(result["speed"], result["config"]["training"]["batch"]) in PAGE
    if "quality" in result:
        assert compare.quality_table(result["quality"], intervals.Estimate(*result["difference"])) in PAGE


def test_the_sentences_of_the_page_have_the_numbers_of_the_cpu():
    result, beside = measured("cost-cpu.json"), measured("bench-cpu.json")["speed"]
    step, encode = scaling.WORKS
    shapes = {(axis, shape["value"]): shape for axis, values in result["sweeps"].items() for shape in values}

    def ms(axis: str, value: int, work: str) -> float:
        return 1000 * np.median(shapes[axis, value]["seconds"][work])

    def growth(axis: str, low: int, high: int, work: str) -> str:
        return f"{ms(axis, high, work) / ms(axis, low, work):.1f}"

    def used(axis: str, value: int, work: str) -> str:
        return f"{1000 * scaling.ceiling(result, shapes[axis, value], work) / ms(axis, value, work):.0%}"

    def ratio(work: str) -> str:
        ours, theirs = (side["seconds"][work] for side in beside.values())
        return f"{np.median(theirs / ours):.2f}"

    peaks = [f"{peak / 1e9:.0f}" for peak in result["matrix_peak"].values()]
    operations = f"{shapes['width', 256]['flops'] / shapes['width', 32]['flops']:.0f}"
    inverting = {row["steps"]: (row["peak"]["invert"] - 4 * row["parameters"]) / 1e6 for row in result["memory"]}
    each = [np.median(row["seconds"]) / row["images"] for row in result["study"]]
    ours, theirs = beside.values()
    used_by_peer = theirs["flops"] / np.median(theirs["seconds"][step]) / theirs["matrix_peak"]
    affine, kernels = (
        np.median(ours["seconds"][f"assembly of {what}"] / ours["seconds"][step]) for what in ("W", "all kernels")
    )
    alone, alone_peer = (side["seconds"][step] for side in measured("bench-cpu-1-thread.json")["speed"].values())
    fast_errors = measured("bench-cpu.json")["quality"]["glowkit"]["fast_round_trip"]
    strip = np.median(ours["seconds"]["decode of 8 alphas"] / ours["seconds"]["decode of 8"])
    text = " ".join(PAGE.split())
    for sentence in (
        f"PyTorch {result['torch'][:4]}, {result['date'][:10]}",
        f"Medians of {len(shapes['batch', 16]['seconds'][step])} rounds",
        f"{peaks[0]} GFLOP/s in bfloat16 for a training step and {peaks[1]} in float32 for encoding",
        f"takes {growth('steps', 2, 16, step)} times as long in a step, "
        f"{growth('steps', 2, 16, encode)} times to encode",
        f"{growth('image_size', 16, 32, step)} times the time of a step from 16 to 32 pixels and "
        f"{growth('image_size', 64, 128, step)} times from 64 to 128",
        f"utilisation goes from {used('image_size', 16, step)} to {used('image_size', 128, step)}",
        f"From 32 to 256 there are {operations} times as many, and a step takes {growth('width', 32, 256, step)} times",
        f"A step on one image takes {ms('batch', 1, step):.0f} ms, on 64 images {ms('batch', 64, step):.0f} ms each",
        f"({ms('batch', 1, encode):.0f} ms, then {ms('batch', 64, encode):.0f})",
        f"gets {used('batch', 64, encode)} of its lower ceiling with 64 images",
        f"`invert` takes {inverting[8]:.0f} MB at K = 8 and {inverting[32]:.0f} MB at K = 32",
        f"cost {each[-1] / each[0]:.2f} times what encoding",
        f"encoding is {ratio('encode')} times and decoding {ratio('decode')} times as fast",
        f"A training step is {ratio(step)} times as fast, and {np.median(alone_peer / alone):.2f} times on one thread",
        f"is {ratio('fast decode')} times as fast as normflows' decode",
        f"{np.median(fast_errors):.3f} of the range at the median and by {fast_errors.max():.3f} at most",
        f"normflows' step is at {used_by_peer:.0%} of the float32 peak",
        f"convolutions take {affine:.1%} of a step, and all kernels, with the scales of their actnorms folded in, "
        f"{kernels:.1%}",
        f"decoded in {strip:.2f} times the time of eight faces",
    ):
        assert sentence in text
