"""What campaigns work on: a small tree of each kind, a tiny model with its run, study and judge."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from . import child

SIZE = 16  # pixels a side of the images that the model sees
LARGE = 64  # of crops that enlarge every face
ATTRIBUTES = ["Smiling", "Male", "Young"]
CONFIG = """\
data = "nowhere"

[model]
image_size = 16
levels = 2
steps = 2
width = 8
coupling = "affine"
bits = 5

[training]
steps = 8
batch = 8
learning_rate = 0.001
warmup = 2
clip = 1.0
average = 0.9
seed = 1
log_every = 1
checkpoint_every = 2
held_out = 8
"""
AUTOREGRESSIVE = """\
data = "nowhere"
kind = "autoregressive"

[model]
image_size = 16
bits = 5
patch = 4
blocks = 2
layers = 1
heads = 2
width = 8

"""


FEW = 6  # images in the small trees
REPLICATIONS = Path(__file__).parents[1] / "replications"
FETCHED = b"3 images\n" * 40  # a file to fetch
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(FETCHED)


def make(folder: Path) -> Path:
    """All of it, in an empty folder."""
    rng = np.random.default_rng(0)
    _tree(folder / "tree", rng, 24)
    _tree(folder / "few", rng, FEW)
    _tree(folder / "csv", rng, 6, comma=True)
    _zip(folder / "few", folder / "zipped", zipfile.ZIP_DEFLATED)
    _zip(folder / "few", folder / "stored", zipfile.ZIP_STORED)
    _packed(folder / "packed", rng, 200)
    _packed(folder / "small", rng, 12)
    (folder / "config.toml").write_text(CONFIG)
    shutil.copy(REPLICATIONS / "tiny.toml", folder / "plan.toml")
    (folder / "results").mkdir()
    shutil.copy(REPLICATIONS / "tiny-seed1.json", folder / "results")
    Image.fromarray(_pictures(rng, 1)[0].transpose(1, 2, 0)).save(folder / "face.png")
    (folder / "face.jpg").write_bytes((folder / "tree" / "img_align_celeba" / "000001.jpg").read_bytes())
    _pictures_of_all_kinds(folder)
    (folder / "ablation.toml").write_text('kind = "ablation"\n' + CONFIG.replace('"affine"', '"additive"\ntwist = 2.0'))
    (folder / "autoregressive.toml").write_text(AUTOREGRESSIVE + CONFIG[CONFIG.index("[training]") :])
    (folder / "answer").write_bytes(ANSWER + FETCHED)
    for action in (train(folder / "config.toml", folder / "packed", folder / "run"),
                   child.command("publish", folder / "run", folder / "bare")):  # fmt: skip
        _well(action, folder)
    shutil.copytree(folder / "bare", folder / "model")
    packed = folder / "packed"
    for action in (study("model", packed), judge("model", packed), judge("model", packed, second=True)):
        _well(action, folder)
    _measured(folder / "model")
    shutil.copytree(folder / "model", folder / "measured" / "model")
    for action in (child.command("linear", "flat", "--data", packed, "--n", 100),
                   measure_kept(packed)):  # fmt: skip
        _well(action, folder)
    shutil.copytree(folder / "run", folder / "half")
    _well(_half(folder), folder)
    for form in ("files", "packed"):
        _begun(folder, form)
    _ledger(folder / "claims")
    return folder


def _measured(model: Path) -> None:
    """A file as `glowkit measure` would leave it."""
    number = child.measured.Estimate(0.5, (0.4, 0.6), 100)
    rows = {
        "C36": child.measured.Found(number, "a control", number, number, {"alphas": [0.0, 1.0]}, "2026-11-26"),
        "B03": child.measured.Found(number, "another", centres=number, date="2026-11-26"),
    }
    child.measured.write(model, child.measured.Measures("model", "faces64 of data seed 1", 5000, rows))


def _well(action: child.Action, folder: Path) -> None:
    done = child.run(action, folder, patience=120)
    if done.status:
        raise RuntimeError(f"the campaign's own files could not be made: {done.err}")


# -------------------------------------------------------------------------------------------- the long commands


def train(config: Path, data: Path, out: Path | str) -> child.Action:
    return child.command("train", config, "--data", data, "--out", out, "--resume")


def study(model: Path | str, data: Path) -> child.Action:
    return child.command("study", model, "--data", data, "--n", 100)


def judge(model: Path | str, data: Path, second: bool = False) -> child.Action:
    """As `glowkit judge`, for one of the two and one epoch."""
    return child.library(lambda: child.judge.train_judge(model, data=data, epochs=1, second=second))


def measure(model: Path | str, data: Path) -> child.Action:
    return child.command("measure", model, "--data", data, "--row", "C08", "--row", "B01")


def measure_kept(data: Path) -> child.Action:
    """Measure again, from latents in the cache."""

    def action() -> None:
        os.environ["GLOWKIT_CACHE"] = "measured/cache"
        measure("measured/model", data)()

    return action


def record(folder: str) -> child.Action:
    """A verdict into the ledger, as chapters do."""

    def action() -> None:
        os.environ["GLOWKIT_CLAIMS"] = folder
        entry = dict(estimate=0.8, ci=(0.79, 0.81), n=1000, control="0.5 as printed", model="none")
        child.claims.record("C31", **entry)

    return child.library(action)


def _half(folder: Path) -> child.Action:
    """Bring the run in `half` back to its middle: stopped there, with two checkpoints to go."""

    def action() -> None:
        shutil.rmtree(folder / "half")
        step = child.training.Trainer.__call__

        def until_stopped(trainer, x):
            if trainer.step == 4:
                os._exit(0)
            return step(trainer, x)

        child.training.Trainer.__call__ = until_stopped
        train(folder / "config.toml", folder / "packed", folder / "half")()

    return action


def crop(tree: Path | str, out: Path | str, *options: str, size: int = SIZE) -> child.Action:
    return child.command("crop", tree, out, "--size", size, *options)


def _begun(folder: Path, form: str) -> None:
    """Crops of the tree `few` that were killed half way, in begun-FORM.part: large ones, so that there is to report."""
    out = f"begun-{form}"
    action = crop(folder / "few", out, *(["--packed"] if form == "packed" else []), size=LARGE)
    whole = child.run(action, folder)
    shutil.rmtree(folder / out)
    for at in range(whole.changes // 2, whole.changes):
        child.run(action, folder, child.Kill(at))
        report = folder / f"{out}.part" / child.cropping.REPORT
        if report.exists() and report.stat().st_size:
            return
        shutil.rmtree(folder / f"{out}.part", ignore_errors=True)
    raise RuntimeError("no kill leaves crops behind that are not finished")


# -------------------------------------------------------------------------------------------------------- data


def _pictures(rng: np.random.Generator, n: int, size: int = SIZE) -> np.ndarray:
    """uint8 (n, 3, size, size): blocks of colour."""
    block = size // 4
    return rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8).repeat(block, 2).repeat(block, 3)


def _pictures_of_all_kinds(folder: Path) -> None:
    """The face in other formats, and turned as a phone says it."""
    with Image.open(folder / "face.png") as face:
        for suffix in ("webp", "tiff", "gif", "bmp"):
            face.save(folder / f"face.{suffix}")
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "A phone"
        face.save(folder / "turned.jpg", exif=exif)


def _tree(folder: Path, rng: np.random.Generator, n: int, comma: bool = False) -> None:
    """Aligned images of CelebA's shape, JPEG and PNG by turns, and their lists, official or as CSV."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.{'png' if i % 2 else 'jpg'}" for i in range(n)]
    for name, pixels in zip(names, _pictures(rng, n, 56), strict=True):
        picture = Image.fromarray(pixels.transpose(1, 2, 0)).crop((0, 0, 44, 54))
        picture.save(folder / "img_align_celeba" / name, quality=90)
    eyes = np.array([[17, 27], [27, 27], [22, 33], [18, 39], [26, 39]]) + rng.integers(-1, 2, (n, 5, 2))
    _lists(folder, names, rng, eyes, comma)


def _lists(folder: Path, names: list[str], rng: np.random.Generator, points=None, comma: bool = False) -> None:
    labels = np.where(rng.random((len(names), len(ATTRIBUTES))) < 0.5, 1, -1)
    labels[: len(ATTRIBUTES)], labels[len(ATTRIBUTES) : 2 * len(ATTRIBUTES)] = 1, -1
    labels[-6:] = np.where(np.arange(6)[:, None] % 2, 1, -1)  # the held-out ones have both
    people = np.arange(len(names)) // 2 + 1
    splits = np.repeat([0, 1, 2], [len(names) - len(names) // 8 * 2, len(names) // 8, len(names) // 8])
    spots = [f"{p}_{axis}" for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    lists = {
        "list_attr_celeba": (ATTRIBUTES, labels),
        "identity_CelebA": (["identity"], people[:, None]),
        "list_eval_partition": (["partition"], splits[:, None]),
    }
    if points is not None:
        lists["list_landmarks_align_celeba"] = (spots, points.reshape(len(names), 10))
    for file, (header, rows) in lists.items():
        rows = [[name, *map(str, row)] for name, row in zip(names, rows, strict=True)]
        if comma:
            lines = [",".join(["image_id", *header]), *map(",".join, rows)]
        else:
            lines = [str(len(rows)), " ".join(header)] if len(header) > 1 else []
            lines += map(" ".join, rows)
        (folder / f"{file}{'.csv' if comma else '.txt'}").write_text("\n".join(lines) + "\n")


def _packed(folder: Path, rng: np.random.Generator, n: int) -> None:
    folder.mkdir()
    names = [f"{i + 1:06d}.jpg" for i in range(n)]
    np.save(folder / "img_align_celeba.npy", _pictures(rng, n))
    (folder / "img_align_celeba.txt").write_text("\n".join(names) + "\n")
    _lists(folder, names, rng)


def _zip(tree: Path, folder: Path, method: int) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w", method) as archive:
        for file in sorted((tree / "img_align_celeba").iterdir()):
            archive.write(file, f"img_align_celeba/{file.name}")
    for file in tree.glob("*.txt"):
        shutil.copy(file, folder)


def _ledger(folder: Path) -> None:
    entries = [
        {"id": id, "verdict": verdict, "estimate": 0.8, "ci": [0.79, 0.81], "n": 1000, "control": "0.5 as printed",
         "model": "none", "chapter": chapter, "figure": f"fig-{id.lower()}"}
        for id, verdict, chapter in (("C31", "wrong in the source", "07_grounding"),)
    ]  # fmt: skip
    folder.mkdir()
    (folder / "07_grounding.none.json").write_text(json.dumps(entries, indent=1) + "\n")
