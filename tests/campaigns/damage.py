"""Damage every kind of file that glowkit reads, run the command that reads it, and see what it makes of it.

Right is a result as it should be, of what is left or of other values that are right in themselves; right is also one
line on stderr and a status that says so, with nothing written. Anything else is a fault: a stack, a hang, a crash, more
than 2 GB of memory, half a result, or a result that is not finite or does not hold together.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from . import child, stage
from .kills import contents, memory
from .mutations import IMAGE, JSON, NPY, SAFETENSORS, TEXT, ZIP, Mutation
from .results import OTHER, keep, table, there

HEADER = ("kind", "tried", "right", "one line", OTHER)
MEMORY = 2 * 2**30  # bytes beyond what a child begins with
PATIENCE = 30  # seconds
SWAPPED = 0.03  # chance that another kind's file stands in the place of the damaged one


@dataclass(frozen=True)
class Kind:
    """Files to damage one at a time, in copies of `brings`, and the command that reads them.

    check: run after a command that ended well; says what is wrong with its result. writes: what the command may write,
    a pattern; kept: what a refusal may leave or change.
    """

    brings: tuple[str, ...]
    files: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    action: child.Action
    check: Callable[[], str]
    writes: str
    kept: str = "^$"


LISTS = ("list_attr_celeba", "list_landmarks_align_celeba", "identity_CelebA", "list_eval_partition")
LOCK = r".*\.?lock$"


def kinds(base: Path) -> dict[str, Kind]:
    resume = stage.train(base / "config.toml", base / "packed", "half")
    sample = child.command("sample", "model", "-o", "out.png", "--n", 4)
    cropped = {"check": _tree, "writes": r"^out(/|$)", "kept": r"^out\.part(/|$)"}
    unpacked = cropped | {"check": _whole_tree}
    picture = {"check": _picture, "writes": r"^out\.png$", "kept": LOCK}
    run = {"check": _run, "writes": r"^half(/|$)", "kept": rf"^half/log\.jsonl$|{LOCK}"}

    def edit(image: Path | str, model: Path | str) -> child.Action:
        return child.command("edit", image, "-a", "Smiling", "-o", "out.png", "--model", model)

    def few(folder: str, *names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A folder to bring, and files in it to damage."""
        return (folder,), tuple(f"{folder}/{name}" for name in names)

    def check(tree: str) -> dict:
        return {"action": child.command("celeba", "check", tree), "check": lambda: "", "writes": "^$"}

    report, settings, array = child.cropping.REPORT, child.cropping.SETTINGS, child.cropping.PACKED
    names = f"{array[:-4]}.txt"
    archive, stored = few("zipped", "img_align_celeba.zip"), few("stored", "img_align_celeba.zip")
    images = few("few", "img_align_celeba/000001.jpg", "img_align_celeba/000004.png")
    # A rate at which nothing can be learnt is found out by the run, which keeps where it began and what it logged.
    begun = r"^run(/(state\.safetensors|log\.jsonl))?$"
    config = {"check": lambda: "", "writes": r"^run(/|$)", "kept": begun}
    study = {"action": edit(base / "face.png", "model"), **picture}
    flat = child.command("sample", "flat", "-o", "out.png", "--n", 4)
    faces = [f"face.{suffix}" for suffix in ("webp", "tiff", "gif", "bmp")]
    cached = sorted(str(path.relative_to(base)) for path in (base / "measured/cache").rglob("*.npy"))
    found = {
        **{
            file: Kind((file,), (file,), TEXT, **config | {"action": _two_steps(base, file)})
            for file in ("config.toml", "ablation.toml", "autoregressive.toml")
        },
        "config.json": Kind(*few("model", "config.json"), JSON, sample, **picture),
        "model": Kind(*few("model", "model.safetensors"), SAFETENSORS, sample, **picture),
        "state": Kind(*few("half", "state.safetensors"), SAFETENSORS, resume, **run),
        "log": Kind(*few("half", "log.jsonl"), JSON, resume, **run | {"check": lambda: _log(base)}),
        "study": Kind(*few("model", "study.safetensors"), SAFETENSORS, **study),
        **{
            name: Kind(*few("model", file), SAFETENSORS, _judged(base, second), lambda: "", "^$")
            for name, file, second in (
                ("judge", "judge.safetensors", False),
                ("second judge", "second-judge.safetensors", True),
            )
        },
        "measures": Kind(
            *few("model", "measures.json"),
            JSON,
            child.library(lambda: child.measured.open_measures("model")),
            _measures,
            "^$",
        ),
        "lists": Kind(*few("few", *(f"{name}.txt" for name in LISTS)), TEXT, stage.crop("few", "out"), **cropped),
        "lists as CSV": Kind(
            *few("csv", *(f"{name}.csv" for name in LISTS)), TEXT, stage.crop("csv", "out"), **cropped
        ),
        "zip": Kind(*archive, ZIP, stage.crop("zipped", "out"), **unpacked),
        "zip, stored": Kind(*stored, ZIP, stage.crop("stored", "out", "--skip-faulty"), **unpacked),
        "zip, checked": Kind(*archive, ZIP, **check("zipped")),
        "packed": Kind(*few("small", array), NPY, stage.crop("small", "out"), **cropped),
        "packed names": Kind(*few("small", names), TEXT, stage.crop("small", "out"), **cropped),
        "images": Kind(*images, IMAGE, stage.crop("few", "out"), **cropped),
        "images, checked": Kind(*images, IMAGE, **check("few")),
        "face.png": Kind(("face.png",), ("face.png",), IMAGE, edit("face.png", base / "model"), **picture),
        "face.jpg": Kind(("face.jpg",), ("face.jpg",), IMAGE, edit("face.jpg", base / "model"), **picture),
        "face, turned": Kind(("turned.jpg",), ("turned.jpg",), IMAGE, edit("turned.jpg", base / "model"), **picture),
        **{f"{name}": Kind((name,), (name,), IMAGE, edit(name, base / "model"), **picture) for name in faces},
        "linear flow": Kind(*few("flat", "model.safetensors"), SAFETENSORS, flat, **picture),
        "linear flow's config.json": Kind(*few("flat", "config.json"), JSON, flat, **picture),
        "plan": Kind(
            ("plan.toml",),
            ("plan.toml",),
            TEXT,
            child.library(lambda: child.plan.read_plan("plan.toml")),
            lambda: "",
            "^$",
        ),
        "results of a plan": Kind(
            *few("results", "tiny-seed1.json"),
            JSON,
            child.library(lambda: child.results.open_replications("results")),
            _results,
            "^$",
        ),
        "latents kept": Kind(
            ("measured",),
            tuple(cached),
            NPY,
            stage.measure_kept(base / "packed"),
            lambda: _same_measures(base),
            "^measured/",
        ),
        "a mirror's answer": Kind(("answer",), ("answer",), TEXT, _asked, _fetched, "^out(/|$)", "^out(/|$)"),
        "claims": Kind(*few("claims", "07_grounding.none.json"), JSON, _scoreboard, _ledger, "^$"),
    }
    for form, options in (("files", ()), ("packed", ("--packed",))):
        out = f"begun-{form}"
        here, action = f"{out}.part", stage.crop(base / "few", out, *options, size=stage.LARGE)
        ends = {
            "check": lambda out=out: _tree(out, stage.LARGE, stage.FEW),
            "writes": rf"^{out}(\.part)?(/|$)",
            "kept": rf"^{here}(/|$)",
        }
        found[f"begun crops, {form}"] = Kind(*few(here, report, settings), TEXT, action, **ends)
    return found | {"begun crops, array": Kind(*few(here, names, array), TEXT, action, **ends)}


# ------------------------------------------------------------------------------------------------- the commands


def _two_steps(base: Path, config: str) -> child.Action:
    """Train for two steps, however many the config wants; not at all where a large model would take its time."""

    def action() -> None:
        step, initialise = child.training.Trainer.__call__, child.training.initialise

        def until_stopped(trainer, x):
            if trainer.step == 2:
                sys.exit(0)
            return step(trainer, x)

        def unless_large(model, *arguments):
            if sum(p.numel() for p in model.parameters()) > 100_000:
                sys.exit(0)
            initialise(model, *arguments)

        child.training.Trainer.__call__, child.training.initialise = until_stopped, unless_large
        stage.train(Path(config), base / "packed", "run")()

    return action


def _judged(base: Path, second: bool) -> child.Action:
    """Ask a judge, as the chapters do."""

    def action() -> None:
        x = child.training.open_dataset(base / "packed", size=stage.SIZE).images(range(4))
        known = child.judge.open_judge("model", second)
        for attribute in stage.ATTRIBUTES:
            known.says(x, attribute)
        if not known(x).isfinite().all():
            print("the judge's probabilities are not finite", file=sys.stderr)
            sys.exit(child.WRONG)

    return child.library(action)


def _asked() -> None:
    """Fetch one file from a mirror that answers what is in the file `answer`."""
    name = "list_attr_celeba.txt"
    for other in set(child.facts.DRIVE) - {name}:
        del child.facts.DRIVE[other]
    child.facts.MD5[name] = hashlib.md5(stage.FETCHED).hexdigest()
    child.fetch.PAUSE = 0
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            with server.accept()[0] as asked, suppress(OSError):
                asked.recv(2**16)
                asked.sendall(Path("answer").read_bytes())

    threading.Thread(target=answer, daemon=True).start()
    child.command("celeba", "fetch", "out", "--mirror", f"http://127.0.0.1:{server.getsockname()[1]}")()


def _scoreboard() -> None:
    os.environ["GLOWKIT_CLAIMS"] = "claims"
    child.command("claims")()


# --------------------------------------------------------------------------------------------------- the results


def _picture() -> str:
    pixels = np.asarray(Image.open("out.png"))
    broken = (pixels == child.pixels.BROKEN).all(-1).mean()
    return f"{broken:.0%} of the picture's pixels are not finite" if broken else ""


def _tree(out: str = "out", size: int = stage.SIZE, crops: int | None = None) -> str:
    tree = child.cropping.read(out)
    for i in range(len(tree)):
        tree.crop(i, size)
    if tree.image_size != (size, size) or tree.unused or tree.cut:
        return f"the crops are not as they should be: {tree.image_size}, {tree.unused}, {tree.cut}"
    return "" if crops in (None, len(tree)) else f"{len(tree)} crops, not {crops}"


def _whole_tree() -> str:
    """Every image is there, or the report says why not."""
    with Path("out", child.cropping.REPORT).open(newline="", encoding="utf-8") as lines:
        told = {name for name, problem, _ in list(csv.reader(lines))[1:] if problem == child.cropping.FAULTY}
    lost = stage.FEW - len({*child.cropping.read("out").names, *told})
    return f"{lost} images are lost without a word" if lost > 0 else _tree()


def _run() -> str:
    for file in ("model.safetensors", "state.safetensors"):
        tensors, _ = child.checkpoint.read_tensors(Path("half", file))
        if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            return f"{file}: {bad[0]} is not finite"
    return "" if {line["step"] for line in _lines("half") if "step" in line} else "the log is empty"


def _log(base: Path) -> str:
    """The run ends as it should have, and no good line of its log is lost."""
    for file in ("model.safetensors", "state.safetensors"):
        if Path("half", file).read_bytes() != (base / "run" / file).read_bytes():
            return f"{file} is not that of an undisturbed run"
    there = [line.get("step") for line in _lines("half")]
    before = Path("damaged").read_bytes().splitlines()
    lost = [line for line in (base / "half" / "log.jsonl").read_bytes().splitlines()
            if line in before and json.loads(line)["step"] not in there]  # fmt: skip
    return f"the log lost good lines: {lost[0].decode()}" if lost else ""


def _lines(run: str) -> list[dict]:
    return [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]


def _measures() -> str:
    for id, found in child.measured.open_measures("model").rows.items():
        for number in filter(None, (found.estimate, found.second, found.centres)):
            if not (
                np.isfinite([number.estimate, *number.ci]).all() and number.n >= 1 and isinstance(found.control, str)
            ):
                return f"{id} has {number}"
    return ""


def _fetched() -> str:
    (file,) = (path for path in Path("out").rglob("*") if path.is_file())
    return "" if file.read_bytes() == stage.FETCHED else f"{file} is not what the mirror has"


def _results() -> str:
    for found in child.results.open_replications("results"):
        numbers = [found.bits_per_dim, found.auc, *(row.estimate for row in found.rows.values() if row)]
        if not np.isfinite([(number.estimate, *number.ci) for number in numbers]).all():
            return f"{found.cell}: {numbers}"
    return ""


def _same_measures(base: Path) -> str:
    """Latents that were damaged are encoded again."""
    before, after = (child.measured.open_measures(place / "measured/model").rows for place in (base, Path()))
    return "" if before == after else f"measured {after}, not {before}"


def _ledger() -> str:
    for entry in child.claims.load():
        numbers = () if entry.estimate is None else (entry.estimate, *entry.ci, entry.n)
        if not all(isinstance(x, (int, float)) and np.isfinite(x) for x in numbers):
            return f"the ledger has {numbers}"
        if not all(isinstance(text, str) for text in (entry.control, entry.model, entry.chapter, entry.figure)):
            return f"the ledger has {entry}"
    return ""


# ------------------------------------------------------------------------------------------------------ the cases


def case(name: str, kind: Kind, base: Path, seed: int, number: int, keep: Path | None = None) -> tuple[str, str]:
    """Damage a file: "right", "one line" or "", and what was wrong."""
    chance = random.Random(f"{seed} {name} {number}")
    with tempfile.TemporaryDirectory(dir=base) as place:
        folder = Path(place)
        for source in kind.brings:
            copy = shutil.copytree if (base / source).is_dir() else shutil.copy
            copy(base / source, folder / source)
        path = folder / chance.choice(kind.files)
        data = path.read_bytes()
        if chance.random() < SWAPPED:
            how, data = "swapped", _another(base, chance).read_bytes()
        else:
            mutation = chance.choice(kind.mutations)
            how, data = mutation.__name__, mutation(data, chance)
        path.write_bytes(data)
        if name == "log":
            (folder / "damaged").write_bytes(data)
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
        before = contents(folder)
        done = child.run(kind.action, folder, check=kind.check, memory=MEMORY, patience=PATIENCE)
        after = contents(folder)
        wrong = done.fault() or _strays(before, after, kind.kept if done.status else kind.writes)
    if wrong:
        return "", f"{name} {number} ({path.relative_to(folder)}, {how}): {wrong}"
    return "one line" if done.status else "right", ""


def _another(base: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(path for path in base.glob("*/*") if path.is_file() and path.stat().st_size < 2**20))


def _strays(before: dict[str, str], after: dict[str, str], allowed: str) -> str:
    """Files that are not as they were, or new, and should not be."""
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    strays = sorted(name for name in changed if not re.search(allowed, name))
    temporary = sorted(name for name in after if name not in before and re.search(r"(^|/)\.[^/]*$|\.part$", name)
                       and not re.search(LOCK, name) and not re.search(allowed, name))  # fmt: skip
    return f"writes or changes {', '.join(sorted({*strays, *temporary})[:4])}" if strays or temporary else ""


def campaign(
    n: int,
    seed: int,
    only: tuple[str, ...],
    number: int | None,
    kept: Path | None,
    out: Path | None,
    resume: bool = False,
) -> tuple[dict[str, list[int]], list[str]]:
    """n damaged files of each kind: a table, kept in `out` row by row, and a line for each way of being wrong."""
    rows, wrong = {}, {}
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        base = stage.make(Path(place))
        chosen = {name: kind for name, kind in kinds(base).items() if not only or name in only}
        with child.Bar(total=n * len(chosen), desc="damage", unit="file") as bar:
            for name, kind in chosen.items():
                if resume and there(out, name, 0, n, seed):
                    bar.update(n)
                    continue
                row = rows[name] = [0, 0, 0, 0]
                for k in range(n) if number is None else (number,):
                    result, fault = case(name, kind, base, seed, k, kept)
                    row[0] += 1
                    row[1 + ("right", "one line", "").index(result)] += 1
                    if fault:
                        told = re.sub(r"[\d.]+|'[^']*'", "#", fault.partition("): ")[2])[:120]
                        wrong.setdefault((name, told), []).append(fault)
                    bar.update()
                if out:
                    keep(out, {name: row}, HEADER, seed)
    lines = [f"{len(faults)} x {faults[0]}" for faults in wrong.values()]
    return rows, lines


@click.command()
@click.option("--n", default=100, show_default=True, help="How many damaged files of each kind.")
@click.option("--seed", default=0, show_default=True, help="Another seed damages them otherwise.")
@click.option("--kind", multiple=True, help="This kind of file alone; may be given again.")
@click.option("--case", type=int, help="One case alone, as a fault names it.")
@click.option("--keep", "kept", type=Path, help="Copy the damaged file of that case, and what is beside it, here.")
@click.option("--out", type=Path, help="Put the table's rows into this CSV file.")
@click.option("--resume", is_flag=True, help="Leave out kinds of which that file has so many, of this seed.")
def main(
    n: int, seed: int, kind: tuple[str, ...], case: int | None, kept: Path | None, out: Path | None, resume: bool
) -> None:
    """Damage files at random; the command that reads one must be right, or refuse it in one line."""
    rows, wrong = campaign(n, seed, kind, case, kept, out, resume)
    click.echo("\n".join([*wrong, table(rows, HEADER)]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
