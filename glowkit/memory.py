"""What training keeps for the backward pass: every activation, the input of each step of flow, or next to nothing.

Backpropagation needs the activations of the whole model, and a step of flow has a hundred times as many inside its
coupling net as it has inputs. `recompute` keeps the inputs alone and runs each step again in the backward pass (Chen et
al. 2016). `invert` keeps the output of a level and gets each input back from it by the inverse (Gomez et al. 2017), so
that depth costs no memory; its gradients are as good as the inverse is exact, which `inversion_error` measures
(Behrmann et al. 2020). A strategy takes steps, h (B, C, H, W) and the dtype that coupling nets compute in to the last
step's output and its ladj (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from glowkit.errors import GlowkitError
from glowkit.flow import Glow, Level, run_steps
from glowkit.image_flow import ImageFlow
from glowkit.kernels import FoldedSteps
from glowkit.layers import squeeze
from glowkit.precision import exact_float32

GROUP = 8  # steps folded at a time: one by one is slow, and the kernels of a whole level would take memory for depth


def recompute(steps: nn.ModuleList, h: Tensor, compute_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the input of each step."""
    return _RunAgain.apply(h, steps, compute_dtype, True, *steps.parameters())


def invert(steps: nn.ModuleList, h: Tensor, compute_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """As `run_steps`, keeping the output of the last step."""
    return _RunAgain.apply(h, steps, compute_dtype, False, *steps.parameters())


class _RunAgain(torch.autograd.Function):
    """Steps that run without a graph, and one by one again in the backward pass: there each gets its gradients, and
    those of folded kernels go on to the parameters once a group.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        h: Tensor,
        steps: nn.ModuleList,
        compute_dtype: torch.dtype | None,
        keep_inputs: bool,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.steps, ctx.compute_dtype, ctx.keep_inputs = steps, compute_dtype, keep_inputs
        ladj, inputs = h.new_zeros(len(h)), []
        for group in _groups(steps):
            folded = FoldedSteps(group, h.shape[-2:], compute_dtype)
            for k in range(len(group)):
                if keep_inputs:
                    inputs.append(h)
                h, step_ladj = folded.forward_step(k, h)
                ladj = ladj + step_ladj
        ctx.save_for_backward(*inputs or [h])
        return h, ladj

    @staticmethod
    @once_differentiable
    @exact_float32()
    def backward(ctx: FunctionCtx, grad_h: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        inputs, h = list(ctx.saved_tensors), ctx.saved_tensors[-1]
        gradients: list[Tensor] = []
        for group in reversed(_groups(ctx.steps)):
            with torch.enable_grad():
                folded = FoldedSteps(group, h.shape[-2:], ctx.compute_dtype)
            of_folded: list[Tensor] = []
            for k in reversed(range(len(group))):
                h = inputs.pop() if ctx.keep_inputs else folded.inverse_step(k, h)
                x = h.detach().requires_grad_()
                with torch.enable_grad():
                    outputs = folded.forward_step(k, x)
                grad_h, *own = torch.autograd.grad(outputs, (x, *folded.tensors(k)), (grad_h, grad_ladj))
                of_folded = own + of_folded
            tensors = [tensor for k in range(len(group)) for tensor in folded.tensors(k)]
            gradients = [*torch.autograd.grad(tensors, tuple(group.parameters()), of_folded), *gradients]
        return grad_h, None, None, None, *gradients


def _groups(steps: nn.ModuleList) -> list[nn.ModuleList]:
    return [steps[start : start + GROUP] for start in range(0, len(steps), GROUP)]


STRATEGIES = {"store": run_steps, "recompute": recompute, "invert": invert}


def set_strategy(model: ImageFlow, memory: str) -> None:
    """Train `model` with one of STRATEGIES from now on; what it computes stays the same, up to rounding.

    Raises GlowkitError for any but "store" if the model has no level with kernels to fold: for such they are made.
    """
    if memory != "store" and not any(isinstance(module, Level) and module.folded for module in model.modules()):
        raise GlowkitError(
            f"training.memory = {memory!r}: it is for the convolutions of a Glow, and here are none; want 'store'"
        )
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
        x = squeeze(h)
        folded = FoldedSteps(level.steps, x.shape[-2:], level.compute_dtype)
        back = folded.inverse(folded.forward(x)[0])
        errors.append((back - x).norm() / x.norm())
        h = level(h)[0]
    return torch.stack(errors).nan_to_num(nan=torch.inf).max()
