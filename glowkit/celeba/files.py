"""The files of CelebA as people have them: in folders or zips, lists in the official format or as CSV.

Images are in `img_align_celeba` (aligned) or `img_celeba` (in the wild): a folder, a zip that is read without
unpacking, or one array of crops with the list of its images (`glowkit crop --packed`).

Files come from anywhere, so nothing in them is believed before it is checked: names are those of plain files, only
formats of pictures that are meant are opened, and everything has a limit that memory has room for.
"""

from __future__ import annotations

import functools
import io
import math
import os
import re
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from glowkit.celeba import pictures
from glowkit.celeba.archives import CutZip, WholeZip
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
MAX_FILE = 2**26  # bytes of an image or a list; the longest of CelebA has 27 MB
MAX_LINES, MAX_LINE = 1_000_000, 2**16  # lines of a list, and characters of one; CelebA has 202,599 images
MAX_NAME = 200  # bytes; file systems take 255, and a temporary name beside it is longer
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\..*", re.IGNORECASE)  # what Windows takes for no file

# The beginning of a .npy file of pixels. NumPy would read any header there is, and evaluate it.
ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|u1', 'fortran_order': False, "
    rb"'shape': \(([1-9][0-9]{0,8}), 3, ([1-9][0-9]{0,3}), \2\), \} *\n",
    re.DOTALL,
)


def image_name(name: str, where: object) -> str:
    """The name, if any system would take it for one of an image in a folder, and nothing else. Raises GlowkitError,
    which says where it was found."""
    if (
        not name.lower().endswith(IMAGE_SUFFIXES)
        or not name.isprintable()  # which a line break is not, nor half a character
        or not set(name).isdisjoint("/\\:")
        or name.startswith((".", " "))
        or DEVICE.fullmatch(name)
        or len(name.encode()) > MAX_NAME
    ):
        raise GlowkitError(f"{where}: {name[:60]!a} is not the plain name of an image, such as 000001.jpg")
    return name


class File(NamedTuple):
    """A file on disk, a member of the zip `archive`, or an image of the array `name`. Plain data: any process can
    read it."""

    name: str
    archive: str | None = None
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}" if self.archive else self.name

    def read(self) -> bytes:
        """The bytes. Raises GlowkitError if they cannot be had, or are more than memory is meant for."""
        try:
            if self.archive:
                return _open_zip(self.archive, os.getpid()).read(self.name, MAX_FILE)
            about = os.stat(self.name)
            if not stat.S_ISREG(about.st_mode):
                raise OSError("not a file")  # a pipe may never end, nor even begin
            if about.st_size > MAX_FILE:
                raise OSError(f"longer than the {MAX_FILE:,} bytes that are read")
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
                yield pictures.open_picture(data)
        except GlowkitError as error:
            raise GlowkitError(f"{self}: {error}") from error
        # Pillow's decoders answer damage with any of these; SyntaxError is a broken PNG.
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
            raise GlowkitError(f"{self}: truncated or damaged image ({error})") from error

    def shown(self) -> tuple[Image.Image, list[tuple[str, str]]]:
        """The decoded RGB image as viewers show it, and what was done for that (`pictures.shown`). Raises GlowkitError
        if it is cut short, damaged or no image."""
        with self.opened() as image:
            upright, notes = pictures.shown(image)
            return upright.convert("RGB"), notes

    def image(self) -> Image.Image:
        """The image of `shown` alone."""
        return self.shown()[0]


# Opening a zip of 200,000 members takes a second. Processes must not share one: it has one place in the file.
@functools.lru_cache(maxsize=16)
def _open_zip(path: str, process: int) -> WholeZip | CutZip:
    try:
        return WholeZip(path)
    except zipfile.BadZipFile:
        return CutZip(path)


def map_pixels(path: str | Path) -> np.ndarray:
    """The array in a .npy file, uint8 (N, 3, S, S), mapped from disk. Raises GlowkitError if there is none."""
    try:
        with open(path, "rb") as file:
            head, size = ARRAY.match(file.read(2**8)), os.fstat(file.fileno()).st_size
        if not head:
            raise GlowkitError(f"{path}: no array of uint8 (N, 3, S, S), as glowkit crop --packed writes it")
        images, side = map(int, head.groups())
        shape = (images, 3, side, side)
        if size - head.end() < math.prod(shape):
            raise GlowkitError(f"{path}: cut short: {size:,} bytes are too few for {shape}")
        return np.memmap(path, np.uint8, "r", head.end(), shape)
    except OSError as error:
        raise GlowkitError(f"{path}: cannot be read ({error})") from error


open_packed = functools.lru_cache(maxsize=16)(map_pixels)


def find(path: Path) -> tuple[dict[str, dict[str, File]], dict[str, str]]:
    """The files of a tree by name: images under their kind, a key of LANDMARK_FILES, lists under "" by their official
    names; and the zips that were cut short, each with what is left of it. Raises GlowkitError if there is nothing at
    the path, or a zip cannot be opened."""
    found: dict[str, dict[str, File]] = {"": {}, **{kind: {} for kind in LANDMARK_FILES}}
    cut: dict[str, str] = {}
    _open_zip.cache_clear()  # what was at these paths may have changed
    open_packed.cache_clear()

    def add(files: Iterable[tuple[str, File]]) -> None:
        """Take the files of one place, each with the kind that its folder names; those of the places before stay."""
        here: dict[tuple[str, str], File] = {}
        for kind, file in files:
            name = file.name.rpartition("/")[2]
            if _official(name) in LISTS:
                kind = ""
            elif kind in LANDMARK_FILES and name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                image_name(name, file)
            else:
                continue
            if (other := here.setdefault((kind, name), file)) is not file:
                raise GlowkitError(f"{file}: has the name of {other}; names must differ, so move one of them away")
        for (kind, name), file in here.items():
            found[kind].setdefault(name if kind else _official(name), file)

    def add_zip(zip_path: Path) -> None:
        try:
            archive = _open_zip(str(zip_path), os.getpid())
        except (OSError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile) as error:
            if isinstance(error, GlowkitError):
                raise
            raise GlowkitError(f"{zip_path}: not a zip, or cut short ({error}); get it again") from error
        if archive.cut:
            cut[str(zip_path)] = archive.cut
        # Members may lie in img_align_celeba/ or at the top of an archive named so.
        own = next((kind for kind in LANDMARK_FILES if zip_path.name.startswith(kind)), "")
        members = (name for name in archive.namelist() if not name.endswith("/"))
        add((name.rpartition("/")[0].rpartition("/")[2] or own, File(name, str(zip_path))) for name in members)

    if path.is_file():
        add_zip(path)
        places = [path.parent]  # lists may lie beside the zip
    elif path.is_dir():
        places = [path / name for name in FOLDERS]
        for place in places:
            if (place / PACKED).is_file():
                found["img_align_celeba"].update(_packed(str(place / PACKED)))
            for kind in LANDMARK_FILES:
                walked = os.walk(place / kind)
                add((kind, File(os.path.join(folder, name))) for folder, _, names in walked for name in names)
            for zip_path in sorted(filter(Path.is_file, place.glob("*celeba*.zip"))):
                add_zip(zip_path)
    else:
        raise GlowkitError(f"{path}: no such file or folder")
    for place in places:
        files = (file for name in LISTS for file in (place / name, (place / name).with_suffix(".csv")))
        add(("", File(str(file))) for file in files if file.is_file())
    return found, cut


def _official(name: str) -> str:
    """The name that the official release has for a list of this name, if it is one."""
    return name.removesuffix(".csv").removesuffix(".txt") + ".txt"


def _packed(path: str) -> Iterator[tuple[str, File]]:
    """The names of the images in the array at `path`, and where each is."""
    listed = File(str(Path(path).with_suffix(".txt")))
    names, rows = _lines(listed), len(open_packed(path))
    if len(names) != rows:
        raise GlowkitError(f"{listed}: {len(names)} names of {rows} images in {PACKED}")
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = lines.setdefault(image_name(name, f"{listed} line {number}"), number)
        if first != number:
            raise GlowkitError(f"{listed} line {number}: {name} is the name in line {first} already")
        yield name, File(path, row=number - 1)


def _lines(file: File) -> list[str]:
    """The lines of a list. Raises GlowkitError if it is no text, or longer than any list of images."""
    try:
        text = io.StringIO(file.read().decode("utf-8-sig").rstrip(), newline=None)
    except UnicodeDecodeError as error:
        raise GlowkitError(f"{file}: not a text file (byte {error.start} is not UTF-8)") from error
    lines: list[str] = []
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise GlowkitError(f"{file} line {len(lines) + 1}: longer than the {MAX_LINE:,} characters that are read")
        if len(lines) == MAX_LINES:
            raise GlowkitError(f"{file}: more than the {MAX_LINES:,} lines that are read")
        lines.append(line.strip())
    return lines


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

    lines = _lines(file)
    header, first = None, 0
    if comma or columns is None:
        first = 1 if comma else 2
        if len(lines) <= first:
            needed = "a header line and rows" if comma else "a count line, a header line and rows"
            raise GlowkitError(f"{file}: {len(lines)} lines; {needed} are needed")
        header = cells(lines[first - 1])[1 if comma else 0 :]
        found = len(cells(lines[first])) - 1
        columns = columns or len(header)
        if not columns:
            raise GlowkitError(f"{file} line {first}: the header names no columns but the images")
        # If the very first row disagrees with the header, the header is the likelier culprit.
        if not columns == len(header) == found:
            raise GlowkitError(
                f"{file} line {first}: the header names {len(header)} columns, but line {first + 1} has {found} values"
            )
        if odd := [name for name in header if not name or not name.isprintable() or " " in name]:
            raise GlowkitError(f"{file} line {first}: the header has {odd[0][:60]!a}; a column's name is one word")
        if twice := [name for name, times in Counter(header).items() if times > 1]:
            raise GlowkitError(f"{file} line {first}: the header names {twice[0]} twice")
    rows: dict[str, object] = {}
    for number, line in enumerate(lines[first:], first + 1):
        name, *values = cells(line) or [""]
        if len(values) != columns:
            raise GlowkitError(f"{file} line {number}: {len(values)} values, not {columns} ({what})")
        if " " in image_name(name, f"{file} line {number}"):
            raise GlowkitError(f"{file} line {number}: {name!r} has a space, which would end it in an official list")
        if name in rows:
            raise GlowkitError(f"{file} line {number}: {name} has a line already")
        try:
            rows[name] = convert(values)
        except (ValueError, KeyError) as error:
            raise GlowkitError(f"{file} line {number}: {' '.join(values)[:60]!r} is not {what}") from error
    if first == 2 and lines[0].strip() != str(len(rows)):
        raise GlowkitError(f"{file} line 1: says {lines[0].strip()[:40]!r}, but {len(rows)} rows follow the header")
    return header, rows
