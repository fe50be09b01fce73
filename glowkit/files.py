"""Writing files so that a reader sees the old file or the whole new one, never half of it.

What a killed process leaves half-written carries its number and its machine in its name, and the next one that writes
to the same folder removes it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from glowkit.errors import GlowkitError

LOCK = ".lock"
CHECKSUM = 4  # bytes
HOST = socket.gethostname()
_UNFINISHED = re.compile(rf"\..*\.(\d+)@{re.escape(HOST)}\.part(\..*)?")


def expanded(path: str | Path) -> Path:
    """A path as users give it, `~` and all."""
    return Path(os.path.expanduser(path))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; take its place when the block ends well.

    The suffix stays, since writers such as Pillow choose the format by it. On an error the temporary file is
    removed, and an OSError names `path`.
    """
    path = Path(path)
    sweep(path.parent)
    temporary = _beside(path, path.suffix)
    try:
        with naming(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, for a writer that makes temporary files of its own; gone after the block."""
    path = Path(path)
    sweep(path.parent)
    folder = _beside(path)
    try:
        with naming(path):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An OSError within that names no file, or a temporary one, names `path`."""
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes, Path)) else None
        ours = named is None or any(_UNFINISHED.fullmatch(part) for part in named.parts[-2:])
        if not ours:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error  # Pillow's may have a text alone


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Make `folder` and work in it; another process that wants to gets a line that names this one.

    The lock ends with its process, however that ends. A folder that was made and stayed empty goes again.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError, UnicodeDecodeError):
            holder = path.read_text(encoding="utf-8")
        raise GlowkitError(f"{folder}: in use by {holder or 'another process'}; let it end, or stop it") from None
    try:
        with naming(path):
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            path.write_text(f"process {os.getpid()} on {HOST}, since {since}", encoding="utf-8")
        sweep(folder)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: a process that waits for the old file sees that it is gone
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def seal(path: Path) -> None:
    """Add the checksum of a file of the cache to its end, past which readers of arrays and archives do not look."""
    checksum = _checksum(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(checksum)


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """`replacing` for a file of the cache: its folder is made, and what was written is sealed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        yield unfinished
        seal(unfinished)


def sealed(path: Path) -> bool:
    """Whether the file is there and as it was when it was sealed."""
    try:
        size = path.stat().st_size - CHECKSUM
        with path.open("rb") as file:
            file.seek(max(0, size))
            return size > 0 and file.read() == _checksum(path, size)
    except OSError:
        return False


def _checksum(path: Path, size: int) -> bytes:
    """Of the file's first `size` bytes."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(min(2**20, size)):
            size, found = size - len(block), zlib.crc32(block, found)
    return found.to_bytes(CHECKSUM, "little")


@functools.cache  # once a process: a folder may hold hundreds of thousands of files
def sweep(folder: Path) -> None:
    """Remove what processes that are no more left unfinished in `folder`; never what a living one writes."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            match = _UNFINISHED.fullmatch(entry.name)
            if match and not _lives(int(match[1])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _beside(path: Path, suffix: str = "") -> Path:
    # The process id keeps two processes that write the same file out of each other's way: the later one wins,
    # whole. A folder may be shared by machines, whose ids mean nothing to each other.
    stem = path.stem if len(os.fsencode(path.stem)) < 100 else f"{zlib.crc32(os.fsencode(path.stem)):08x}"
    return path.with_name(f".{stem}.{os.getpid()}@{HOST}.part{suffix}")  # no longer than a name may be


def _lives(process: int) -> bool:
    if os.name != "posix":  # elsewhere, asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
