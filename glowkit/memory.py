"""What training keeps for the backward pass: every activation, the input of each step of flow, or next to nothing.

Backpropagation needs the activations of the whole model, and a step of flow has a hundred times as many inside its
coupling net as it has inputs. `recompute` keeps the inputs alone and runs each step again in the backward pass (Chen et
al. 2016). `invert` keeps the output of a level and gets each input back from it by the inverse (Gomez et al. 2017), so
that depth costs no memory; its gradients are as good as the inverse is exact, which `inversion_error` measures
(Behrmann et al. 2020). A strategy takes steps, h (B, C, H, W) and the dtype that coupling nets compute in to the last
step's output and its ladj (B,).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.checkpoint import checkpoint

from glowkit.flow import Glow, Level, run_steps
from glowkit.image_flow import ImageFlow
from glowkit.kernels import FoldedSteps
from glowkit.layers import Step, squeeze
from glowkit.precision import exact_float32


def _fold(step: Step, h: Tensor, compute_dtype: torch.dtype | None) -> FoldedSteps:
    return FoldedSteps([step], h.shape[-2:], compute_dtype)


def recompute(steps: nn.ModuleList, h: Tensor, compute_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the input of each step."""
    ladj = h.new_zeros(len(h))
    for step in steps:
        h, step_ladj = checkpoint(
            lambda h, step=step: _fold(step, h, compute_dtype).forward(h),
            h,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=_exact_twice,
        )
        ladj = ladj + step_ladj
    return h, ladj


def _exact_twice() -> tuple[AbstractContextManager, AbstractContextManager]:
    """For the first run and for the second, which is outside of the flow's own."""
    return exact_float32(), exact_float32()


def invert(steps: nn.ModuleList, h: Tensor, compute_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the output of the last step."""
    return _Inverting.apply(h, steps, compute_dtype, *steps.parameters())


class _Inverting(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, h: Tensor, steps: nn.ModuleList, compute_dtype: torch.dtype | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.steps, ctx.compute_dtype = steps, compute_dtype
        ladj = h.new_zeros(len(h))
        for step in steps:
            h, step_ladj = _fold(step, h, compute_dtype).forward(h)
            ladj = ladj + step_ladj
        ctx.save_for_backward(h)
        return h, ladj

    @staticmethod
    @once_differentiable
    @exact_float32()
    def backward(ctx: FunctionCtx, grad_y: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        gradients: list[Tensor] = []
        for step in reversed(ctx.steps):
            x = _fold(step, y, ctx.compute_dtype).inverse(y).requires_grad_()
            with torch.enable_grad():
                outputs = _fold(step, x, ctx.compute_dtype).forward(x)
            grad_x, *own = torch.autograd.grad(outputs, (x, *step.parameters()), (grad_y, grad_ladj))
            gradients = own + gradients
            y, grad_y = x.detach(), grad_x
        return grad_y, None, None, *gradients


STRATEGIES = {"store": run_steps, "recompute": recompute, "invert": invert}


def set_strategy(model: ImageFlow, memory: str) -> None:
    """Train `model` with one of STRATEGIES from now on; what it computes stays the same, up to rounding.

    They are made for the levels of our Glow; a model without any trains as autograd does by itself.
    """
    for module in model.modules():
        if isinstance(module, Level):
            module.strategy = STRATEGIES[memory]


@torch.no_grad()
@exact_float32()
def inversion_error(model: Glow, v: Tensor) -> Tensor:
    """How exactly the steps of a level are inverted, from centred pixels v (B, 3, H, W) on.

    |inverse(forward(x)) - x| / |x| of the worst level, x its input: a scalar, inf where it is not finite.
    """
    errors, h = [], v
    for level in model.levels:
        x = back = squeeze(h)
        for step in level.steps:
            back = _fold(step, back, level.compute_dtype).forward(back)[0]
        for step in reversed(level.steps):
            back = _fold(step, back, level.compute_dtype).inverse(back)
        errors.append((back - x).norm() / x.norm())
        h = level(h)[0]
    return torch.stack(errors).nan_to_num(nan=torch.inf).max()
