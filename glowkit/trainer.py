"""One step of training: maximum likelihood in bits/dim, on CPU and CUDA, by one process or by several.

Whatever is random in a step (dequantisation noise, flips) is a function of (seed, step): the weights, the optimiser,
the average and the step are all there is to go on from. It is drawn for the whole batch, of which each process takes
its share, so that their number changes nothing but the time it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from glowkit import checkpoint, distributed, fields, memory, randomness
from glowkit.errors import GlowkitError
from glowkit.flow import Glow
from glowkit.precision import compute_dtype

MOST_STEPS = 2**24  # Adam counts them in float32
# The error of the gradient is some ten times that of the inverse (`memory.inversion_error`): at this limit, as large as
# computing in bfloat16 makes it anyway.
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
    memory: str = "store"  # what a step keeps for its backward pass, one of memory.STRATEGIES
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
    "memory": fields.OneOf(tuple(memory.STRATEGIES)),
    "seed": fields.Whole(0, fields.SEED),
}


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
        memory.set_strategy(model, settings.memory)
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
        noise = randomness.stream(self.settings.seed, self.step, self.device)
        if self.settings.flip:
            mirrored = torch.rand(len(x), generator=noise, device=self.device) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        v = distributed.shard(self.model.dequantise(x, noise))
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
        error, before = float(distributed.all_reduce_max(memory.inversion_error(self.model, v))), self.inverting
        self.inverting = error <= INVERSION_LIMIT
        memory.set_strategy(self.model, "invert" if self.inverting else "recompute")
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
