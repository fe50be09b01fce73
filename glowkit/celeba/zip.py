"""A zip that was cut short: its directory is gone, which is its end, but every whole file before the cut can be read.

Each file in a zip has a header of its own before its bytes (APPNOTE.TXT, 4.3.7), so they are found one after another.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER = struct.Struct("<4s2xHH4xIIIHH")  # signature, flags, method, sum, packed and own length, of the name, of extras
FILE, DIRECTORY, DESCRIPTOR = b"PK\3\4", b"PK\1\2", b"PK\7\10"  # signatures
SIZE_FOLLOWS, UTF8 = 0x8, 0x800  # flags
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ELSEWHERE = 0xFFFFFFFF  # in place of a length of four bytes


class Member(NamedTuple):
    """Where a whole file's bytes are, how they are packed, and the CRC-32 of what they unpack to."""

    start: int
    length: int
    method: int
    crc: int


class CutZip:
    """The whole files in a zip without a directory, to be read like those of a `zipfile.ZipFile`.

    `cut` says where the whole files end. Raises zipfile.BadZipFile if there are none.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.members: dict[str, Member] = {}
        with self.path.open("rb") as file:
            end = self._scan(file)
        if not self.members:
            raise zipfile.BadZipFile(f"no whole file, but {end}")
        self.cut = f"{len(self.members):,} whole files, then {end}"

    def namelist(self) -> list[str]:
        return list(self.members)

    def read(self, name: str) -> bytes:
        """Raises zipfile.BadZipFile, zlib.error or NotImplementedError if the file is damaged or packed otherwise."""
        member = self.members[name]
        with self.path.open("rb") as file:
            file.seek(member.start)
            data = file.read(member.length)
        if member.method == DEFLATED:
            data = zlib.decompress(data, -zlib.MAX_WBITS)
        elif member.method != STORED:
            raise NotImplementedError(f"compression method {member.method}")
        if zlib.crc32(data) != member.crc:
            raise zipfile.BadZipFile("bad CRC-32")
        return data

    def _scan(self, file: BinaryIO) -> str:
        """Find the members. Returns what comes after the last."""
        size = self.path.stat().st_size
        while True:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                return "the end"
            if not head.startswith(FILE):
                return "its directory, which is cut" if head.startswith(DIRECTORY) else "damage"
            _, flags, method, crc, length, _, name_length, extra_length = HEADER.unpack(head)
            start = file.tell() + name_length + extra_length
            name = file.read(name_length).decode("utf-8" if flags & UTF8 else "cp437", "replace")
            file.seek(start)
            said = length != ELSEWHERE and not (flags & SIZE_FOLLOWS and length == 0)
            if not said and method == DEFLATED:
                try:
                    length = _deflated_length(file)
                except zlib.error:
                    return f"{name}, which is damaged"
            elif not said:
                return f"{name}, whose header does not say how long it is"
            file.seek(start + length)
            if flags & SIZE_FOLLOWS:
                after = file.read(28)
                at = 4 if after.startswith(DESCRIPTOR) else 0
                crc = int.from_bytes(after[at : at + 4], "little")
                # Its sum, then two lengths of four or of eight bytes.
                wide = after[at + 20 : at + 22] == b"PK" and after[at + 12 : at + 14] != b"PK"
                file.seek(start + length + at + (20 if wide else 12))
            if file.tell() > size:
                return f"{name}, which is cut"
            if not name.endswith("/"):
                self.members[name] = Member(start, length, method, crc)


def _deflated_length(file: BinaryIO) -> int:
    """Bytes from here on to where the deflated stream ends, or the file."""
    stream, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not stream.eof and (piece := file.read(2**16)):
        stream.decompress(piece)
        length += len(piece) - len(stream.unused_data)
    return length if stream.eof else ELSEWHERE
