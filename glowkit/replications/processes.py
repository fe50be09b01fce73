"""A function of many things, each in a process of its own: one that is killed takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import TypeVar

from tqdm.auto import tqdm

from glowkit import workers

T, R = TypeVar("T"), TypeVar("R")
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def each(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[tuple[T, R | None]]:
    """(item, function(item)) as they are done, `jobs` at a time; None where the process ended without an answer.

    Each has one thread and shows nothing. Whatever ends the loop over them, Ctrl-C say, ends those that still work.
    """
    context = multiprocessing.get_context("spawn")
    waiting, working = deque(items), {}
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                item = waiting.popleft()
                answer, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(sender, function, item), daemon=True)
                with _one_thread():
                    process.start()
                sender.close()  # the other end is the process's alone: when it ends, the pipe does
                working[answer] = item, process
            for answer in connection.wait(list(working)):
                try:
                    found = answer.recv()
                except (EOFError, OSError):
                    found = None
                item, process = working.pop(answer)
                process.join()
                yield item, found
    finally:
        for _, process in working.values():
            process.terminate()
            process.join()


def _work(sender: connection.Connection, function: Callable[[T], R], item: T) -> None:
    workers.begin()
    # Progress bars of several processes would write over each other, and the lock that they share by default would be
    # left behind, and Python complain, when this process is ended.
    tqdm.set_lock(threading.RLock())
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  as long as the process lives
    sender.send(function(item))


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is started within has one thread; the libraries read it from the environment when they are loaded."""
    before = {key: os.environ.get(key) for key in _THREADS}
    os.environ.update(_THREADS)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
