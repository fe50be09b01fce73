"""Commands in forked children of a process that has loaded torch already: many a second, to be killed at will.

Import this module before numpy and torch: a process must have one thread alone to be forked safely.
"""

from __future__ import annotations

import ctypes
import gc
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["GLOWKIT_CACHE"] = "cache"  # in the folder where a command works

import random  # noqa: E402
import resource  # noqa: E402
import selectors  # noqa: E402
import signal  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

# What commands import when they run would be imported in every child.
import sklearn.metrics  # noqa: E402, F401
import torch._dynamo  # noqa: E402
import tqdm.std  # noqa: E402

from glowkit import (  # noqa: E402, F401
    certificate,
    checkpoint,
    cli,
    faces,
    judge,
    measured,
    measures,
    pixels,
    study,
    training,
)
from glowkit.book import claims, figures  # noqa: E402, F401
from glowkit.celeba import cropping, facts, fetch  # noqa: E402, F401
from glowkit.errors import GlowkitError  # noqa: E402
from glowkit.replications import plan, results  # noqa: E402, F401

torch.set_num_threads(1)
sys.dont_write_bytecode = True


class Bar(tqdm.std.tqdm):
    """The campaign's own progress bar, the only one that shows; without the thread that watches bars."""

    monitor_interval = 0


# A lock between processes would stay locked for ever if its holder is killed.
tqdm.std.tqdm.set_lock(threading.RLock())
_begin = tqdm.std.tqdm.__init__
tqdm.std.tqdm.__init__ = lambda bar, *a, **k: _begin(bar, *a, **k | ({} if type(bar) is Bar else {"disable": True}))

Action = Callable[[], object]
CRASHED, WRONG = 70, 71  # exit statuses of a child whose action raised, and of one whose result is wrong
CHANGES = (
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "fcntl.flock",
    "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.rmtree",
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """When a command gets a `signal`: at its `at`-th change to the disk (or, with `size`, in the first write beyond
    that many bytes of a file from then on, which kills it), or after `seconds`."""

    at: int = 0
    size: int | None = None
    seconds: float | None = None
    signal: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.3f} s"
        return f"at change {self.at}" + ("" if self.size is None else f", in a write beyond {self.size} bytes")


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `status` is negative for a signal, as in subprocess; `changes` counts those to the disk."""

    status: int
    out: str
    err: str
    seconds: float
    changes: int
    late: bool

    @property
    def one_line(self) -> bool:
        """Refused as it should be: one line on stderr and a status that says so."""
        right = self.status > 0 and self.status not in (CRASHED, WRONG)
        said = self.err.removeprefix("\n" if self.status == 130 else "")  # below the ^C of a terminal
        return right and said.count("\n") == 1 and said.startswith("glowkit: ")

    def fault(self) -> str:
        """What is wrong with how it ended, neither well nor in one line; "" for nothing."""
        last = (self.err.strip().splitlines() or ["silently"])[-1][:200]
        if self.late:
            return "it hangs"
        if self.status < 0:
            return f"it dies of {signal.Signals(-self.status).name}"
        if self.status == 0:  # with a warning, perhaps
            well = all(line.startswith("glowkit: ") for line in self.err.splitlines())
            return "" if well else f"it ends well, but says: {last}"
        if self.status == CRASHED:
            where = [line.strip() for line in self.err.splitlines() if line.startswith("  File ")][-3:]
            return f"stack: {last}; {'; '.join(where)}"
        if self.status == WRONG:
            return last
        return "" if self.one_line else f"status {self.status}, {self.err.count(chr(10))} lines: {last}"


def command(*arguments: object) -> Action:
    """`glowkit ARGUMENTS` as an action."""

    def action() -> None:
        try:
            cli.app(list(map(str, arguments)), prog_name="glowkit")
        except KeyboardInterrupt as error:
            if any(frame.filename == cli.__file__ for frame in traceback.extract_tb(error.__traceback__)):
                raise
            # It came before the command line could hear it, as in a process of its own while Python starts.
            print("glowkit: stopped", file=sys.stderr)
            sys.exit(130)

    return action


def library(call: Action) -> Action:
    """A call of the library, refused as the command line would."""

    def action() -> None:
        try:
            call()
        except GlowkitError as error:
            sys.exit("glowkit: " + str(error))
        except OSError as error:
            sys.exit(f"glowkit: {error.filename2 or error.filename}: {error.strerror}")
        except KeyboardInterrupt:
            print("glowkit: stopped", file=sys.stderr)
            sys.exit(130)

    return action


@dataclass(frozen=True)
class Begun:
    """A child at work: its number, since when, its pipes and the kill that waits for it."""

    process: int
    since: float
    pipes: tuple[int, int, int]
    kill: Kill | None

    def wait_until_stopped(self) -> None:
        """By SIGSTOP, or at its end."""
        os.waitid(os.P_PID, self.process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        os.kill(self.process, signal.SIGCONT)


def run(
    action: Action,
    folder: Path,
    kill: Kill | None = None,
    check: Callable[[], str] | None = None,
    memory: int | None = None,
    patience: float = 30,
    powerless: bool = False,
) -> Outcome:
    """An action in a child, in a folder.

    check: run there if the action ends well; what it says is wrong. memory: bytes that it may take beyond what it has.
    powerless: modes of files hold for it even where root runs the campaign.
    """
    return end(begin(action, folder, kill, check, memory, powerless), patience)


def begin(
    action: Action,
    folder: Path,
    kill: Kill | None = None,
    check: Callable[[], str] | None = None,
    memory: int | None = None,
    powerless: bool = False,
) -> Begun:
    """The first half of `run`."""
    gc.freeze()
    (out, out_end), (err, err_end), (told, told_end) = os.pipe(), os.pipe(), os.pipe()
    start = time.monotonic()
    process = os.fork()
    if not process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out_end, 1)
            os.dup2(err_end, 2)
            os.closerange(3, told_end)
            if powerless:
                _drop_powers()
            _child(action, folder, kill, check, memory, told_end)
        finally:
            os._exit(CRASHED)  # whatever happens: what follows is the parent's
    with suppress(OSError):  # whoever comes first, child or parent
        os.setpgid(process, process)
    for pipe in (out_end, err_end, told_end):
        os.close(pipe)
    return Begun(process, start, (out, err, told), kill)


def end(begun: Begun, patience: float = 30) -> Outcome:
    """The second half of `run`."""
    process, start, (out, err, told), kill = begun.process, begun.since, begun.pipes, begun.kill
    signals = [(kill.seconds, kill.signal)] if kill and kill.seconds is not None else []
    if not signals or signals[0][1] != signal.SIGKILL:
        signals.append((patience + sum(seconds for seconds, _ in signals), signal.SIGKILL))
    pieces, late = {out: b"", err: b"", told: b""}, False
    with selectors.DefaultSelector() as selector:
        for pipe in pieces:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, start + signals[0][0] - time.monotonic()) if signals else None)
            if not ready and signals:
                os.killpg(process, signals[0][1])
                late = signals.pop(0)[1] == signal.SIGKILL
            for key, _ in ready:
                piece = os.read(key.fd, 2**16)
                pieces[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
    _, status = os.waitpid(process, 0)
    for pipe in pieces:
        os.close(pipe)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        pieces[out].decode(errors="replace"),
        pieces[err].decode(errors="replace"),
        time.monotonic() - start,
        len(pieces[told]),
        late and not (kill and kill.seconds is not None and kill.signal == signal.SIGKILL),
    )


def _drop_powers() -> None:
    """What lets root write anywhere; without effect on others, who have none of it."""
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)  # version 3 of capset(2), this process
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _child(action: Action, folder: Path, kill: Kill | None, check, memory: int | None, told: int) -> None:
    """Never returns."""
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    status = CRASHED
    try:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory is not None:
            have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (have + memory, have + memory))
        _watch(kill, told)
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                action()
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        if status == 0 and check and (wrong := _wrong(check)):
            print(wrong, file=sys.stderr)
            status = WRONG
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wrong(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:
        return f"the result cannot be read: {type(error).__name__}: {error}"


def _watch(kill: Kill | None, told: int) -> None:
    """Tell of each change to the disk, and die at the one that was chosen."""
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not writes and event not in CHANGES:
            return
        count += 1
        if kill and kill.seconds is None and count == kill.at:
            if kill.size is None:
                os.write(told, b".")
                os.killpg(0, kill.signal)  # as a terminal does
                return
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # a write beyond the limit is cut there, and is the last
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill.size, kill.size))
        os.write(told, b".")

    sys.addaudithook(hook)


def random_kill(
    chance: random.Random, undisturbed: Outcome, largest: int, signal: signal.Signals = signal.SIGKILL
) -> Kill:
    """A kill somewhere in a command that takes as long, changes as much and writes as large files as it did."""
    kind = chance.random()
    if kind < 0.3:
        return Kill(seconds=undisturbed.seconds * chance.random(), signal=signal)
    at = chance.randint(1, max(1, undisturbed.changes))
    if kind < 0.65 or signal != Kill.signal:
        return Kill(at, signal=signal)
    return Kill(at, round(largest ** chance.random()) - 1)
