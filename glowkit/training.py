"""One training loop for CPU and CUDA: maximum likelihood in bits/dim, resumed to the same weights after any kill.

Whatever is random in a step (data order, dequantisation noise, flips) is a function of (seed, step), so a resumed
run needs no state of a random generator: the weights, the optimiser, the average and the step are all there is. It is
drawn for the whole batch, of which each process takes its share: their number changes nothing but the time it takes.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from glowkit import checkpoint, distributed, fields, flow, memory
from glowkit.dataset import MEMORY_LIMIT, Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in, naming, replacing
from glowkit.flow import Glow, GlowConfig
from glowkit.precision import compute_dtype

STATE, LOG = "state.safetensors", "log.jsonl"
# What a resumed run may change, and says that it did: its length, how fast it learns, what its steps keep in memory,
# and how it is watched.
FREE = ("steps", "learning_rate", "warmup", "clip", "memory", "log_every", "checkpoint_every", "held_out")
SAMPLES = 16  # training images whose pixels tell a data set from others
MOST_STEPS = 2**24  # Adam counts them in float32
# The gradient is off by some ten times as much as the steps undone are (`memory.inversion_error`): by as much, at this
# limit, as computing in bfloat16 puts it off anyway.
INVERSION_LIMIT = 0.005


@dataclass(frozen=True)
class Settings:
    """How to train; [training] of a config file."""

    steps: int = 10_000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 500  # steps of linear rise
    decay: float = 0.25  # share of the steps, at the end, in which the rate falls to zero
    clip: float = 1.0  # largest norm of the gradient, of a loss in nats/dim
    average: float = 0.999  # decay of the exponential moving average of the weights
    flip: bool = False  # mirror each image with probability 1/2
    memory: str = "store"  # what a step keeps for its way back, one of memory.CHAINS
    seed: int = 0
    log_every: int = 50  # steps
    checkpoint_every: int = 500  # steps; held-out bits/dim are measured then too
    held_out: int = 512  # images of the validation split that this is measured on

    def __post_init__(self) -> None:
        fields.check(vars(self), SETTINGS, "training.")


SETTINGS = {
    **dict.fromkeys(("steps", "warmup", "log_every", "checkpoint_every", "held_out"), fields.Whole(1, MOST_STEPS)),
    "batch": fields.Whole(1, 2**16),
    "learning_rate": fields.Real(1e-12, 10),
    "decay": fields.Real(1e-9, 1),
    "clip": fields.Real(1e-12, 1e12),
    "average": fields.Real(0, 1),
    "flip": fields.Flag(),
    "memory": fields.OneOf(tuple(memory.CHAINS)),
    "seed": fields.Whole(0, fields.SEED),
}
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
    """The config of a TOML file: `data`, [model] (see `GlowConfig`) and [training] (see `Settings`)."""
    path = Path(path)
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


# ------------------------------------------------------------------------------------------------------ one step


class Trainer:
    """The model, its optimiser and its average; `trainer(x)` takes one step on a batch and returns its bits/dim.

    Of several processes each makes one, given the same batches, and begins with the model of the first.
    """

    def __init__(self, model: Glow, settings: Settings) -> None:
        self.model, self.settings, self.step = model, settings, 0
        self.device = next(model.parameters()).device
        self.parameters = dict(model.named_parameters())
        self.optimiser = torch.optim.Adam(self.parameters.values(), settings.learning_rate, fused=True)
        self.average = AveragedModel(model, multi_avg_fn=self._update_average)
        self.inverting: bool | None = None  # not known before the first step
        memory.use(model, settings.memory)
        self.flow = model
        if distributed.size() > 1:
            self.flow = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) uint8 -> bits/dim, before the step, of this process's share of the batch: a scalar."""
        loss = self._gradient(x)
        self.optimiser.param_groups[0]["lr"] = self.learning_rate()
        self.optimiser.step()
        # Fused Adam changes the weights behind autograd's back, and the flow keeps kernels by the weights' version.
        torch.autograd.graph.increment_version(self.parameters.values())
        self.average.update_parameters(self.model)
        self.step += 1
        return loss / math.log(2)

    def check(self, x: Tensor) -> None:
        """Raises GlowkitError if a run could not go on from here, with the batch x (B, 3, H, W), at any rate.

        To be called before a checkpoint: a step watches over the loss before it, and may itself be too long.
        """
        self._gradient(x)
        for name, tensor in self.tensors().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                self._stop(name)

    def _gradient(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) uint8 -> loss in nats/dim, a scalar; its gradient, clipped, is left with the parameters."""
        noise = torch.Generator(self.device).manual_seed(self.settings.seed * 1_000_003 + self.step)
        if self.settings.flip:
            mirrored = torch.rand(len(x), generator=noise, device=self.device) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        v = distributed.share(self.model.dequantise(x, noise))
        self.optimiser.zero_grad()
        with self.model.computing_in(compute_dtype(self.device)):
            if self.settings.memory == "invert":
                self._watch_inversion(v)
            loss = -self.model.log_prob_of(*self.flow(v)).mean() / self.model.dim
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip)
            if not (loss + norm).isfinite():
                named = self.parameters.items()
                lost = (name for name, p in named if p.grad is not None and not p.grad.isfinite().all())
                self._stop(self.model.first_nonfinite(v) or next(lost, "the loss"))
        return loss.detach()

    def _watch_inversion(self, v: Tensor) -> None:
        """Now and then: invert while that gives back what went in, else recompute."""
        if self.inverting is not None and self.step % self.settings.checkpoint_every:
            return
        error, before = float(distributed.largest(memory.inversion_error(self.model, v))), self.inverting
        self.inverting = error <= INVERSION_LIMIT
        memory.use(self.model, "invert" if self.inverting else "recompute")
        if self.inverting != before and not self.inverting and distributed.rank() == 0:
            tqdm.write(
                f"step {self.step}: inverted, the steps of a level are off by {error:.1e} of their input, more than "
                f"{INVERSION_LIMIT}: recomputing them instead"
            )

    def _update_average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        # A young average follows closely, so that a short run is not averaged with its own beginning.
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    def learning_rate(self) -> float:
        """Linear rise, a plateau, linear fall to zero: a longer run is the same run up to where the fall begins."""
        s = self.settings
        return s.learning_rate * min(1, (self.step + 1) / s.warmup, (s.steps - self.step) / (s.decay * s.steps))

    def _stop(self, culprit: str) -> None:
        """The guard: weights, optimiser and average are as they were."""
        raise GlowkitError(
            f"step {self.step}: not finite any more, first at {culprit}; "
            "lower training.learning_rate or training.clip and go on from the last checkpoint with --resume"
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that a resumed run needs beside the step."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, parameter in self.parameters.items():
            for key, tensor in self.optimiser.state[parameter].items():
                state[f"optimiser.{name}.{key}"] = tensor
        return state

    def forms(self, step: int) -> dict[str, checkpoint.Form]:
        """What `tensors` has to be after `step` steps."""
        of_model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        of_average = {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        moments = {
            f"optimiser.{name}.{key}": parameter
            for name, parameter in self.parameters.items()
            for key in ("exp_avg", "exp_avg_sq")
        }
        found = checkpoint.forms_of(of_model | of_average | moments)
        taken = (lambda count: count == step, f"{step}, the step of the state")
        found["average.n_averaged"] = checkpoint.Form((), (torch.int64,), *taken)
        for name in self.parameters:
            found[f"optimiser.{name}.step"] = checkpoint.Form((), (torch.float32,), *taken)
        return found

    def load_tensors(self, state: dict[str, Tensor], step: int) -> None:
        """Go on from `tensors` as they were after `step` steps. Raises GlowkitError if they are anything else."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

        # Adam writes to its moments without a look at their size.
        checkpoint.check_tensors(state, self.forms(step))
        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("average."))
        for name, parameter in self.parameters.items():
            moments = part(f"optimiser.{name}.")
            self.optimiser.state[parameter] = {key: tensor.to(self.device) for key, tensor in moments.items()}
        self.step = step


def make_step(model: Glow, settings: Settings | None = None) -> Trainer:
    """step(x) -> bits/dim: one optimiser step exactly as `train` runs it, for benchmarks."""
    return Trainer(model, settings or Settings())


# ------------------------------------------------------------------------------------------------------- the run


def batch_indices(step: int, n: int, settings: Settings) -> Tensor:
    """Positions (B,) in the training split of the images of a step; each epoch is a fresh permutation."""
    per_epoch = n // settings.batch
    epoch, k = divmod(step, per_epoch)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch))
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
    """Data-dependent initialisation, from images at the first positions in the order of a run over n of them."""
    first = min(256, 256 * 64 // model.config.image_size, n)  # in float32, none of it in parts
    noise = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    model.initialise(images(batch_indices(0, n, Settings(batch=first))), noise)


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
        with distributed.first_here():
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
                    distributed.add_up(bits)
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
            if name not in FREE or part == "model":
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
            return fields.from_json(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            return False

    kept = [line + b"\n" for line in path.read_bytes().splitlines() if belongs(line)]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))
