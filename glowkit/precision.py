"""In which precision things are computed: bfloat16 where it is faster, and float32 that is float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def compute_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it faster than float32, else None."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within, convolutions in float32 round as float32 does, on CUDA too.

    There they take inputs of 10 bits by default (TF32): enough for a net, but a flow undone so is off by some
    thousandths, as what differs by a rounding is then rounded apart at every layer.
    """
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
