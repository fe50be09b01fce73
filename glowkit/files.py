"""Writing files so that a reader sees the old file or the whole new one, never half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; take its place when the block ends well.

    The suffix stays, since writers such as Pillow choose the format by it. On an error the temporary file is
    removed.
    """
    path = Path(path)
    # The process id keeps two processes that write the same file out of each other's way: the later one wins,
    # whole.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
