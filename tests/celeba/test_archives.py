"""Zips cut at any byte: the whole files before the cut, against what went in."""

import io
import os
import random
import shutil
import struct
import subprocess
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit.celeba import archives
from glowkit.celeba.archives import CutZip, WholeZip
from glowkit.errors import GlowkitError

SIZES = (0, 1, 700, 5000, 70_000)
NOISE = random.Random(0)
LIMIT = 10**6
FILES = {f"img_align_celeba/{i:06d}.jpg": NOISE.randbytes(n // 2) + bytes(n - n // 2) for i, n in enumerate(SIZES)}


class Pipe(io.RawIOBase):
    """A place to write to that cannot go back: zipfile then puts lengths after the bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += data
        return len(data)


def zipped(method: int, streamed: bool, zip64: bool = False) -> tuple[bytes, list[int]]:
    """A zip of FILES and where each of them ends in it."""
    out, ends = Pipe() if streamed else io.BytesIO(), []
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.mkdir("img_align_celeba") if not streamed else None
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=zip64) as file:
                file.write(data)
            ends.append(len(out.data) if streamed else out.tell())
    return bytes(out.data if streamed else out.getvalue()), ends


KINDS = {
    "stored": (zipfile.ZIP_STORED, False),
    "deflated": (zipfile.ZIP_DEFLATED, False),
    "streamed": (zipfile.ZIP_DEFLATED, True),
    "streamed, long": (zipfile.ZIP_DEFLATED, True, True),
}
ZIPS = {kind: zipped(*how) for kind, how in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), near=st.sampled_from([None, 0, 1, 2, 3, 4]), off=st.integers(-40, 40))
def test_every_whole_file_before_a_cut_and_no_other(kind, share, near, off, tmp_path_factory):
    data, ends = ZIPS[kind]
    cut = int(share * ends[-1]) if near is None else min(max(0, ends[near] + off), len(data) - 1)
    path = tmp_path_factory.mktemp("cut") / "a.zip"
    path.write_bytes(data[:cut])
    spare = 8 if kind == "streamed, long" else 0  # bytes of the lengths after the bytes; the sum before them is enough
    whole = [name for name, end in zip(FILES, ends, strict=True) if end - spare <= cut]
    if not whole:
        with pytest.raises(zipfile.BadZipFile):
            CutZip(path)
        return
    archive = CutZip(path)
    assert archive.namelist() == whole
    assert all(archive.read(name, LIMIT) == FILES[name] for name in whole)
    assert archive.cut.startswith(f"{len(whole)} whole files, then ")


@pytest.mark.skipif(not shutil.which("zip"), reason="no zip program")
@pytest.mark.parametrize("options", ["-0", "-6", "-fd0", "-fd6"])
def test_zips_of_info_zip(tmp_path, options):
    """Its -fd puts lengths after the bytes."""
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(NOISE.randbytes(3000) + bytes(3000))
    subprocess.run(["zip", "-q", options, "a.zip", *(f"{i}.jpg" for i in range(5))], cwd=tmp_path, check=True)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path) as archive:
        last = archive.getinfo("4.jpg")
    with path.open("r+b") as file:
        file.truncate(last.header_offset + 200)
    archive = CutZip(path)
    assert archive.cut == "4 whole files, then 4.jpg, which is cut"
    assert all(archive.read(name, LIMIT) == (tmp_path / name).read_bytes() for name in archive.namelist())


def test_damage_before_the_cut_is_seen(tmp_path):
    data, ends = ZIPS["deflated"]
    path, names = tmp_path / "a.zip", list(FILES)
    middle = (ends[2] + ends[3]) // 2
    path.write_bytes(data[:middle] + b"\0" * 20 + data[middle + 20 : -30])
    archive = CutZip(path)
    assert archive.cut == "5 whole files, then its directory, which is cut or damaged"
    with pytest.raises((zipfile.BadZipFile, zipfile.zlib.error)):
        archive.read(names[3], LIMIT)
    assert archive.read(names[4], LIMIT) == FILES[names[4]]
    path.write_bytes(data[: ends[1]] + b"\0" * 100)  # as some programs keep the place of what is to come
    assert CutZip(path).cut == "2 whole files, then damage"


def test_stored_files_that_do_not_say_how_long_they_are(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(zipfile.ZIP_STORED, True)[0][:-30])
    with pytest.raises(zipfile.BadZipFile, match="000000.jpg, whose header does not say how long it is"):
        CutZip(tmp_path / "a.zip")


def bomb(path, streamed: bool, says: int | None = None) -> None:
    """A zip with 20 MB of nothing, whose directory may say that it is less."""
    out = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first.jpg", b"one")
        with archive.open("a.jpg", "w") as file:
            file.write(bytes(20_000_000))
        if says is not None:
            archive.getinfo("a.jpg").file_size = says
    path.write_bytes(out.data if streamed else out.getvalue())


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("says", [None, 100])
def test_what_a_small_zip_unpacks_to_has_a_limit(tmp_path, cut, says):
    path = tmp_path / "a.zip"
    bomb(path, streamed=cut, says=says)
    assert path.stat().st_size < 25_000
    if cut:
        os.truncate(path, path.stat().st_size - 40)
    archive = (CutZip if cut else WholeZip)(str(path))
    assert archive.namelist() == ["first.jpg", "a.jpg"] and archive.read("first.jpg", LIMIT) == b"one"
    tracemalloc.start()
    with pytest.raises(zipfile.BadZipFile, match="longer than the 1,000,000 bytes" if cut or not says else "CRC"):
        archive.read("a.jpg", LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    tracemalloc.stop()


def test_looking_for_the_end_of_a_file_has_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    bomb(path, streamed=True)
    os.truncate(path, path.stat().st_size - 40)
    monkeypatch.setattr(archives, "MAX_UNPACKED", LIMIT)
    archive = CutZip(str(path))
    assert archive.namelist() == ["first.jpg"] and archive.cut == "1 whole files, then a.jpg, which unpacks to too much"


def test_only_plain_ways_of_packing_are_read(tmp_path):
    """bzip2 cannot be told to stop after so many bytes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.jpg", bytes(1000))
    with pytest.raises(NotImplementedError, match="compression method 12"):
        WholeZip(str(path)).read("a.jpg", LIMIT)


def test_a_directory_has_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    path.write_bytes(ZIPS["stored"][0])
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 200)
    with pytest.raises(GlowkitError, match="a.zip: its directory has [0-9]+ bytes; at most 200 are read"):
        WholeZip(str(path))
    assert CutZip(str(path)).cut.startswith("1 whole files, then more of them than a directory of 200 bytes has")


def test_two_files_of_one_name_are_both_seen(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"one")
        archive.writestr("a.jpg", b"two")
    os.truncate(path, path.stat().st_size - 40)
    assert CutZip(str(path)).namelist() == ["a.jpg", "a.jpg"]


@pytest.mark.parametrize("wide", [True, False])
def test_as_many_files_as_the_directory_should_have(tmp_path, monkeypatch, wide):
    """Of more than 65,535 that number is in a record of its own, or, with some programs, modulo 65,536."""
    path, n = tmp_path / "a.zip", 7 if wide else 2**16 + 2
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"")
        archive.filelist *= n
        archive.comment = b"made for a test"
    data = path.read_bytes()
    at = data.rindex(archives.ENDS)
    if not wide:
        places = struct.unpack("<QQ", data[at - 36 : at - 20])  # the directory's length, and where it begins
        data = data[: at - 76] + struct.pack("<4s2H2H2LH", archives.ENDS, 0, 0, n % 2**16, n % 2**16, *places, 0)
        path.write_bytes(data)
    assert len(WholeZip(path).namelist()) == n
    count = at - 44 if wide else at - 76 + 10
    path.write_bytes(data[:count] + b"\1" + data[count + 1 :])
    with pytest.raises(zipfile.BadZipFile, match=f"its directory has {n:,} files, and should have 1"):
        WholeZip(path)


def test_a_name_that_is_not_utf8_where_the_file_lies_is_damage(tmp_path):
    """The directory has the name as it should be; the header before the bytes says UTF-8, and is not."""
    data = bytearray(ZIPS["stored"][0])
    name = list(FILES)[1]
    at = data.index(name.encode())
    data[at - 30 + 7] |= archives.UTF8 >> 8
    data[at : at + 2] = b"\xff\xfe"
    (tmp_path / "a.zip").write_bytes(data)
    archive = WholeZip(tmp_path / "a.zip")
    with pytest.raises(zipfile.BadZipFile, match="utf-8"):
        archive.read(name, LIMIT)
    other = list(FILES)[2]
    assert archive.read(other, LIMIT) == FILES[other]
    archive.close()
