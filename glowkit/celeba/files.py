"""The files of CelebA as people have them: in folders or zips, lists in the official format or as CSV.

Images are in `img_align_celeba` (aligned) or `img_celeba` (in the wild): a folder, a zip that is read without
unpacking, or one array of crops with the list of its images (`glowkit crop --packed`).
"""

from __future__ import annotations

import functools
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from glowkit.celeba.zip import CutZip
from glowkit.errors import GlowkitError

ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IDENTITY_FILE = "identity_CelebA.txt"
LANDMARK_FILES = {
    "img_celeba": "list_landmarks_celeba.txt",
    "img_align_celeba": "list_landmarks_align_celeba.txt",
}
LISTS = (ATTRIBUTE_FILE, PARTITION_FILE, IDENTITY_FILE, *LANDMARK_FILES.values())
FOLDERS = ("", "Anno", "Eval", "Img")  # where the official release has them
PACKED = "img_align_celeba.npy"  # uint8 (N, 3, S, S); the image names are in a .txt of that name
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class File(NamedTuple):
    """A file on disk, a member of the zip `archive`, or an image of the array `name`. Plain data: any process can
    read it."""

    name: str
    archive: str | None = None
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}" if self.archive else self.name

    def read(self) -> bytes:
        """The bytes. Raises GlowkitError if they cannot be had."""
        try:
            if self.archive:
                return _open_zip(self.archive, os.getpid()).read(self.name)
            return Path(self.name).read_bytes()
        # RuntimeError: an encrypted member; NotImplementedError: a compression Python lacks.
        except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
            raise GlowkitError(f"{self}: cannot be read ({error})") from error

    @contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """The image, not decoded yet. Whatever is wrong with it in the block is a GlowkitError that names the file."""
        data = b"" if self.row is not None else self.read()
        try:
            if self.row is not None:
                yield Image.fromarray(open_packed(self.name)[self.row].transpose(1, 2, 0))
            else:
                yield Image.open(io.BytesIO(data))
        except GlowkitError as error:
            raise GlowkitError(f"{self}: {error}") from error
        except Image.UnidentifiedImageError as error:
            raise GlowkitError(f"{self}: not an image ({len(data)} bytes)") from error
        # Pillow's decoders answer damage with any of these; SyntaxError is a broken PNG.
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise GlowkitError(f"{self}: truncated or damaged image ({error})") from error

    def image(self) -> Image.Image:
        """The decoded RGB image. Raises GlowkitError if it is cut short, damaged or no image."""
        with self.opened() as image:
            return image.convert("RGB")


# Opening a zip of 200,000 members takes a second. Processes must not share one: it has one place in the file.
@functools.lru_cache(maxsize=16)
def _open_zip(path: str, process: int) -> zipfile.ZipFile | CutZip:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        return CutZip(path)


@functools.lru_cache(maxsize=16)
def open_packed(path: str) -> np.ndarray:
    """The array of a packed tree, uint8 (N, 3, S, S), mapped from disk."""
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GlowkitError(f"{path}: no array, or cut short ({error})") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] != pixels.shape[3]:
        raise GlowkitError(f"{path}: {pixels.dtype} {pixels.shape}; uint8 (N, 3, S, S) is needed")
    return pixels


def find(path: Path) -> tuple[dict[str, dict[str, File]], dict[str, str]]:
    """The files of a tree by name: images under their kind, a key of LANDMARK_FILES, lists under "" by their official
    names; and the zips that were cut short, each with what is left of it. Raises GlowkitError if there is nothing at
    the path, or a zip cannot be opened."""
    found: dict[str, dict[str, File]] = {"": {}, **{kind: {} for kind in LANDMARK_FILES}}
    cut: dict[str, str] = {}
    _open_zip.cache_clear()  # what was at these paths may have changed
    open_packed.cache_clear()

    def add(kind: str, file: File) -> None:
        name = PurePosixPath(file.name).name
        if (official := name.removesuffix(".csv").removesuffix(".txt") + ".txt") in LISTS:
            found[""].setdefault(official, file)
        elif kind in LANDMARK_FILES and name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
            found[kind].setdefault(name, file)

    def add_zip(zip_path: Path) -> None:
        try:
            archive = _open_zip(str(zip_path), os.getpid())
        except (OSError, zipfile.BadZipFile) as error:
            raise GlowkitError(f"{zip_path}: not a zip, or cut short ({error}); get it again") from error
        if isinstance(archive, CutZip):
            cut[str(zip_path)] = archive.cut
        # Members may lie in img_align_celeba/ or at the top of an archive named so.
        own = next((kind for kind in LANDMARK_FILES if zip_path.name.startswith(kind)), "")
        for member in archive.namelist():
            add(PurePosixPath(member).parent.name or own, File(member, str(zip_path)))

    if path.is_file():
        add_zip(path)
        places = [path.parent]  # lists may lie beside the zip
    elif path.is_dir():
        places = [path / name for name in FOLDERS]
        for place in places:
            if (place / PACKED).is_file():
                listed = (place / PACKED).with_suffix(".txt")
                names, rows = File(str(listed)).read().decode().split(), len(open_packed(str(place / PACKED)))
                if len(names) != rows:
                    raise GlowkitError(f"{listed}: {len(names)} names of {rows} images in {PACKED}")
                files = (File(str(place / PACKED), row=row) for row in range(rows))
                found["img_align_celeba"].update(zip(names, files, strict=True))
            for kind in LANDMARK_FILES:
                for folder, _, names in os.walk(place / kind):
                    for name in names:
                        add(kind, File(os.path.join(folder, name)))
            for zip_path in sorted(place.glob("*celeba*.zip")):
                add_zip(zip_path)
    else:
        raise GlowkitError(f"{path}: no such file or folder")
    for place in places:
        for name in LISTS:
            for file in (place / name, (place / name).with_suffix(".csv")):
                if file.is_file():
                    add("", File(str(file)))
    return found, cut


def table(
    file: File, convert: Callable[[list[str]], object], what: str, columns: int | None = None
) -> tuple[list[str] | None, dict[str, object]]:
    """Header (or None) and {image name: converted values} of a list; `what` says what a right row holds.

    A .csv has a header line. In the official format, a count line and a header line come first, or, with `columns`
    given, nothing. Raises GlowkitError, which names the file and line, if anything is wrong.
    """
    comma = file.name.endswith(".csv")

    def cells(line: str) -> list[str]:
        return [cell.strip() for cell in line.split(",")] if comma else line.split()

    try:
        lines = file.read().decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise GlowkitError(f"{file}: not a text file (byte {error.start} is not UTF-8)") from error
    header, first = None, 0
    if comma or columns is None:
        first = 1 if comma else 2
        if len(lines) <= first:
            needed = "a header line and rows" if comma else "a count line, a header line and rows"
            raise GlowkitError(f"{file}: {len(lines)} lines; {needed} are needed")
        header = cells(lines[first - 1])[1 if comma else 0 :]
        found = len(cells(lines[first])) - 1
        columns = columns or len(header)
        # If the very first row disagrees with the header, the header is the likelier culprit.
        if not columns == len(header) == found:
            raise GlowkitError(
                f"{file} line {first}: the header names {len(header)} columns, but line {first + 1} has {found} values"
            )
        if len(set(header)) < columns:
            twice = next(name for name in header if header.count(name) > 1)
            raise GlowkitError(f"{file} line {first}: the header names {twice} twice")
    rows: dict[str, object] = {}
    for number, line in enumerate(lines[first:], first + 1):
        name, *values = cells(line) or [""]
        if len(values) != columns:
            raise GlowkitError(f"{file} line {number}: {len(values)} values, not {columns} ({what})")
        if name in rows:
            raise GlowkitError(f"{file} line {number}: {name} has a line already")
        try:
            rows[name] = convert(values)
        except (ValueError, KeyError) as error:
            raise GlowkitError(f"{file} line {number}: {' '.join(values)[:60]!r} is not {what}") from error
    if first == 2 and lines[0].strip() != str(len(rows)):
        raise GlowkitError(f"{file} line 1: says {lines[0].strip()[:40]!r}, but {len(rows)} rows follow the header")
    return header, rows
