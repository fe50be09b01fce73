"""What a process is that works for another one, which crops images or makes the runs of a plan."""

import multiprocessing
import os
import threading

import torch


def begin() -> None:
    """In a worker, first of all: one thread, and an end when its parent ends, however that ends."""
    torch.set_num_threads(1)
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()
