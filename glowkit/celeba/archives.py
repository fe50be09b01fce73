"""Zips, and what is left of one that was cut short, read within limits: a small zip can unpack to any size.

The directory of a zip is its end. Where that is gone, every whole file before the cut can still be read: each has a
header of its own before its bytes (APPNOTE.TXT, 4.3.7), so they are found one after another.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from glowkit.errors import GlowkitError

# Of a file: signature, flags, method, sum, lengths: packed, its own, of the name, of extras.
HEADER = struct.Struct("<4s2xHH4xIIIHH")
# What ends a directory, with how many files it has; programs write that modulo 2**16 or, in a record before it, whole.
END, WIDE_END, BETWEEN = struct.Struct("<4s6xH10x"), struct.Struct("<4s28xQ16x"), 20  # bytes between the two
# Their signatures.
FILE, DIRECTORY, DESCRIPTOR, ENDS, WIDE_ENDS = b"PK\3\4", b"PK\1\2", b"PK\7\10", b"PK\5\6", b"PK\6\6"
SIZE_FOLLOWS, UTF8 = 0x8, 0x800  # flags
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ELSEWHERE = 0xFFFFFFFF  # in place of a length of four bytes
ENTRY = 46  # bytes that the directory of a zip has for each file, besides its name
MAX_DIRECTORY = 48 * 2**20  # bytes: some 600,000 files; CelebA has 405,198 images
MAX_UNPACKED = 2**29  # bytes, and eight times the zip's own: what is unpacked only to see where it ends
PIECE = 2**16  # bytes read at a time


class Member(NamedTuple):
    """Where a whole file's bytes are, how they are packed, and the CRC-32 of what they unpack to."""

    start: int
    length: int
    method: int
    crc: int


class WholeZip(zipfile.ZipFile):
    """A zip with its directory. Raises zipfile.BadZipFile if that is damaged, GlowkitError if it is too large.

    zipfile passes over files without a word if a length in the directory is wrong, and cuts a name at a zero byte.
    """

    cut = ""
    file: BinaryIO | None = None

    def __init__(self, path: str) -> None:
        self.file = _InPieces(io.FileIO(path))
        super().__init__(self.file)
        files = self.infolist()
        if (said := self._count()) not in (len(files), len(files) % 2**16):
            raise zipfile.BadZipFile(f"its directory has {len(files):,} files, and should have {said:,}")
        if odd := next((file for file in files if "\0" in file.orig_filename), None):
            raise zipfile.BadZipFile(f"its directory has the name {odd.orig_filename[:60]!a}")

    def close(self) -> None:
        super().close()  # leaves open what was opened before it
        if self.file:
            self.file.close()

    def read(self, name: str, limit: int) -> bytes:
        """Raises zipfile.BadZipFile, EOFError, zlib.error, RuntimeError (it is encrypted) or NotImplementedError if the
        file is damaged, packed otherwise or longer than `limit` bytes."""
        member = self.getinfo(name)
        _check(member.compress_type, member.file_size, limit)
        try:
            with self.open(member) as file:
                return b"".join(iter(lambda: file.read(PIECE), b""))
        except (ValueError, struct.error) as error:  # a name that is no UTF-8, say
            raise zipfile.BadZipFile(str(error)) from None

    def own_name(self, name: str) -> str:
        """The name of a file as it stands before its bytes, which the directory repeats; `name` itself if there is
        none to be read."""
        self.file.seek(self.getinfo(name).header_offset)
        head = self.file.read(HEADER.size)
        return _name(self.file, head) if len(head) == HEADER.size and head.startswith(FILE) else name

    def _count(self) -> int:
        """How many files there are, by the end of the directory."""
        self.file.seek(-min(self.file.seek(0, io.SEEK_END), 2**17), io.SEEK_END)  # a comment has less than 2**16 bytes
        tail = self.file.read()
        at = tail.rfind(ENDS)
        wide = at - BETWEEN - WIDE_END.size
        if wide >= 0 and tail.startswith(WIDE_ENDS, wide):
            return WIDE_END.unpack_from(tail, wide)[1]
        return END.unpack_from(tail, at)[1]


class _InPieces(io.BufferedReader):
    """A zip that has its directory, which zipfile reads all at once, only if memory has room for it."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise GlowkitError(f"{self.name}: its directory has {size:,} bytes; at most {MAX_DIRECTORY:,} are read")
        return super().read(size)


class CutZip:
    """The whole files in a zip without a directory, to be read like those of a `WholeZip`.

    `cut` says where the whole files end. Raises zipfile.BadZipFile if there are none.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.names: list[str] = []
        self.members: dict[str, Member] = {}
        with self.path.open("rb") as file:
            end = self._scan(file)
        if not self.members:
            raise zipfile.BadZipFile(f"no whole file, but {end}")
        self.cut = f"{len(self.members):,} whole files, then {end}"

    def namelist(self) -> list[str]:
        return self.names

    def read(self, name: str, limit: int) -> bytes:
        """Raises zipfile.BadZipFile, zlib.error or NotImplementedError if the file is damaged, packed otherwise or
        longer than `limit` bytes."""
        member = self.members[name]
        _check(member.method, member.length, limit)
        with self.path.open("rb") as file:
            file.seek(member.start)
            data = file.read(member.length)
        if member.method == DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit + 1)
            _check(member.method, len(data), limit)
        if zlib.crc32(data) != member.crc:
            raise zipfile.BadZipFile("bad CRC-32")
        return data

    def _scan(self, file: BinaryIO) -> str:
        """Find the members. Returns what comes after the last."""
        size = self.path.stat().st_size
        unpacked, directory = 0, 0
        while True:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                return "the end"
            if not head.startswith(FILE):
                return "its directory, which is cut or damaged" if head.startswith(DIRECTORY) else "damage"
            _, flags, method, crc, length, _, name_length, extra_length = HEADER.unpack(head)
            directory += ENTRY + name_length
            if directory > MAX_DIRECTORY:
                return f"more of them than a directory of {MAX_DIRECTORY:,} bytes has, which are not read"
            start = file.tell() + name_length + extra_length
            name = _name(file, head)
            file.seek(start)
            said = length != ELSEWHERE and not (flags & SIZE_FOLLOWS and length == 0)
            if not said and method == DEFLATED:
                try:
                    length, own = _deflated_lengths(file, MAX_UNPACKED + 8 * size - unpacked)
                except zlib.error:
                    return f"{name[:60]}, which is damaged"
                unpacked += own
                if unpacked > MAX_UNPACKED + 8 * size:
                    return f"{name[:60]}, which unpacks to too much"
            elif not said:
                return f"{name[:60]}, whose header does not say how long it is"
            file.seek(start + length)
            if flags & SIZE_FOLLOWS:
                after = file.read(28)
                at = 4 if after.startswith(DESCRIPTOR) else 0
                crc = int.from_bytes(after[at : at + 4], "little")
                # Its sum, then two lengths of four or of eight bytes.
                wide = after[at + 20 : at + 22] == b"PK" and after[at + 12 : at + 14] != b"PK"
                file.seek(start + length + at + (20 if wide else 12))
            if file.tell() > size:
                return f"{name[:60]}, which is cut"
            if not name.endswith("/"):
                self.names.append(name)
                self.members[name] = Member(start, length, method, crc)


def _name(file: BinaryIO, head: bytes) -> str:
    """The name that comes next in the file, after the header."""
    _, flags, *_, length, _ = HEADER.unpack(head)
    return file.read(length).decode("utf-8" if flags & UTF8 else "cp437", "replace")


def _check(method: int, length: int, limit: int) -> None:
    if method not in (STORED, DEFLATED):
        raise NotImplementedError(f"compression method {method}; a zip of stored or deflated files is needed")
    if length > limit:
        raise zipfile.BadZipFile(f"longer than the {limit:,} bytes that are read")


def _deflated_lengths(file: BinaryIO, most: int) -> tuple[int, int]:
    """Bytes from here on to where the deflated stream ends, or the file, and how many it unpacks to, if not more than
    `most`."""
    stream, length, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    while not stream.eof and unpacked <= most and (piece := file.read(PIECE)):
        unpacked += len(stream.decompress(piece))
        length += len(piece) - len(stream.unused_data)
    return (length if stream.eof else ELSEWHERE), unpacked
