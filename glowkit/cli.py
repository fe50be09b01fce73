"""The command line: each command checks what it is given and calls the library.

Bad input ends with one line on stderr and status 1 (2 for a misused command), never with a stack. Modules
that bring in torch are imported inside the commands, so `glowkit --help` is immediate.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from glowkit import __version__
from glowkit.errors import GlowkitError


class Command(click.Command):
    """A command of which a list tells the first sentence, whole: click breaks it where the line ends."""

    def get_short_help_str(self, limit: int = 0) -> str:
        return super().get_short_help_str(limit=1000)


class ExpandedPath(click.ParamType):
    """A path; `~` in it may come from a script or a quoted argument, which a shell leaves alone."""

    name = "path"

    def convert(self, value: str | Path, param, context) -> Path:
        from glowkit.files import expanded

        return expanded(value)


PATH = ExpandedPath()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within, Ctrl-C is KeyboardInterrupt whatever others make of it: PyTorch, stopped while it reads a tensor, raises
    a ValueError. What glowkit itself makes of it, a line on how to go on, stays."""
    pressed = []

    def press(*_: object) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # whoever called us hears Ctrl-C, or has shut it out
        yield
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield
    except GlowkitError:
        raise
    except Exception:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)


class OneLineErrors(click.Group):
    """A group of commands whose predictable failures are told in one line."""

    command_class = Command
    group_class = type  # groups within it are of its kind

    def main(self, *args, **kwargs) -> None:
        try:
            with _interruptible():
                if isinstance(sys.stdout, io.TextIOWrapper):
                    sys.stdout.reconfigure(errors="backslashreplace")  # a name may have letters that a terminal has not
                os.environ["MPLBACKEND"] = "agg"  # commands write figures and show none, whatever the reader has chosen
                sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            command = error.ctx.command_path if getattr(error, "ctx", None) else "glowkit"
            message, status = f"{error.format_message()} ({command} --help tells more)", error.exit_code
        except (click.Abort, KeyboardInterrupt):  # click sees those that come while it runs a command
            message, status = "stopped", 130
        except GlowkitError as error:
            message, status = str(error), 1
        except BrokenPipeError:
            # The reader of our output left: nothing to tell, and nobody to tell it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            where = error.filename2 or error.filename  # of a renaming, the name that was wanted
            message, status = f"{where}: {error.strerror}" if where else str(error), 1
        click.echo("glowkit: " + " ".join(message.split()), err=True)
        sys.exit(status)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def app() -> None:
    """Train, study and edit with Glow, a normalizing flow, on procedural faces or CelebA."""


MAX_PICTURE = 2**25  # pixels of a picture that is written
STILL = (".png", ".jpg", ".jpeg", ".webp")

MODEL = click.argument("model")  # everywhere a bundled name (faces64) or a folder; also an option of `edit`
DATA = click.option("--data", help="faces64 or the path of a CelebA tree, instead of what the model was trained on.")
DEVICE = click.option("--device", help="cpu, cuda, or cuda:1, say; by default a card where there is one.")
KIND = click.option(
    "--images",
    type=click.Choice(["img_celeba", "img_align_celeba"]),
    help="Which images, where there are both; by default those in the wild if their landmarks are there.",
)


# ------------------------------------------------------------------------------------------------------ data


@app.command()
@click.argument("out", type=PATH)
@click.option("--n", default=1000, help="How many faces.")
@click.option("--size", default=64, help="Pixels a side of an aligned face, 32 to 256.")
@click.option("--seed", default=0, help="Another seed draws other faces.")
def faces(out: Path, n: int, size: int, seed: int) -> None:
    """Write N procedural faces to the new folder OUT as a CelebA tree, aligned and in the wild."""
    from glowkit import faces

    faces.write_tree(out, n, size, seed)


@app.group()
def celeba() -> None:
    """Look after a CelebA tree."""


@celeba.command()
@click.argument("out", type=PATH)
@click.option("--mirror", metavar="URL", help="A folder with the official files, to use instead of Google Drive.")
def fetch(out: Path, mirror: str | None) -> None:
    """Fetch the aligned images and the lists of CelebA to the folder OUT (1.4 GB), for research that is not commercial.

    If it is interrupted, the same command resumes where it stopped.
    """
    from glowkit.celeba import fetch

    for file in fetch.fetch(out, mirror):
        click.echo(f"{file} is the official file, by its md5 sum")


@celeba.command()
@click.argument("path", type=PATH)
@KIND
def check(path: Path, images: str | None) -> None:
    """Read every file of the CelebA tree at PATH, a folder or a zip: what is there, and what can be done with it."""
    from glowkit.celeba import check

    for line in check.check(path, images):
        click.echo(line)


@celeba.command()
@click.argument("src", type=PATH)
@click.argument("out", type=PATH)
@click.option("--size", default=256, help="Pixels a side.")
@click.option(
    "--padding",
    type=click.Choice(["edge", "reflect", "blur"]),
    default="edge",
    help="Beyond the edge of a photograph: its last pixels, its mirror image, or that and blurred.",
)
@click.option("--packed", is_flag=True, help="One array, which training maps from disk, instead of many files.")
@click.option("--skip-faulty", is_flag=True, help="Leave out images that cannot be read.")
@KIND
def crop(src: Path, out: Path, size: int, padding: str, packed: bool, skip_faulty: bool, images: str | None) -> None:
    """Crop the CelebA tree SRC to squares with the eyes in place, and write them to the new folder OUT.

    If it is interrupted, the same command resumes where it stopped.
    """
    from glowkit.celeba import cropping

    found = cropping.crop_tree(src, out, size, images, padding, packed, skip_faulty)
    click.echo(f"{found.pop('crops'):,} crops of {size} x {size} pixels in {out}")
    for problem, n in found.items():
        click.echo(f"{problem}: {n:,} images, listed in {out / cropping.REPORT}")


app.add_command(crop)  # `glowkit crop` is `glowkit celeba crop`: it is what the book and its readers have long called


# ---------------------------------------------------------------------------------------------------- models


@app.command()
@click.argument("config", type=PATH)
@click.option("--data", help="faces64 or the path of a CelebA tree, instead of the config's own.")
@click.option("--out", type=PATH, help="Folder of the run; by default runs/ and the config's name.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--minutes", type=float, help="As many steps as fit into this time, instead of the config's.")
@click.option("--start", metavar="MODEL", help="Begin with the weights of a model of the same shape.")
@DEVICE
def train(
    config: Path,
    data: str | None,
    out: Path | None,
    resume: bool,
    minutes: float | None,
    start: str | None,
    device: str | None,
) -> None:
    """Train the Glow that the file CONFIG (configs/faces64.toml, say) describes."""
    from glowkit import training

    _say_once(training.train(config, data, out, resume, device, minutes, start))


@app.command()
@click.argument("out", type=PATH)
@click.option("--data", default="faces64", help="faces64 or the path of a CelebA tree.")
@click.option("--n", default=12_000, help="How many training images; where there are fewer, all.")
def linear(out: Path, data: str, n: int) -> None:
    """Fit the linear flow, the control of every Glow, to a data set, and put it in the folder OUT."""
    from glowkit import checkpoint, dataset, linear
    from glowkit.files import alone_in

    flow, scores = linear.fit(dataset.open_dataset(data), _positive("--n", n))
    with alone_in(out):
        checkpoint.save(flow, out, data)
    for rank, bits in scores.items():
        click.echo(f"rank {rank}: {bits:.4f} bits/dim of the validation split")
    click.echo(f"{out}: rank {flow.config.rank}")


@app.command()
@MODEL
@click.argument("out", type=PATH)
def publish(model: str, out: Path) -> None:
    """Put MODEL, the folder of a training run, in the folder OUT, its kernels rounded to 16 bits: half the size."""
    from glowkit import checkpoint
    from glowkit.files import alone_in

    with alone_in(out):
        checkpoint.save(checkpoint.load(model), out, checkpoint.data_of(model), half=True)
    click.echo(out)


@app.command()
@MODEL
@DATA
@click.option(
    "--row", "rows", multiple=True, help="A row of the ledger, again if need be [default: all not measured yet]."
)
def measure(model: str, data: str | None, rows: tuple[str, ...]) -> None:
    """Measure the ledger's findings on MODEL, with its study and both judges; they are kept beside it."""
    from glowkit import measures

    click.echo(measures.measure(model, data=data, rows=rows))


@app.command()
@click.argument("plan", type=PATH, default="configs/replications.toml")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, help="How many models at a time, a thread each.")
@click.option("--out", type=PATH, default=Path("data/replications"), help="Folder of the results.")
@click.option("--only", help="One cell of the plan, or one of its runs: affine-capped-seed1, say.")
def replicate(plan: Path, jobs: int, out: Path, only: str | None) -> None:
    """Train, study and measure the small models of the file PLAN; run again, it goes on where it was stopped."""
    from glowkit.replications.plan import read_plan
    from glowkit.replications.run import replicate

    for file in replicate(read_plan(plan), out, jobs, only=only):
        click.echo(file)


@app.command()
@MODEL
@DATA
@click.option("--n", default=12_000, help="How many training images; where there are fewer, all.")
@click.option("--draws", type=click.IntRange(0, 64), default=2, help="Latents with noise of each; 0: bin centres only.")
@DEVICE
def study(model: str, data: str | None, n: int, draws: int, device: str | None) -> None:
    """Encode a data set with MODEL and keep its statistics beside it. torchrun shares the work."""
    from glowkit import study

    _say_once(study.write_study(model, data=data, n=_positive("--n", n), device=device, draws=draws))


@app.command()
@MODEL
@DATA
@DEVICE
def judge(model: str, data: str | None, device: str | None) -> None:
    """Train the two judges of edits on a data set's pixels and keep them beside MODEL."""
    from glowkit import judge

    for second in (False, True):
        click.echo(judge.train_judge(model, data=data, device=device, second=second))


@app.command(name="check")
@MODEL
@DATA
@click.option("--n", default=100, help="How many held-out images.")
@DEVICE
def check_model(model: str, data: str | None, n: int, device: str | None) -> None:
    """Round-trip certificate of MODEL, a bundled one or a folder: how exactly decode inverts encode."""
    from glowkit import certificate, checkpoint, dataset, devices

    flow = checkpoint.load(model, devices.choose(device))
    images = dataset.open_dataset(data or checkpoint.data_of(model), size=flow.config.image_size)
    held_out = images.subset("test")[: _positive("--n", n)]
    if not len(held_out):
        raise GlowkitError(f"{images.name}: no images in the test split")
    result = certificate.certify(flow, images.images(held_out))
    click.echo(result)
    if not result.holds:
        raise GlowkitError(f"{model}: the round trip is not exact enough")


@app.command()
@click.argument("config", type=PATH, default="configs/bench64.toml")
@click.option("--data", help="faces64 or the path of a CelebA tree, instead of the config's own.")
@click.option("--steps", type=click.IntRange(0, 2**24), help="How long to train, not as the config says; 0: not.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=20, help="How often to take each time.")
@click.option("--peer/--no-peer", default=True, help="Beside it the Glow of normflows, where it is installed.")
@click.option("--out", type=PATH, help="Folder to keep the trainings in; run again, they go on from there.")
@click.option("--json", "file", type=PATH, help="All the numbers, in this file.")
@DEVICE
def bench(
    config: Path,
    data: str | None,
    steps: int | None,
    rounds: int,
    peer: bool,
    out: Path | None,
    file: Path | None,
    device: str | None,
) -> None:
    """Time the Glow that the file CONFIG describes, and train it for its steps, beside the Glow of normflows."""
    from dataclasses import replace

    from glowkit import training
    from glowkit.bench import compare

    if file:
        _check_folder(file)
    plan = training.read_config(config)
    settings = replace(plan.training, steps=steps) if steps else plan.training
    plan = replace(plan, data=data or plan.data, training=settings)
    result = compare.measure(plan, peer, rounds, out, tell=click.echo, train=steps != 0, device=device)
    _write_numbers(file, result)


@app.command()
@click.argument("config", type=PATH, default="configs/bench64.toml")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=5, help="How often to take each time.")
@click.option("--json", "file", type=PATH, help="All the numbers, in this file, and the picture beside it as .svg.")
@DEVICE
def cost(config: Path, rounds: int, file: Path | None, device: str | None) -> None:
    """Measure how the cost of a Glow grows with each side of its shape, about that of the file CONFIG."""
    from glowkit import training
    from glowkit.bench import scaling
    from glowkit.files import replacing

    if file:
        _check_folder(file)
    result = scaling.measure(training.read_config(config), rounds, tell=click.echo, device=device)
    _write_numbers(file, result)
    if file:
        with replacing(file.with_suffix(".svg")) as temporary:
            scaling.figure(result).savefig(temporary)


@app.command()
@click.argument("out", type=PATH)
@click.option("--minutes", default=14.0, help="How long it may take in all.")
@click.option("--train", "config", type=PATH, help="A config to train in the time that the measurements leave.")
@DEVICE
def card(out: Path, minutes: float, config: Path | None, device: str | None) -> None:
    """Ask a CUDA card all there is to ask in one go, numbers and model in the folder OUT: is it exact, is it fast?"""
    from glowkit import devices, training
    from glowkit.bench import card

    if config:
        training.read_config(config)  # or a slip would be found after minutes
    card.measure(out, devices.choose(device), minutes, config, tell=click.echo)


@app.command()
@MODEL
@click.option("--out", "-o", type=PATH, required=True, help="The picture to write: grid.png, say.")
@click.option("--n", default=64, help="How many samples.")
@click.option("--temperature", default=0.7, help="0 gives the mean face, 1 the model's own distribution.")
@click.option("--seed", default=0, help="Another seed draws other samples.")
@DEVICE
def sample(model: str, out: Path, n: int, temperature: float, seed: int, device: str | None) -> None:
    """Draw samples from MODEL, a bundled one (faces64) or a folder, into one picture."""
    _check_picture(out)
    if not 0 <= temperature < float("inf"):
        raise GlowkitError(f"--temperature {temperature:g}: give a number from 0, such as 0.7")
    _positive("--n", n)
    if not -(2**63) <= seed < 2**64:
        raise GlowkitError(f"--seed {seed}: give a whole number of up to 64 bits")
    import torch

    from glowkit import checkpoint, devices

    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same samples on any device
    flow = checkpoint.load(model, devices.choose(device))
    most = MAX_PICTURE // flow.config.image_size**2
    if n > most:
        raise GlowkitError(f"--n {n}: a picture of {MAX_PICTURE:,} pixels has room for {most:,} samples")
    _write_picture(out, flow.sample(n, temperature=temperature, generator=generator), columns=round(n**0.5))


@app.command()
@click.argument("image", type=PATH, required=False)
@click.option("--demo", is_flag=True, help="Take a face of nobody, chosen to show a smile, instead of IMAGE.")
@click.option("--attribute", "-a", required=True, help="What to add: Smiling, say. An unknown one lists all.")
@click.option("--alpha", default=1.0, help="How much: 1 is the mean difference; negative takes away.")
@click.option("--out", "-o", type=PATH, required=True, help="strip.png, .jpg or .webp; smile.gif moves.")
@click.option("--animate", is_flag=True, help="A .webp that moves, there and back, as a .gif does.")
@click.option("--model", default="faces64", help="A bundled model or the folder of one, with its study.")
@click.option(
    "--direction",
    type=click.Choice(["mean", "partial", "conditional", "shrunk"]),
    default="mean",
    help="mean: the difference of means. The others take off what goes with it (book, chapter 10, B10).",
)
@click.option(
    "--eyes",
    nargs=4,
    type=float,
    metavar="X1 Y1 X2 Y2",
    help="Middles of the eyes in IMAGE, in pixels, the left in the picture first.",
)
@DEVICE
def edit(
    image: Path | None,
    demo: bool,
    attribute: str,
    alpha: float,
    out: Path,
    animate: bool,
    model: str,
    direction: str,
    eyes: tuple[float, ...] | None,
    device: str | None,
) -> None:
    """Add an attribute to the face in IMAGE, in five steps.

    Without --eyes they are looked for, where OpenCV is installed (pip install 'glowkit[eyes]'); else IMAGE is taken
    for an aligned face. What looks wrong is said and the picture written all the same, for you may mean it: no eyes
    found, eyes the wrong way round, latents unlike those of faces. Refused is what has no meaning, such as eyes that
    coincide or an attribute that the model does not know.
    """
    animate = animate or out.suffix.lower() == ".gif"
    _check_picture(out, (".gif", ".webp") if animate else STILL)
    if (image is None) != demo:
        raise GlowkitError("edit: give either an IMAGE or --demo")
    if demo and eyes:
        raise GlowkitError("edit: --eyes are those of an IMAGE; --demo needs none")
    if not abs(alpha) < float("inf"):
        raise GlowkitError(f"--alpha {alpha}: give a finite number, such as 1")
    from glowkit import celeba, checkpoint, devices, editing, strips
    from glowkit.book.words import words

    face, changes = celeba.File(str(image)).shown() if image else (None, [])
    flow = checkpoint.load(model, devices.choose(device))
    alphas = strips.there_and_back(alpha) if animate else [alpha * share for share in (0, 0.25, 0.5, 0.75, 1)]
    made = editing.edit(model, flow, attribute, alphas, face, eyes, direction)
    if animate:
        strips.save(out, strips.frames(made.pictures, alphas, words(attribute)))
    else:
        labels = ["reconstruction", *map(strips.said, alphas[1:])]
        notes = [""] * len(alphas) if made.seen is None else [f"judge: {p:.0%}" for p in made.seen]
        title = f"{words(attribute)}   {Path(model).name}, {direction} direction"
        strips.save(out, strips.strip(made.original, made.pictures, labels, notes, title))
    click.echo(f"{attribute} by {alpha:g}, {direction} direction of {model}: {out}")
    for line in made.said:
        click.echo(line)
    for line in [f"{image} is {what}: {done}" for what, done in changes] + made.warnings:
        click.echo(f"glowkit: {line}", err=True)


@app.command()
@click.option("--json", "as_json", is_flag=True, help="A list of rows with their numbers instead, for machines.")
def claims(as_json: bool) -> None:
    """Print the scoreboard of the last build: each claim, its verdict, and the numbers that decided it."""
    from glowkit.book import cards, claims

    entries = claims.load()
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    click.echo(claims.to_json(entries) if as_json else cards.lines(entries, width))


# ------------------------------------------------------------------------------------------- numbers, pictures


def _check_folder(file: Path) -> None:
    """Refuse a file that could not be written before any work is done."""
    if not file.parent.is_dir():
        raise GlowkitError(f"{file.parent}: no such folder to write {file.name} to")


def _write_numbers(file: Path | None, result: dict) -> None:
    import json

    from glowkit.files import replacing

    if file:
        with replacing(file) as temporary:
            content = {"command": " ".join(["glowkit", *sys.argv[1:]]), **result}
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _say_once(text: object) -> None:
    """Print a line; of torchrun's processes, in the first alone."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(text)


def _positive(option: str, n: int) -> int:
    if n < 1:
        raise GlowkitError(f"{option} {n}: give a whole number of at least 1")
    return n


def _check_picture(path: Path, suffixes: tuple[str, ...] = STILL) -> None:
    """Refuse a picture that could not be written before any work is done."""
    if path.suffix.lower() not in suffixes:
        known = " or ".join(suffixes) if suffixes is not STILL else ".png, .jpg or .webp"
        raise GlowkitError(f"{path}: name a picture ending in {known}")
    _check_folder(path)


def _write_picture(path: Path, images, columns: int) -> None:
    """Images (3, H, W) float in [0, 1], row by row, pixel for pixel, white where the last row ends early."""
    import numpy as np
    import torch
    from PIL import Image

    from glowkit.files import replacing
    from glowkit.pixels import to_pixels

    if broken := int((~images.isfinite().flatten(1).all(1)).sum()):
        raise GlowkitError(f"{path}: {broken} of {len(images)} images are not finite; go less far from the mean")
    pixels = to_pixels(torch.stack(list(images)))
    n, height, width, _ = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * columns, height, width, 3), 255, np.uint8)
    sheet[:n] = pixels
    sheet = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    data = io.BytesIO()  # Pillow would not say why a file cannot be written
    Image.fromarray(sheet).save(data, Image.registered_extensions()[path.suffix.lower()])
    with replacing(path) as temporary:
        temporary.write_bytes(data.getvalue())
    click.echo(f"{n} images in {path}")
