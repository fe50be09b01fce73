"""The files of CelebA, on disk or in zips that are read without unpacking, and what they are called.

Images are in `img_align_celeba` (aligned) or `img_celeba` (in the wild): a folder, a zip, or one array of crops with
the list of its images (`glowkit crop --packed`). `places` finds them, `lists` reads what is said of them.

Files come from anywhere, so nothing in them is believed before it is checked: names are those of plain files, only
formats of pictures that are meant are opened, and everything has a limit that memory has room for.
"""

from __future__ import annotations

import functools
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from glowkit.celeba import pictures
from glowkit.celeba.archives import CutZip, WholeZip
from glowkit.errors import GlowkitError
from glowkit.files import expanded

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
MAX_NAME = 200  # bytes; file systems take 255, and a temporary name beside it is longer
DEVICE = re.compile(
    r"(con|conin\$|conout\$|prn|aux|nul|(com|lpt)[\d¹²³]) *\..*", re.IGNORECASE
)  # what Windows takes for no file

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
                return open_zip(self.archive, os.getpid()).read(self.name, MAX_FILE)
            path = expanded(self.name)
            about = os.stat(path)
            if not stat.S_ISREG(about.st_mode):
                raise OSError("not a file")  # a pipe may never end, nor even begin
            if about.st_size > MAX_FILE:
                raise OSError(f"longer than the {MAX_FILE:,} bytes that are read")
            return path.read_bytes()
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


@functools.lru_cache(maxsize=16)
def open_zip(path: str, process: int) -> WholeZip | CutZip:
    """A zip, kept open: that takes a second for 200,000 members. Processes must not share one: it has one place in the
    file."""
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
