"""Several processes on one job, one a GPU, as torchrun starts them (`torchrun --nproc-per-node=4 -m glowkit ...`).

A process that was started alone has rank 0 of 1, and nothing here then costs it any time. Each process holds the whole
model, and in training the whole state of the optimiser: for the largest model here (175 M parameters) that is 1.4 GB,
too little for sharding it to pay.
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
    """Join the process group that torchrun started, if it did. The first process to fail raises its error; the others,
    which fail for want of it, exit without a message.
    """
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
        # The others then fail in their next collective operation, and have nothing to add.
        if store.add("failures", 1) > 1:
            raise SystemExit(1) from None
        raise
    dist.destroy_process_group()


@contextmanager
def local_leader_first() -> Iterator[None]:
    """A barrier: one process of each machine goes through the block, then the others, which find its files on disk."""
    waits = size() > 1 and os.environ["LOCAL_RANK"] != "0"
    if waits:
        dist.barrier()
    yield
    if size() > 1 and not waits:
        dist.barrier()


def rank() -> int:
    """The rank of this process; rank 0 alone writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """The number of processes (the world size)."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(batch: Tensor) -> Tensor:
    """This process's shard (B / size, ...) of a batch (B, ...)."""
    return batch.chunk(size())[rank()]


def all_reduce_max(value: Tensor) -> Tensor:
    """The largest of the processes' values, in a new tensor."""
    if size() > 1:
        value = value.clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def all_reduce_sum(*tensors: Tensor) -> None:
    """Replace each tensor, in place, by its sum over the processes: the same bits in all of them."""
    if size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
