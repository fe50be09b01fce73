"""Several processes on one job, as torchrun starts them (`torchrun --nproc-per-node=4 -m glowkit ...`).

A process that was started alone is number 0 of 1, and everything here is then free of charge.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from glowkit.errors import GlowkitError

# Seconds until torchrun has certainly ended the other processes of one that failed.
GRACE = 10


def rank_and_world() -> tuple[int, int]:
    """The number of this process and how many there are, from torchrun's environment: (0, 1) alone."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def device() -> torch.device:
    """This process's own GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise GlowkitError(f"torchrun started more processes than this machine's {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", number)


@contextmanager
def group() -> Iterator[None]:
    """Inside, the processes can `add_up`. An error in any of them ends all, by way of torchrun, and is told once."""
    rank, world = rank_and_world()
    if world == 1:
        yield
        return
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(device())  # where NCCL works, if nobody says otherwise
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        yield
        dist.destroy_process_group()
    except GlowkitError:
        if rank > 0:  # Most errors meet every process. The first tells its own, and the others do not live to.
            time.sleep(GRACE)
        raise


def add_up(*tensors: Tensor) -> None:
    """Each tensor, in place, becomes its sum over all processes: the same bits in each of them."""
    if not dist.is_initialized():
        return
    try:
        for tensor in tensors:
            dist.all_reduce(tensor)
    except RuntimeError as error:
        time.sleep(GRACE)  # for whoever left without us to tell why, and for torchrun to end this process too
        raise GlowkitError(f"process {rank_and_world()[0]}: another process has gone ({error})") from None
