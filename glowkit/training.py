"""A training run in its folder: a config, its images in the order of the seed, checkpoints, a log, and its resumption.

`glowkit.trainer` takes the steps. The order of the images is a function of (seed, epoch), as everything random is, so a
run that is resumed after any kill ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import bundled, checkpoint, distributed, fields, flow, randomness
from glowkit.dataset import MEMORY_LIMIT, Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in, naming, replacing
from glowkit.flow import Glow, GlowConfig
from glowkit.precision import compute_dtype
from glowkit.trainer import MOST_STEPS, SETTINGS, Settings, Trainer
from glowkit.trainer import make_step as make_step  # for benchmarks, under the name of this module

STATE, LOG = "state.safetensors", "log.jsonl"
# What a resumed run may change, and says that it did: its length, how fast it learns, what its steps keep in memory,
# and how it is watched.
MAY_CHANGE = ("steps", "learning_rate", "warmup", "clip", "memory", "log_every", "checkpoint_every", "held_out")
SAMPLES = 16  # training images whose pixels tell a data set from others
CONFIG = {"data": fields.Text(), "model": fields.Table(), "training": fields.Table()}
# What a state says of itself: how the run was set, on what, and where its last steps were taken. States of earlier
# versions lack the last two.
ABOUT = {
    "step": fields.Whole(1, MOST_STEPS),
    "config": fields.Table(),
    "data": fields.Table(),
    "machine": fields.Table(),
}
DATA = {"name": fields.Text(), "images": fields.Whole(1, 2**40), "sha256": fields.Text()}
MACHINE = {
    "processes": fields.Whole(1, 2**20),
    "device": fields.Text(),
    "threads": fields.Whole(1, 2**20),
    "torch": fields.Text(),
}


@dataclass(frozen=True)
class Config:
    """A config file: what to train, on what, how."""

    model: GlowConfig
    training: Settings
    data: str = "faces64"
    path: Path = field(default=Path("config.toml"), compare=False)

    def as_dict(self) -> dict:
        return {"data": self.data, "model": self.model.as_dict(), "training": asdict(self.training)}


def read_config(path: str | Path) -> Config:
    """The config of a TOML file: `data`, [model] (see `GlowConfig`) and [training] (see `Settings`).

    A relative path that is not there is looked up beside what is bundled: configs/faces64.toml is found from anywhere.
    """
    path = Path(path)
    if not path.exists() and (bundled.root() / path).is_file():
        path = bundled.root() / path
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no such file; configs/faces64.toml is an example of a config") from None
    except (ValueError, RecursionError) as error:  # whatever is not TOML, or not text, or a number of 5,000 digits
        raise GlowkitError(f"{path}: not a TOML file: {error}") from None
    try:
        fields.check(content, CONFIG, "")
        fields.check(content.get("model", {}), flow.CONFIG, "model.")
        fields.check(content.get("training", {}), SETTINGS, "training.")
        model, training = GlowConfig(**content.get("model", {})), Settings(**content.get("training", {}))
    except GlowkitError as error:
        raise GlowkitError(f"{path}: {error}") from None
    if training.checkpoint_every % training.log_every:
        raise GlowkitError(f"{path}: training.checkpoint_every must be a multiple of log_every")
    return Config(model, training, content.get("data", "faces64"), path)


def batch_indices(step: int, n: int, settings: Settings) -> Tensor:
    """Positions (B,) in the training split of the images of a step; each epoch is a fresh permutation."""
    per_epoch = n // settings.batch
    epoch, k = divmod(step, per_epoch)
    order = torch.randperm(n, generator=randomness.stream(settings.seed, epoch))
    return order[k * settings.batch : (k + 1) * settings.batch]


def load_images(dataset: Dataset, indices: np.ndarray, what: str) -> Tensor:
    """uint8 (n, 3, H, W), with a progress bar: all in memory, 12 kB an image at 64 px."""
    images = torch.empty(len(indices), 3, dataset.size, dataset.size, dtype=torch.uint8)
    hidden = distributed.rank() > 0
    for start in tqdm(range(0, len(indices), 1000), desc=what, unit="k images", leave=False, disable=hidden):
        images[start : start + 1000] = dataset.images(indices[start : start + 1000])
    return images


def training_images(dataset: Dataset, indices: np.ndarray, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Positions (B,) in the training split -> images, uint8 (B, 3, H, W), on the device.

    They are held there where they take no more than a quarter of its memory (of a CPU, 4 GiB); else the data set is
    asked for each batch, which takes no time where it is mapped from disk (`glowkit crop --packed`).
    """
    limit = torch.cuda.mem_get_info(device)[1] // 4 if device.type == "cuda" else MEMORY_LIMIT
    if len(indices) * 3 * dataset.size**2 > limit:
        return lambda where: dataset.images(indices[where]).to(device)
    held = load_images(dataset, indices, f"{dataset.name}: training images").to(device)
    return lambda where: held[where.to(device)]


def initialise(model: Glow, images: Callable[[Tensor], Tensor], n: int, seed: int) -> None:
    """Data-dependent initialisation, on the first images of n in the order of a run with this seed."""
    first = min(256, 256 * 64 // model.config.image_size, n)  # in float32, none of it in parts
    noise = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    model.initialise(images(batch_indices(0, n, Settings(batch=first, seed=seed))), noise)


def held_out_bits(model: Glow, images: Tensor, seed: int = 0) -> float:
    """Mean bits/dim over images, with one draw of dequantisation noise from `seed`."""
    device = next(model.parameters()).device
    noise = torch.Generator(device).manual_seed(seed)
    return float(model.bits_per_dim(images, noise).double().mean())


@distributed.processes()
def train(
    config: str | Path | Config,
    data: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
) -> Path:
    """Trains as a config file says and returns the run's folder; under torchrun, with all its processes.

    The folder (default runs/NAME) holds state.safetensors (to resume), log.jsonl (a line every `log_every` steps),
    and the averaged model as `glowkit.load` reads it, each replaced whole at every checkpoint. All processes must
    see it, and the data.
    """
    config = config if isinstance(config, Config) else read_config(config)
    settings, path = config.training, Path(out or Path("runs") / config.path.stem)
    if (path / STATE).exists() and not resume:
        raise GlowkitError(f"{path}: it holds a run already; continue it with --resume or give another --out")
    processes, lead = distributed.size(), distributed.rank() == 0
    if settings.batch % processes:
        raise GlowkitError(
            f"{config.path}: [training] batch = {settings.batch} cannot be shared equally by {processes} processes"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = replace(config, data=str(data or config.data))
    with alone_in(path) if lead else nullcontext():
        with distributed.local_leader_first():
            dataset = open_dataset(config.data, size=config.model.image_size)
            indices = dataset.subset("train")
            if len(indices) < settings.batch:
                raise GlowkitError(
                    f"{dataset.name}: {len(indices)} training images, fewer than a batch of {settings.batch}"
                )
            images = training_images(dataset, indices, device)
            held_out = dataset.subset("valid")[: settings.held_out if lead else 0]
            held_out = load_images(dataset, held_out, "held-out images").to(device)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = Glow(config.model).to(device)
        resumed = (path / STATE).exists()
        if lead and not resumed:
            initialise(model, images, len(indices), settings.seed)
        trainer = Trainer(model, settings)
        run = Run(trainer, images, len(indices), held_out, path, config, fingerprint(dataset, indices, images))
        notes = run.resume() if resumed else []
        if lead:
            _truncate_log(path / LOG, trainer.step)
            precision = str(compute_dtype(device) or torch.float32).removeprefix("torch.")
            print(
                f"{path.name}: {config.model.parameters / 1e6:.2f} M parameters, D = {model.dim}, "
                f"{len(indices)} images, {processes} x {device.type}, coupling nets in {precision}"
            )
            for note in notes:
                print(f"{path.name}: from step {trainer.step} on, {note}")
                _log(path / LOG, {"step": trainer.step, "note": note})
            if trainer.step == settings.steps:
                print(f"{path.name}: its {settings.steps} steps are done, and its model is there")
        run.go_on()
    return path


def fingerprint(dataset: Dataset, indices: np.ndarray, images: Callable[[Tensor], Tensor]) -> dict:
    """What tells the training images at `indices` from others, wherever they lie: how many, and a hash of some."""
    some = torch.linspace(0, len(indices) - 1, SAMPLES).long()
    digest = hashlib.sha256(np.ascontiguousarray(indices, np.int64).tobytes())
    digest.update(images(some).cpu().numpy().tobytes())
    return {"name": dataset.name, "images": len(indices), "sha256": digest.hexdigest()}


@dataclass
class Run:
    """A run in its folder `path`: a trainer, `n` training images and where they come from, held-out ones (m, ...)."""

    trainer: Trainer
    images: Callable[[Tensor], Tensor]
    n: int
    held_out: Tensor
    path: Path
    config: Config
    data: dict

    def go_on(self) -> None:
        """Train to the end, with a checkpoint now and then."""
        trainer, settings, path = self.trainer, self.config.training, self.path
        lead, losses, since = distributed.rank() == 0, [], time.perf_counter()
        bar = tqdm(total=settings.steps, initial=trainer.step, unit="step", desc=path.name, disable=not lead)
        try:
            while trainer.step < settings.steps:
                losses.append(trainer(self._batch()))
                bar.update()
                at_checkpoint = trainer.step % settings.checkpoint_every == 0 or trainer.step == settings.steps
                if at_checkpoint:
                    trainer.check(self._batch())
                if trainer.step % settings.log_every == 0 or at_checkpoint:
                    bits = torch.stack(losses).double().mean() / distributed.size()
                    distributed.all_reduce_sum(bits)
                    seconds = time.perf_counter() - since
                    line = {
                        "step": trainer.step,
                        "bits_per_dim": float(bits),
                        "images_per_s": round(len(losses) * settings.batch / seconds, 1),
                        "seconds": round(seconds, 1),
                    }
                    if at_checkpoint and len(self.held_out):
                        line["held_out_bits_per_dim"] = held_out_bits(trainer.average.module, self.held_out)
                    if lead:
                        _log(path / LOG, line)
                    bar.set_postfix({k: f"{v:.3f}" for k, v in line.items() if k.endswith(("dim", "_s"))})
                    losses, since = [], time.perf_counter()
                if at_checkpoint and lead:
                    self.save()
        except KeyboardInterrupt:
            raise GlowkitError(
                f"{path}: stopped at step {trainer.step}; --resume goes on from its checkpoint"
            ) from None
        finally:
            bar.close()

    def _batch(self) -> Tensor:
        """Of the step to come."""
        return self.images(batch_indices(self.trainer.step, self.n, self.config.training))

    def save(self) -> None:
        about = {"config": self.config.as_dict(), "data": self.data, "machine": self._machine()}
        save_state(self.trainer, self.path / STATE, about)
        checkpoint.save(self.trainer.average.module, self.path, self.config.data)

    def resume(self) -> list[str]:
        """Go on from the folder's state; returns what is not as it was, a line each.

        Raises GlowkitError for a state that is damaged, or one of another model, on other images, or further on.
        """
        path, config = self.path / STATE, self.config
        tensors, about = read_state(path)
        try:
            fields.check(about["config"], CONFIG, "config.", required=CONFIG)
            fields.check(about["config"]["model"], flow.CONFIG, "config.model.", required=flow.CONFIG)
            fields.check(about["config"]["training"], SETTINGS, "config.training.", required=SETTINGS)
            for name, kinds in (("data", DATA), ("machine", MACHINE)):
                if name in about:
                    fields.check(about[name], kinds, f"{name}.", required=kinds)
        except GlowkitError as error:
            raise GlowkitError(f"{path}: not the state of a training run ({error}); give another --out") from None
        saved, wanted = about["config"], config.as_dict()
        changes = [
            (part, name, value, saved[part][name])
            for part in ("model", "training")
            for name, value in wanted[part].items()
            if saved[part][name] != value
        ]
        for part, name, now, before in changes:
            if name not in MAY_CHANGE or part == "model":
                raise GlowkitError(
                    f"{config.path}: {part}.{name} = {now}, but {self.path} was trained with {before}; "
                    "set it back or give another --out"
                )
        if config.training.steps < about["step"]:
            raise GlowkitError(
                f"{config.path}: training.steps = {config.training.steps}, but {self.path} has done {about['step']}; "
                "give as many at least, or another --out"
            )
        notes = [f"{name} = {now}, before {before}" for _, name, now, before in changes]
        notes += _off_schedule(Settings(**saved["training"]), config.training, about["step"])
        notes += self._other_data(about.get("data"))
        notes += self._other_machine(about.get("machine"))
        try:
            self.trainer.load_tensors(tensors, about["step"])
        except GlowkitError as error:
            raise GlowkitError(
                f"{path}: not the state of this run ({error}); put a copy of it in its place, or give another --out"
            ) from None
        if distributed.rank() == 0:
            # The model may be missing, or older than the state: a kill can fall between the two.
            checkpoint.save(self.trainer.average.module, self.path, config.data)
        return notes

    def _other_data(self, before: dict | None) -> list[str]:
        if before is None:
            return [f"images are those of {self.data['name']}: which they were before, the state does not say"]
        if any(before[key] != self.data[key] for key in ("images", "sha256")):
            raise GlowkitError(
                f"{self.data['name']}: its {self.data['images']:,} training images are not the {before['images']:,} of "
                f"{before['name']} that {self.path} was trained on; give those with --data, or another --out"
            )
        return []

    def _machine(self) -> dict:
        """On which the last bits of the weights depend."""
        return {
            "processes": distributed.size(),
            "device": self.trainer.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _other_machine(self, before: dict | None) -> list[str]:
        changed = [
            f"{key} = {now}, before {before[key]}"
            for key, now in self._machine().items()
            if before and before[key] != now
        ]
        if not changed:
            return []
        return [f"{', '.join(changed)}: weights may differ in their last bits from those of a run that had no change"]


def _off_schedule(before: Settings, now: Settings, step: int) -> list[str]:
    """A line, if of the steps so far some took another rate than those of a run that was so long from the start."""

    def falls(settings: Settings) -> bool:
        return settings.steps - (step - 1) < settings.decay * settings.steps

    if before.steps == now.steps or not (falls(before) or falls(now)):
        return []
    return [
        f"the learning rate jumps: by step {step} it falls already in a run of {min(before.steps, now.steps)} steps, "
        f"and the weights will not be those of {now.steps} steps from the start"
    ]


def save_state(trainer: Trainer, path: Path, about: dict) -> None:
    """All that `trainer` needs to go on from here, and what the run says of itself, in one file."""
    # One key: safetensors writes several in any order, and equal states should be equal files.
    checkpoint.write_tensors(path, trainer.tensors(), {"run": json.dumps({"step": trainer.step, **about})})


def read_state(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a state, for `Trainer.load_tensors`, and what was said of it, with its "step"."""
    tensors, metadata = checkpoint.read_tensors(path)
    try:
        about = checkpoint.read_about(metadata, "run", ABOUT, optional=("data", "machine"))
    except GlowkitError as error:
        raise GlowkitError(f"{path}: not the state of a training run ({error}); give another --out") from None
    return tensors, about


def _log(path: Path, line: dict) -> None:
    with naming(path), open(path, "a") as log:
        log.write(json.dumps(line) + "\n")


def _truncate_log(path: Path, step: int) -> None:
    """Drops what a killed run logged after its last checkpoint, and lines that are none."""
    if not path.exists():
        return

    def belongs(line: bytes) -> bool:
        try:
            return fields.from_json(line.decode())["step"] <= step
        except (ValueError, KeyError, TypeError):
            return False

    kept = [line + b"\n" for line in path.read_bytes().splitlines() if belongs(line)]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))
