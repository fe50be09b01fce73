"""Several processes on one job, one a GPU, as torchrun starts them (`torchrun --nproc-per-node=4 -m glowkit ...`).

A process that was started alone is number 0 of 1, and everything here is then free of charge. Each holds the whole
model. In training each has the whole state of the optimiser too: of the largest model here (175 M parameters) that is
1.4 GB, so sharding it would not pay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from glowkit.errors import GlowkitError

# One process may render or crop for hours while the others wait; one that dies ends them all through torchrun.
PATIENCE = timedelta(hours=12)


@contextmanager
def processes() -> Iterator[None]:
    """Meet the others that torchrun started, if it did. The first error of any is raised, the others end silently."""
    if not dist.is_torchelastic_launched():
        yield
        return
    cuda, here = torch.cuda.is_available(), int(os.environ["LOCAL_RANK"])
    store, number, count = next(dist.rendezvous("env://"))
    try:
        if cuda:
            if here >= (gpus := torch.cuda.device_count()):
                raise GlowkitError(f"torchrun started more processes than this machine's {gpus} GPUs")
            torch.cuda.set_device(here)
        backend = "nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
        yield
    except (Exception, KeyboardInterrupt):
        # Where one fails, the others fail next, for want of it.
        if store.add("failures", 1) > 1:
            raise SystemExit(1) from None
        raise
    dist.destroy_process_group()


@contextmanager
def first_here() -> Iterator[None]:
    """One process of each machine goes through the block before the others, who find on disk what it left there."""
    waits = size() > 1 and os.environ["LOCAL_RANK"] != "0"
    if waits:
        dist.barrier()
    yield
    if size() > 1 and not waits:
        dist.barrier()


def rank() -> int:
    """The number of this process; 0 alone writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(batch: Tensor) -> Tensor:
    """This process's part (B / size, ...) of a batch (B, ...)."""
    return batch.chunk(size())[rank()]


def largest(value: Tensor) -> Tensor:
    """The largest over the processes of a value that each has."""
    if size() > 1:
        value = value.clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def add_up(*tensors: Tensor) -> None:
    """Each tensor becomes, in place, its sum over the processes: the same bits in each of them."""
    if size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
