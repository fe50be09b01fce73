"""A training run in its folder: a config, its images in the order of the seed, checkpoints, a log, and its resumption.

`glowkit.trainer` takes the steps. The order of the images is a function of (seed, epoch), as everything random is, so a
run that is resumed after any kill ends with the same weights. A run that diverges goes back to its last checkpoint and
on at half the rate.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import bundled, checkpoint, devices, distributed, fields, randomness
from glowkit.dataset import FACES, MEMORY_LIMIT, PROCEDURAL, Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in, expanded, naming, replacing
from glowkit.flow import Glow
from glowkit.precision import compute_dtype
from glowkit.trainer import MOST_STEPS, SETTINGS, Diverged, Settings, Trainer
from glowkit.trainer import make_step as make_step  # for benchmarks, under the name of this module

STATE, LOG = "state.safetensors", "log.jsonl"
# What a resumed run may change, and says that it did: its length, how fast it learns, what its steps keep in memory,
# and how it is watched.
MAY_CHANGE = ("steps", "learning_rate", "warmup", "clip", "memory", "log_every", "checkpoint_every", "held_out")
SAMPLES = 16  # training images whose pixels tell a data set from others
# Means over `log_every` steps differ by hundredths of a bit/dim in a healthy run. One that is so much above the lowest
# so far has left the data, and what it learns from there on is the way back.
JUMP = 1.0
MOST_REWINDS = 10  # the rate is then a thousandth
TRAINABLE = ("glow", "ablation", "autoregressive")  # kinds of models
CONFIG = {
    "data": fields.Text(),
    "kind": fields.OneOf(TRAINABLE),
    "model": fields.Table(),
    "training": fields.Table(),
}
# What a state says of itself: how the run was set; and, unless a benchmark wrote it, on what images, where its last
# steps were taken, and what the guard has seen and done.
ABOUT = {
    "step": fields.Whole(0, MOST_STEPS),
    "config": fields.Table(),
    "data": fields.Table(),
    "machine": fields.Table(),
    "guard": fields.Table(),
}
DATA = {"name": fields.Text(), "images": fields.Whole(1, 2**40), "sha256": fields.Text()}
GUARD = {"slowed": fields.Real(0.5**MOST_REWINDS, 1), "lowest": fields.Real(-1e9, 1e9)}
MACHINE = {
    "processes": fields.Whole(1, 2**20),
    "device": fields.Text(),
    "threads": fields.Whole(1, 2**20),
    "torch": fields.Text(),
}


@dataclass(frozen=True)
class Config:
    """A config file: what to train, on what, how."""

    model: checkpoint.Config
    training: Settings
    data: str = "faces64"
    path: Path = field(default=Path("config.toml"), compare=False)

    def as_dict(self) -> dict:
        return {"data": self.data, "model": self.model.as_dict(), "training": asdict(self.training)}


def read_config(path: str | Path) -> Config:
    """The config of a TOML file: `data`, [model] (see `GlowConfig`) and [training] (see `Settings`).

    With `kind = "ablation"`, [model] is that of an `AblationConfig`, and with `kind = "autoregressive"` that of an
    `AutoregressiveConfig`. The path: see `bundled.read_toml`.
    """
    path, content = bundled.read_toml(path, "faces64.toml is an example of a config")
    try:
        fields.check(content, CONFIG, "")
        shape = checkpoint.KINDS[content.get("kind", "glow")].config
        fields.check(content.get("model", {}), shape.kinds, "model.")
        fields.check(content.get("training", {}), SETTINGS, "training.")
        model, training = shape(**content.get("model", {})), Settings(**content.get("training", {}))
    except GlowkitError as error:
        raise GlowkitError(f"{path}: {error}") from None
    if training.checkpoint_every % training.log_every:
        raise GlowkitError(f"{path}: training.checkpoint_every must be a multiple of log_every")
    return Config(model, training, content.get("data", "faces64"), path)


def batch_indices(step: int, n: int, settings: Settings) -> Tensor:
    """Positions (B,) in the training split of the images of a step; each epoch is a fresh permutation.

    With `fresh`, numbers of faces that no data set holds, and each of them once.
    """
    if settings.fresh:
        return FACES + step * settings.batch + torch.arange(settings.batch)
    per_epoch = n // settings.batch
    epoch, k = divmod(step, per_epoch)
    return _order(n, settings.seed, epoch)[k * settings.batch : (k + 1) * settings.batch]


@lru_cache(maxsize=1)  # a step on a card takes less time than the permutation of all of CelebA
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=randomness.stream(seed, epoch))


def load_images(dataset: Dataset, indices: np.ndarray, what: str) -> Tensor:
    """uint8 (n, 3, H, W), with a progress bar: all in memory, 12 kB an image at 64 px."""
    images = torch.empty(len(indices), 3, dataset.size, dataset.size, dtype=torch.uint8)
    hidden = distributed.rank() > 0
    for start in tqdm(range(0, len(indices), 1000), desc=what, unit="k images", leave=False, disable=hidden):
        images[start : start + 1000] = dataset.images(indices[start : start + 1000])
    return images


def training_images(
    dataset: Dataset, indices: np.ndarray, device: torch.device, fresh: bool = False
) -> Callable[[Tensor], Tensor]:
    """Positions (B,) in the training split -> images, uint8 (B, 3, H, W), on the device.

    They are held there where they take no more than a quarter of its memory (of a CPU, 4 GiB); else the data set is
    asked for each batch, which takes no time where it is mapped from disk (`glowkit crop --packed`). A card draws
    procedural faces by itself. `fresh` faces are drawn for each batch; GlowkitError if the set is of another kind.
    """
    if fresh:
        dataset.draw(np.arange(0), device)
        return lambda where: dataset.draw(where.numpy(), device)
    cuda = device.type == "cuda"
    limit = torch.cuda.mem_get_info(device)[1] // 4 if cuda else MEMORY_LIMIT
    drawn = cuda and dataset.kind == PROCEDURAL
    if len(indices) * 3 * dataset.size**2 <= limit:
        what = f"{dataset.name}: training images"
        held = dataset.draw(indices, device) if drawn else load_images(dataset, indices, what).to(device)
        return lambda where: held[where.to(device)]
    if drawn:
        return lambda where: dataset.draw(indices[where], device)
    return lambda where: dataset.images(indices[where]).to(device)


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
    device: str | torch.device | None = None,
    minutes: float | None = None,
    start: str | Path | None = None,
    n: int | None = None,
) -> Path:
    """Trains as a config file says and returns the run's folder; under torchrun, with all its processes.

    The folder (default runs/NAME) holds state.safetensors (to resume), log.jsonl (a line every `log_every` steps),
    and the averaged model as `glowkit.load` reads it, each replaced whole at every checkpoint. All processes must
    see it, and the data. With `minutes`, the run takes as many steps as fit into them, the fall of the rate included,
    instead of the config's. `start` is a model, bundled or in a folder, whose weights to begin with. `n` is how many
    training images there are to be, the first of the data set's own.
    """
    began = time.perf_counter()
    config = config if isinstance(config, Config) else read_config(config)
    path = expanded(out or Path("runs") / config.path.stem)
    resumed = (path / STATE).exists()
    if resumed and not resume:
        raise GlowkitError(f"{path}: it holds a run already; continue it with --resume or give another --out")
    if resumed and start:
        raise GlowkitError(f"{path}: it goes on from its own checkpoint; leave out --start, or give another --out")
    if minutes is not None:
        if not 0 < minutes < float("inf"):
            raise GlowkitError(f"--minutes {minutes:g}: give a number above 0")
        config = replace(config, training=replace(config.training, steps=MOST_STEPS))  # until their pace is known
    settings = config.training
    processes, lead = distributed.size(), distributed.rank() == 0
    if settings.batch % processes:
        raise GlowkitError(
            f"{config.path}: [training] batch = {settings.batch} cannot be shared equally by {processes} processes"
        )
    device = devices.choose(device)
    config = replace(config, data=str(data or config.data))
    with alone_in(path) if lead else nullcontext():
        with distributed.local_leader_first():
            dataset = open_dataset(config.data, size=config.model.image_size)
            indices = dataset.subset("train")[:n]
            if len(indices) < settings.batch:
                raise GlowkitError(
                    f"{dataset.name}: {len(indices)} training images, fewer than a batch of {settings.batch}"
                )
            images = training_images(dataset, indices, device, settings.fresh)
            held_out = dataset.subset("valid")[: settings.held_out if lead else 0]
            held_out = load_images(dataset, held_out, "held-out images").to(device)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = checkpoint.make(config.model).to(device)
        notes = []
        if start:
            notes = [f"begins with the weights of {start}"]
            model.load_state_dict(_weights_of(start, config))
        elif lead and not resumed:
            initialise(model, images, len(indices), settings.seed)
        trainer = Trainer(model, settings)
        run = Run(trainer, images, len(indices), held_out, path, config, fingerprint(dataset, indices, images))
        if minutes is not None:
            run.ends = began + 60 * minutes
        if resumed:
            notes = run.resume()
        if lead:
            _truncate_log(path / LOG, trainer.step)
            dtype = (compute_dtype(device) if isinstance(model, Glow) else None) or torch.float32
            precision = str(dtype).removeprefix("torch.")
            print(
                f"{path.name}: {config.model.parameters / 1e6:.2f} M parameters, D = {model.dim}, "
                f"{len(indices)} images, {processes} x {device.type}, nets in {precision}"
            )
            for note in notes:
                run.note(note)
            if trainer.step == settings.steps:
                print(f"{path.name}: its {settings.steps} steps are done, and its model is there")
        run.go_on()
    return path


def _weights_of(start: str | Path, config: Config) -> dict[str, Tensor]:
    """The weights of a model, if it has the shape that the config asks for."""
    model = checkpoint.load(start)
    shapes = [{"kind": checkpoint.kind_of(each), **each.as_dict()} for each in (model.config, config.model)]
    for name, wanted in shapes[1].items():
        if (found := shapes[0].get(name)) != wanted:
            raise GlowkitError(f"{start}: its {name} is {found}, and {config.path} asks for {wanted}")
    return model.state_dict()


def fingerprint(dataset: Dataset, indices: np.ndarray, images: Callable[[Tensor], Tensor]) -> dict:
    """What tells the training images at `indices` from others, wherever they lie: how many, and a hash of some."""
    some = torch.linspace(0, len(indices) - 1, SAMPLES).long()
    digest = hashlib.sha256(np.ascontiguousarray(indices, np.int64).tobytes())
    digest.update(images(some).cpu().numpy().tobytes())
    return {"name": dataset.name, "images": len(indices), "sha256": digest.hexdigest()}


@dataclass
class Run:
    """A run in its folder `path`: a trainer, `n` training images and where they come from, held-out ones (m, ...).

    `ends`: when it has to be done, on the clock of `time.perf_counter`; without, its steps are those of the config.
    `lowest`: the lowest mean of bits/dim over `log_every` steps so far.
    """

    trainer: Trainer
    images: Callable[[Tensor], Tensor]
    n: int
    held_out: Tensor
    path: Path
    config: Config
    data: dict
    ends: float | None = None
    lowest: float = field(default=float("inf"), init=False)

    def go_on(self) -> None:
        """Train to the end, with a checkpoint now and then.

        From a step that is not finite, or a jump of the loss, it goes back to the last checkpoint and on at half the
        rate. Raises Diverged when that has not helped MOST_REWINDS times.
        """
        trainer, lead = self.trainer, distributed.rank() == 0
        if lead and trainer.step < self.settings.steps and not (self.path / STATE).exists():
            self.save_state()  # to go back to
        began, first = time.perf_counter(), trainer.step
        losses, since = [], began
        untold = lead and trainer.device.type == "cuda"  # how steps are run: the first one finds out
        bar = tqdm(total=self.settings.steps, initial=trainer.step, unit="step", desc=self.path.name, disable=not lead)
        try:
            while trainer.step < self.settings.steps:
                try:
                    losses.append(trainer(self._batch()))
                    if untold:
                        self.note(_how(trainer))
                        untold = False
                    self._stop_in_time()
                    at_checkpoint = trainer.step % self.settings.checkpoint_every == 0
                    at_checkpoint |= trainer.step == self.settings.steps
                    if at_checkpoint or trainer.step % self.settings.log_every == 0:
                        line = {"step": trainer.step, "bits_per_dim": self._mean(losses)}
                        if at_checkpoint:
                            trainer.check(self._batch())
                        seconds = time.perf_counter() - since
                        line["images_per_s"] = round(len(losses) * self.settings.batch / seconds, 1)
                        line["seconds"] = round(seconds, 1)
                        if at_checkpoint and len(self.held_out):
                            line["held_out_bits_per_dim"] = held_out_bits(trainer.average, self.held_out)
                        if lead:
                            _log(self.path / LOG, line)
                            bar.set_postfix({k: f"{v:.3f}" for k, v in line.items() if k.endswith(("dim", "_s"))})
                        losses, since = [], time.perf_counter()
                        if at_checkpoint and lead:
                            self.save()
                        self._plan((time.perf_counter() - began) / (trainer.step - first))
                except Diverged as error:
                    self._rewind(error)
                    began, first = time.perf_counter(), trainer.step
                    losses, since = [], began
                bar.total = self.settings.steps
                bar.update(trainer.step - bar.n)
        except KeyboardInterrupt:
            raise GlowkitError(
                f"{self.path}: stopped at step {trainer.step}; --resume goes on from its checkpoint"
            ) from None
        finally:
            bar.close()

    @property
    def settings(self) -> Settings:
        return self.config.training

    def _batch(self) -> Tensor:
        """Of the step to come."""
        return self.images(batch_indices(self.trainer.step, self.n, self.settings))

    def _stop_in_time(self) -> None:
        """When time is up this step is the last; several processes, whose clocks differ, leave that to `_plan`."""
        if self.ends is not None and time.perf_counter() >= self.ends and distributed.size() == 1:
            self._set_steps(self.trainer.step)

    def _mean(self, losses: list[Tensor]) -> float:
        """Bits/dim over all processes; Diverged if they have jumped."""
        found = torch.stack(losses).double()
        found = torch.stack([found[0], found.mean()]) / distributed.size()
        distributed.all_reduce_sum(found)
        first, bits = found.tolist()
        if self.lowest == float("inf"):  # what the model had before it learnt anything
            self.lowest = first
        if not bits <= self.lowest + JUMP:
            raise Diverged(
                f"step {self.trainer.step}: {bits:.3g} bits/dim after {self.lowest:.3g}; "
                "lower training.learning_rate and go on from the last checkpoint with --resume"
            )
        self.lowest = min(self.lowest, bits)
        return bits

    def _rewind(self, error: Diverged) -> None:
        """Back to the last checkpoint, and on at half the rate."""
        trainer = self.trainer
        slowed = trainer.slowed / 2
        if slowed < 0.5**MOST_REWINDS:
            raise error
        tensors, about = read_state(self.path / STATE)
        trainer.load_tensors(tensors, about["step"])
        self._set_guard(about["guard"] | {"slowed": slowed})
        if distributed.rank() == 0:
            what, _, _ = str(error).partition(";")
            self.note(f"{what}: back to step {trainer.step}, and on at {slowed:g} times the learning rate")

    def _set_guard(self, guard: dict) -> None:
        self.trainer.slowed, self.lowest = guard["slowed"], guard.get("lowest", float("inf"))

    def _plan(self, seconds: float) -> None:
        """With a time to end at: as many more steps as fit, of `seconds` each, but one at least, for the checkpoint."""
        if self.ends is not None and self.trainer.step < self.settings.steps:
            fit = torch.tensor((self.ends - time.perf_counter()) / seconds, device=self.trainer.device)
            more = max(1, int(distributed.all_reduce_max(fit)))  # the same in all processes
            self._set_steps(min(MOST_STEPS, self.trainer.step + more))

    def _set_steps(self, steps: int) -> None:
        training = replace(self.settings, steps=steps)
        self.config, self.trainer.settings = replace(self.config, training=training), training

    def note(self, text: str) -> None:
        """A line on screen and in the log."""
        tqdm.write(f"{self.path.name}, step {self.trainer.step}: {text}")
        _log(self.path / LOG, {"step": self.trainer.step, "note": text})

    def save(self) -> None:
        self.save_state()
        checkpoint.save(self.trainer.average, self.path, self.config.data)

    def save_state(self) -> None:
        guard = {"slowed": self.trainer.slowed}
        if self.lowest < float("inf"):
            guard["lowest"] = self.lowest
        about = {"config": self.config.as_dict(), "data": self.data, "machine": self._machine(), "guard": guard}
        save_state(self.trainer, self.path / STATE, about)

    def resume(self) -> list[str]:
        """Go on from the folder's state; returns what is not as it was, a line each.

        Raises GlowkitError for a state that is damaged, or one of another model, on other images, or further on.
        """
        path, config = self.path / STATE, self.config
        tensors, about = read_state(path)
        try:
            fields.check(about, ABOUT, "", required=ABOUT)
            fields.check(about["config"], CONFIG, "config.", required=("data", "model", "training"))
            kinds = config.model.kinds
            fields.check(about["config"]["model"], kinds, "config.model.", required=kinds)
            fields.check(about["config"]["training"], SETTINGS, "config.training.", required=SETTINGS)
            fields.check(about["data"], DATA, "data.", required=DATA)
            fields.check(about["machine"], MACHINE, "machine.", required=MACHINE)
            fields.check(about["guard"], GUARD, "guard.", required=("slowed",))
        except GlowkitError as error:
            raise GlowkitError(f"{path}: not the state of a training run ({error}); give another --out") from None
        saved, wanted = about["config"], config.as_dict()
        changes = [
            (part, name, value, saved[part][name])
            for part in ("model", "training")
            for name, value in wanted[part].items()
            if saved[part][name] != value and not (self.ends is not None and name == "steps")
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
        if self.ends is None:
            notes += _off_schedule(Settings(**saved["training"]), config.training, about["step"])
        self._same_data(about["data"])
        notes += self._other_machine(about["machine"])
        try:
            self.trainer.load_tensors(tensors, about["step"])
        except GlowkitError as error:
            raise GlowkitError(
                f"{path}: not the state of this run ({error}); put a copy of it in its place, or give another --out"
            ) from None
        self._set_guard(about["guard"])
        if distributed.rank() == 0:
            # The model may be missing, or older than the state: a kill can fall between the two.
            checkpoint.save(self.trainer.average, self.path, config.data)
        return notes

    def _same_data(self, before: dict) -> None:
        if any(before[key] != self.data[key] for key in ("images", "sha256")):
            raise GlowkitError(
                f"{self.data['name']}: its {self.data['images']:,} training images are not the {before['images']:,} of "
                f"{before['name']} that {self.path} was trained on; give those with --data, or another --out"
            )

    def _machine(self) -> dict:
        """On which the last bits of the weights depend."""
        return {
            "processes": distributed.size(),
            "device": self.trainer.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _other_machine(self, before: dict) -> list[str]:
        changed = [f"{key} = {now}, before {before[key]}" for key, now in self._machine().items() if before[key] != now]
        if not changed:
            return []
        return [f"{', '.join(changed)}: weights may differ in their last bits from those of a run that had no change"]


def _how(trainer: Trainer) -> str:
    if trainer.eager:
        return f"steps are run kernel by kernel: {trainer.eager}"
    return "each step is replayed as one CUDA graph"


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
        about = checkpoint.read_about(metadata, "run", ABOUT, optional=("data", "machine", "guard"))
    except GlowkitError as error:
        raise GlowkitError(f"{path}: not the state of a training run ({error}); give another --out") from None
    return tensors, about


def _log(path: Path, line: dict) -> None:
    with naming(path), open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def logged(line: bytes, name: str) -> float | None:
    """The number of this name in a line of a log; None if it has none, as one that was cut when its run was killed."""
    try:
        return float(fields.from_json(line.decode())[name])
    except (ValueError, KeyError, TypeError):
        return None


def _truncate_log(path: Path, step: int) -> None:
    """Drops what a killed run logged after its last checkpoint, and lines that are none."""
    if not path.exists():
        return
    steps = ((line, logged(line, "step")) for line in path.read_bytes().splitlines())
    kept = [line + b"\n" for line, at in steps if at is not None and at <= step]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))
