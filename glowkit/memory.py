"""What a training step keeps for its way back: every activation, the input of each step of flow, or next to nothing.

Backpropagation needs the activations of the whole model, and a step of flow has a hundred times as many inside its
coupling net as it has inputs. `recompute` keeps the inputs alone and runs each step again on the way back (Chen et
al. 2016). `invert` keeps the output of a level and gets each input back from it by the inverse (Gomez et al. 2017), so
that depth costs no memory; its gradients are as good as the inverse is exact, which `inversion_error` measures
(Behrmann et al. 2020). A chain takes steps and h (B, C, H, W) to the last step's output and its ladj (B,).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.checkpoint import checkpoint

from glowkit.flow import Glow, run_folded, run_steps, squeeze
from glowkit.precision import exact_float32


def recompute(steps: nn.ModuleList, h: Tensor) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the input of each step."""
    ladj = h.new_zeros(len(h))
    for step in steps:
        h, step_ladj = checkpoint(step, h, use_reentrant=False, preserve_rng_state=False, context_fn=_exact_twice)
        ladj = ladj + step_ladj
    return h, ladj


def _exact_twice() -> tuple[AbstractContextManager, AbstractContextManager]:
    """For the first run and for the second, which is outside of the flow's own."""
    return exact_float32(), exact_float32()


def invert(steps: nn.ModuleList, h: Tensor) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the output of the last step."""
    return _Inverting.apply(h, steps, *steps.parameters())


class _Inverting(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, h: Tensor, steps: nn.ModuleList, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        y, ladj = run_steps(steps, h)
        ctx.steps = steps
        ctx.save_for_backward(y)
        return y, ladj

    @staticmethod
    @once_differentiable
    @exact_float32()
    def backward(ctx: FunctionCtx, grad_y: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        gradients: list[Tensor] = []
        for step in reversed(ctx.steps):
            x = step.inverse(y).requires_grad_()
            with torch.enable_grad():
                outputs = step(x)
            grad_x, *own = torch.autograd.grad(outputs, (x, *step.parameters()), (grad_y, grad_ladj))
            gradients = own + gradients
            y, grad_y = x.detach(), grad_x
        return grad_y, None, *gradients


CHAINS = {"store": run_folded, "recompute": recompute, "invert": invert}


def use(model: Glow, memory: str) -> None:
    """Train `model` with one of CHAINS from now on; what it computes stays the same, up to rounding."""
    for level in model.levels:
        level.chain = CHAINS[memory]


@torch.no_grad()
@exact_float32()
def inversion_error(model: Glow, v: Tensor) -> Tensor:
    """How far the steps of a level, undone, are from where they began on centred pixels v (B, 3, H, W).

    The norm of the difference over the norm of the input, of the worst level: a scalar, inf where it is not finite.
    """
    errors, h = [], v
    for level in model.levels:
        x = squeeze(h)
        undone = run_steps(level.steps, x)[0]
        for step in reversed(level.steps):
            undone = step.inverse(undone)
        errors.append((undone - x).norm() / x.norm())
        h = level(h)[0]
    return torch.stack(errors).nan_to_num(nan=torch.inf).max()
