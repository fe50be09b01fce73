"""The precision of computing: bfloat16 where it is faster, and float32 without shortcuts where it has to be exact."""

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

    By default CUDA rounds the inputs of a convolution to 10 bits (TF32). A classifier does not mind, but the inverse of
    a flow has to meet the numbers that the forward pass met: where the two differ by a rounding of float32, TF32 may
    round them to different values, at every layer, and an image comes back with errors of some thousandths.
    """
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
