"""Writing: the old file or the whole new one, an error that names the file, what the dead left, and one at a time."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from glowkit import files
from glowkit.errors import GlowkitError

HOLD = """
import sys, time
from glowkit import files
with files.alone_in(sys.argv[1]):
    print("in", flush=True)
    sys.stdin.read()
"""


def hold(folder) -> subprocess.Popen:
    """Another process that works in `folder` until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    return process


def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(autouse=True)
def as_if_new():
    files.sweep.cache_clear()


def test_one_at_a_time_and_the_other_is_named(tmp_path):
    folder = tmp_path / "run"
    other = hold(folder)
    with pytest.raises(GlowkitError) as caught, files.alone_in(folder):
        pass
    told = str(caught.value)
    assert told.startswith(f"{folder}: in use by process {other.pid} on {files.HOST}, since 20") and "\n" not in told
    other.communicate()
    assert not folder.exists()  # nothing was written to it
    with files.alone_in(folder):
        (folder / "result").touch()
    assert [p.name for p in folder.iterdir()] == ["result"]


def test_a_lock_ends_with_its_process(tmp_path):
    other = hold(tmp_path)
    other.kill()
    other.wait()
    assert (tmp_path / files.LOCK).exists()
    with files.alone_in(tmp_path):
        assert str(os.getpid()) in (tmp_path / files.LOCK).read_text()
    assert not list(tmp_path.iterdir())


def test_what_the_dead_left_is_removed_and_what_the_living_write_is_not(tmp_path):
    gone, living = dead(), os.getppid()
    stays = [f".a.{living}@{files.HOST}.part.png", f".a.{gone}@elsewhere.part.png", ".hidden", "a.png"]
    for name in [*stays, f".a.{gone}@{files.HOST}.part.png"]:
        (tmp_path / name).touch()
    (tmp_path / f".state.{gone}@{files.HOST}.part").mkdir()
    (tmp_path / f".state.{gone}@{files.HOST}.part" / ".tmpX").touch()
    with files.replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("b")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*stays, "b.txt"])


def test_a_killed_writer_leaves_nothing_for_long(tmp_path):
    """Killed within a write of safetensors, which has a temporary file of its own."""
    code = """
import sys, torch
from pathlib import Path
from glowkit import checkpoint
while True:
    checkpoint.write_tensors(Path(sys.argv[1]) / "state.safetensors", {"a": torch.zeros(5_000_000)})
"""
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
        while not list(tmp_path.glob(f".*{process.pid}*.part/*")):
            assert process.poll() is None
        process.kill()
        process.wait()
        if left := list(tmp_path.glob(".*.part/*")):
            break
    assert left
    with files.alone_in(tmp_path):
        pass
    assert {p.name for p in tmp_path.iterdir()} <= {"state.safetensors"}


def test_an_error_of_the_system_names_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    for named in ((), ("temporary",), ("another",)):
        with pytest.raises(OSError, match="No space left") as caught, files.replacing(path) as temporary:
            temporary.write_text("ne")
            where = {"temporary": (str(temporary),), "another": ("/b.txt",)}
            raise OSError(errno.ENOSPC, "No space left on device", *(where[named[0]] if named else ()))
        assert caught.value.filename == ("/b.txt" if named == ("another",) else str(path))
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_a_sealed_file_is_told_from_one_with_any_bit_changed(tmp_path):
    path = tmp_path / "kept.npy"
    values = np.arange(6.0)
    np.save(path, values)
    assert not files.sealed(path)
    files.seal(path)
    assert files.sealed(path)
    np.testing.assert_array_equal(np.load(path, mmap_mode="c"), values)
    whole = path.read_bytes()
    for damaged in (b"", whole[:3], whole[:-1], whole + b"\0", *(_flipped(whole, k) for k in range(0, len(whole), 7))):
        path.write_bytes(damaged)
        assert not files.sealed(path)
    assert not files.sealed(tmp_path / "none.npy")


def _flipped(data, k):
    return data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :]


def test_a_name_of_any_length_that_a_folder_takes_can_be_written(tmp_path):
    path = tmp_path / ("\u00e9" * 120 + ".jpg")
    with files.replacing(path) as temporary:
        temporary.write_text("a")
    assert path.read_text() == "a" and len(list(tmp_path.iterdir())) == 1
