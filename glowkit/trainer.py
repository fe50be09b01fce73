"""One step of training: maximum likelihood in bits/dim, on CPU and CUDA, by one process or by several.

Whatever is random in a step (dequantisation noise, flips) is a function of (seed, step): the weights, the optimiser,
the average and the step are all there is to go on from. It is drawn for the whole batch, of which each process takes
its share, so that their number changes nothing but the time it takes.

A step of a Glow is thousands of kernels, most of which take longer to launch than to run. On CUDA they are captured
once, as a graph, and replayed for each batch: forward and backward pass, clipping, Adam, the average and the guard.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from glowkit import checkpoint, distributed, fields, memory, randomness
from glowkit.errors import GlowkitError
from glowkit.flow import Glow
from glowkit.layers import InvertibleConv
from glowkit.precision import compute_dtype

MOST_STEPS = 2**24  # Adam counts them in float32
# The error of the gradient is some ten times that of the inverse (`memory.inversion_error`): at this limit, as large as
# computing in bfloat16 makes it anyway.
INVERSION_LIMIT = 0.005
WARM_UP = 3  # runs of a step before it is captured, in which libraries choose their kernels


class Diverged(GlowkitError):
    """A run cannot go on from here; what it had learnt before is still there."""


@dataclass(frozen=True)
class Settings:
    """How to train; [training] of a config file."""

    steps: int = 10_000
    batch: int = 32
    learning_rate: float = 1e-3  # of an invertible convolution of c channels a share of it, see `rate_share`
    warmup: int = 500  # steps of linear rise
    decay: float = 0.25  # share of the steps, at the end, in which the rate falls to zero
    clip: float = 1.0  # largest norm of the gradient, of a loss in nats/dim
    average: float = 0.999  # decay of the exponential moving average of the weights
    flip: bool = False  # mirror each image with probability 1/2
    fresh: bool = False  # of procedural faces: draw new ones for every step, instead of the training split
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
    "fresh": fields.Flag(),
    "memory": fields.OneOf(tuple(memory.STRATEGIES)),
    "seed": fields.Whole(0, fields.SEED),
}


def rate_share(module: nn.Module) -> float:
    """The share of the learning rate that the matrices of `module` take.

    A step of Adam moves every entry of a matrix by about the rate, and mostly in accord: the map of c channels by c
    times as much. In a net that is one term of a sum. W of an invertible convolution multiplies all that flows through
    a level, K times over, and at the usual rate the deep levels (c = 384 at 256 pixels) leave the finite. It gets the
    share 1 / sqrt(c).
    """
    return len(module.lu) ** -0.5 if isinstance(module, InvertibleConv) else 1.0


class Trainer:
    """The model, its optimiser and its average; `trainer(x)` takes one step on a batch and returns its bits/dim.

    Of several processes each makes one, given the same batches, and begins with the model of the first. `average` is
    the model with the averaged weights. `slowed` multiplies the learning rate: who runs the trainer may lower it.
    """

    def __init__(self, model: Glow, settings: Settings) -> None:
        self.model, self.settings, self.step, self.slowed = model, settings, 0, 1.0
        self.device = next(model.parameters()).device
        self.parameters = dict(model.named_parameters())
        self.average = copy.deepcopy(model).requires_grad_(False)
        # Looked up once: a walk over all modules takes a good part of the time of a step that is replayed.
        self.current, self.averaged = list(self.parameters.values()), list(self.average.parameters())
        self.optimiser = self._make_optimiser()
        self.inverting: bool | None = None  # not known before the first step
        memory.set_strategy(model, settings.memory)
        self.flow = model
        if distributed.size() > 1:
            self.flow = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
        # What a step reads and leaves on the device, so that nobody has to wait for it.
        self.v: Tensor | None = None  # the pixels that it takes
        self.pace = torch.zeros((), device=self.device)  # of the average towards the weights
        self.frozen = torch.zeros((), dtype=torch.bool, device=self.device)  # change nothing, only look
        self.lost = torch.zeros_like(self.frozen)  # a step was not finite, and nothing has changed since
        self.taken = torch.zeros((), dtype=torch.int64, device=self.device)  # steps that were
        self.graph: torch.cuda.CUDAGraph | None = None
        self.bits: Tensor | None = None  # where the graph leaves them
        self.eager = why_eager(self.device, distributed.size(), settings.memory)

    def _make_optimiser(self) -> torch.optim.Adam:
        """Adam, with its moments at zero already: a graph reads and writes the tensors that were there first."""
        shares: dict[float, list[nn.Parameter]] = {}
        for module in self.model.modules():
            for parameter in module.parameters(recurse=False):
                shares.setdefault(rate_share(module) if parameter.ndim > 1 else 1.0, []).append(parameter)
        groups = [
            {"params": parameters, "share": share, "lr": torch.zeros((), device=self.device)}
            for share, parameters in shares.items()
        ]
        optimiser = torch.optim.Adam(groups, fused=True, capturable=self.device.type == "cuda")
        for parameter in self.parameters.values():
            optimiser.state[parameter] = {
                "step": torch.zeros((), device=self.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return optimiser

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) uint8 -> bits/dim, before the step, of this process's share of the batch: a scalar.

        Raises Diverged if a step was not finite: this one, or replayed from a graph one of the last `log_every`. The
        weights, the optimiser, the average and `step` are then as they were before it.
        """
        bits = self._run(x)
        self.step += 1
        if self.graph is None or self.step % self.settings.log_every == 0:
            self._watch()
        return bits

    def check(self, x: Tensor) -> None:
        """Raises Diverged if a run could not go on from here, with the batch x (B, 3, H, W), at any rate.

        To be called before a checkpoint: a step watches over the loss before it, and may itself be too long.
        """
        self.frozen.fill_(True)
        self._run(x)
        self.frozen.fill_(False)
        self._watch()
        for name, tensor in self.tensors().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                self._stop(name)

    def _run(self, x: Tensor) -> Tensor:
        """One run of `_update` on x, by the graph where there is one: bits/dim, a scalar."""
        v = self._pixels(x)
        if self.settings.memory == "invert":
            self._watch_inversion(v)
        rate = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"].fill_(rate * group["share"])
        self.pace.fill_(1 - self._decay())
        if not self.eager and self.graph is None:
            self._capture(v)
        if self.graph is None:
            self.v = v
            bits = self._update()
        else:
            # Once lost, the batch that did it stays there for `_watch` to look at.
            self.v.copy_(torch.where(self.lost, self.v, v))
            self.graph.replay()
            bits = self.bits.clone()
        self._tell_of_change()
        return bits

    def _tell_of_change(self) -> None:
        """Weights change behind autograd's back, and a flow keeps kernels by the weights' version."""
        torch.autograd.graph.increment_version([*self.current, *self.averaged])

    def _pixels(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) uint8 -> this process's share of them, mirrored or not, centred and with noise."""
        noise = randomness.stream(self.settings.seed, self.step, self.device)
        if self.settings.flip:
            mirrored = torch.rand(len(x), generator=noise, device=self.device) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        return distributed.shard(self.model.dequantise(x, noise))

    def _update(self) -> Tensor:
        """One step on the pixels `v`: bits/dim, a scalar.

        All that it reads and changes is on the device, so that it can be captured; a number of Python would stay for
        ever what it was then.
        """
        loss, norm = self._gradient()
        self.lost.logical_or_(~(loss + norm).isfinite())
        kept = self.lost | self.frozen
        # As `torch.amp.GradScaler` tells it: where this is 1, Adam leaves weights, moments and its count as they are.
        self.optimiser.found_inf = kept.float()
        self.optimiser.step()
        difference = torch._foreach_sub([p.detach() for p in self.current], self.averaged)
        torch._foreach_mul_(difference, self.pace * ~kept)
        torch._foreach_add_(self.averaged, difference)
        self.taken.add_(~kept)
        return loss / math.log(2)

    def _gradient(self) -> tuple[Tensor, Tensor]:
        """The loss in nats/dim and the norm of its gradient, scalars; the gradient, clipped, is left with the
        parameters."""
        self.optimiser.zero_grad()
        with self.model.computing_in(compute_dtype(self.device)):
            loss = -self.model.log_prob_of(*self.flow(self.v)).mean() / self.model.dim
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.current, self.settings.clip)
        return loss.detach(), norm

    def _capture(self, v: Tensor) -> None:
        """Make `graph` of a step on pixels of this shape. Where that fails, `eager` says why, and there is none."""
        self.v = v.clone()
        self.frozen.fill_(True)
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._update()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.bits = self._update()
            self.graph = graph
        except RuntimeError as error:
            self.eager = f"a step could not be captured: {str(error).strip().splitlines()[0]}"
        self.frozen.fill_(False)
        self.lost.fill_(False)

    def _watch_inversion(self, v: Tensor) -> None:
        """Now and then: invert while that gives back what went in, else recompute."""
        if self.inverting is not None and self.step % self.settings.checkpoint_every:
            return
        with self.model.computing_in(compute_dtype(self.device)):
            error = float(distributed.all_reduce_max(memory.inversion_error(self.model, v)))
        before, self.inverting = self.inverting, error <= INVERSION_LIMIT
        memory.set_strategy(self.model, "invert" if self.inverting else "recompute")
        if self.inverting != before and not self.inverting and distributed.rank() == 0:
            tqdm.write(
                f"step {self.step}: inverted, the steps of a level are off by {error:.1e} of their input, more than "
                f"{INVERSION_LIMIT}: recomputing them instead"
            )

    def _decay(self) -> float:
        """Of the average. A young one follows closely, so that a short run is not averaged with its own beginning."""
        return min(self.settings.average, (1 + self.step) / (10 + self.step)) if self.step else 0.0

    def learning_rate(self) -> float:
        """Linear rise, a plateau, linear fall to zero: a longer run is the same run up to where the fall begins."""
        s = self.settings
        share = min(1, (self.step + 1) / s.warmup, (s.steps - self.step) / (s.decay * s.steps))
        return s.learning_rate * self.slowed * share

    def _watch(self) -> None:
        """The guard: raises Diverged if a step since the last look was not finite, and says where that began."""
        if not self.lost:
            return
        self.step = int(self.taken)
        self.lost.fill_(False)
        self._gradient()
        with self.model.computing_in(compute_dtype(self.device)):
            culprit = self.model.first_nonfinite(self.v)
        named = self.parameters.items()
        lost = (name for name, p in named if p.grad is not None and not p.grad.isfinite().all())
        self._stop(culprit or next(lost, "the loss"))

    def _stop(self, culprit: str) -> None:
        raise Diverged(
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
        found = checkpoint.forms_of(self.tensors())
        taken = (lambda count: count == step, f"{step}, the step of the state")
        for name in self.parameters:
            found[f"optimiser.{name}.step"] = checkpoint.Form((), (torch.float32,), *taken)
        return found

    def load_tensors(self, state: dict[str, Tensor], step: int) -> None:
        """Go on from `tensors` as they were after `step` steps. Raises GlowkitError if they are anything else."""
        # Adam writes to its moments without a look at their size.
        checkpoint.check_tensors(state, self.forms(step))
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(state[name])
        self._tell_of_change()
        self.step = step
        self.taken.fill_(step)
        self.lost.fill_(False)


def why_eager(device: torch.device, processes: int, memory: str) -> str:
    """Why the steps of a run are not replayed from a graph; "" where they can be."""
    if device.type != "cuda":
        return "graphs are CUDA's"
    if processes > 1:
        return f"{processes} processes share a batch"
    if memory == "invert":
        return "the inverses of memory = 'invert' wait for the device"
    return ""


def make_step(model: Glow, settings: Settings | None = None) -> Trainer:
    """step(x) -> bits/dim: one optimiser step exactly as `train` runs it, for benchmarks."""
    return Trainer(model, settings or Settings())
