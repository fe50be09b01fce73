"""Where the files of a tree are: in the layouts that people have CelebA in, or else what there is instead.

A tree may be named by its folder, by one above it, by the folder of its images, or by a zip. Zips may have been made by
any program, lie beside what was unpacked from them, or be none at all.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from glowkit.celeba import pictures
from glowkit.celeba.files import (
    FOLDERS,
    IMAGE_SUFFIXES,
    LANDMARK_FILES,
    LISTS,
    PACKED,
    File,
    image_name,
    open_packed,
    open_zip,
)
from glowkit.celeba.lists import lines_of
from glowkit.errors import GlowkitError
from glowkit.files import expanded

MAX_FOLDERS, MAX_ZIPS = 200, 20  # that are looked into, where a name does not say what they are
OFFICIAL = {name.removesuffix(".txt").lower(): name for name in LISTS}
NEEDED = "img_align_celeba or img_celeba is needed there, as a folder or a zip"
ARCHIVES = (".zip", ".7z", ".7z.001", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".jp2", ".jfif")  # of pictures that are not read
UNREADABLE = (OSError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile)  # raised for a damaged zip
OTHERS = {  # what archives of other kinds begin with
    "7z": b"7z\xbc\xaf\x27\x1c", "RAR": b"Rar!\x1a\x07", "gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
}  # fmt: skip


class Found(NamedTuple):
    """What of CelebA is at a place: images by kind (a key of LANDMARK_FILES) and name, lists by their official names.

    copies: other files of these lists, which must say the same. cut: the zips that were cut short, each with what is
    left of it. unread: archives that are of no use, and why.
    """

    root: Path  # the folder, or the zip, where it begins
    kind: str | None  # of the images, where the path itself names it
    images: dict[str, dict[str, File]]
    lists: dict[str, File]
    copies: dict[str, list[File]]
    cut: dict[str, str]
    unread: dict[str, str]


def find(path: str | Path) -> Found:
    """The files of the tree at a path: its folder, one above it, its images' folder, or a zip.

    Raises GlowkitError if there is nothing of CelebA, with what is there instead, or if a name is there twice.
    """
    path = expanded(path)
    open_zip.cache_clear()  # what was at these paths may have changed
    open_packed.cache_clear()
    if path.is_file():
        found = _in_zip(path)
    elif path.is_dir():
        root, kind = _root(path)
        found = _in_folder(root)._replace(kind=kind)
        if not any(found.images.values()):
            found = _deeper(root, found)
    else:
        raise GlowkitError(f"{path}: {'not a' if os.path.lexists(path) else 'no such'} file or folder")
    if not any(found.images.values()):
        raise GlowkitError(next(iter(found.unread.values()), f"{path}: no images of CelebA; {NEEDED}; {_seen(path)}"))
    return found


def is_tree(path: Path) -> bool:
    """Whether a folder has anything of CelebA in it, at a glance."""
    names = [entry.name for entry in _entries(path)] if path.is_dir() else []
    return not {PACKED, *FOLDERS}.isdisjoint(names) or any(
        _kind_of(name.removesuffix(".zip")) or _official(name) for name in names
    )


def _is_image(kind: str | None, name: str) -> bool:
    return bool(kind) and name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _kind_of(folder: str) -> str | None:
    """The kind of the images in a folder of this name; the official archive of PNGs has one of its own."""
    kind = folder.casefold().removesuffix("_png")
    return kind if kind in LANDMARK_FILES else None


def _official(name: str) -> str | None:
    """The name that the official release has for a list of this name, if it is one, `list_attr_celeba (1).CSV` say."""
    return OFFICIAL.get(re.sub(r"( ?\([0-9]\))?(\.(txt|csv|tsv))*$", "", name.lower()))


def _root(path: Path) -> tuple[Path, str | None]:
    """Where the tree begins that a folder belongs to, and the kind of the images if it is theirs."""
    here, kind = Path(os.path.abspath(path)), None
    while _kind_of(here.name) and not any(map(_official, os.listdir(here))):
        kind, here = kind or _kind_of(here.name), here.parent
    if here.name == "Img" and any((here.parent / name).is_dir() for name in FOLDERS[1:-1]):
        return here.parent, kind
    return (here if kind else path), kind


def _deeper(root: Path, above: Found) -> Found:
    """What is in the one folder, up to two below, that has images; lists that it lacks may lie above it."""
    below = [root]
    for _ in range(2):
        below = [Path(entry.path) for folder in below for entry in _entries(folder) if entry.is_dir()][:MAX_FOLDERS]
        there = [found for found in map(_in_folder, below) if any(found.images.values())]
        if len(there) > 1:
            raise GlowkitError(
                f"{root}: images of CelebA are in {there[0].root} and in {there[1].root}; give one of them"
            )
        if there:
            for official, file in above.lists.items():
                for copy in (file, *above.copies.get(official, ())):
                    _take_list(there[0], official, copy)
            return there[0]._replace(unread=above.unread | there[0].unread)
    return above


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, by name, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith((".", "__MACOSX"))), key=lambda e: e.name)
    except OSError as error:
        raise GlowkitError(f"{folder}: cannot be read ({error.strerror})") from error


def _in_folder(root: Path) -> Found:
    entries = _entries(root)
    places = [root, *(Path(e.path) for e in entries if e.name.lower() in map(str.lower, FOLDERS[1:]) and e.is_dir())]
    found = Found(root, None, {kind: {} for kind in LANDMARK_FILES}, {}, {}, {}, {})
    arrays = [str(place / PACKED) for place in places if (place / PACKED).is_file()]
    _take(found, (("img_align_celeba", *image) for path in arrays for image in _packed(path)))
    zips, folders = [], []
    for place in places:
        for entry in _entries(place) if place != root else entries:
            if _kind_of(entry.name) and entry.is_dir():
                folders.append(entry.path)
            elif (official := _official(entry.name)) and not entry.name.lower().endswith(".zip"):
                # Windows unpacks a list that is zipped alone into a folder of its name.
                inner = _entries(Path(entry.path)) if entry.is_dir() else []
                for file in inner or [entry]:
                    _take_list(found, official, File(file.path))
            elif entry.name.lower().endswith(".zip") and entry.is_file():
                zips.append(Path(entry.path))
    _take(found, (member for folder in folders for member in _walked(folder)))
    # A zip that is called otherwise may be anybody's.
    named = [path for path in zips if "celeba" in path.name.lower() or _official(path.name[:-4])]
    if not named and not any(found.images.values()):
        named = zips[:MAX_ZIPS]
    _take(found, (member for path in named for member in _members(found, path)))
    return found


def _in_zip(path: Path) -> Found:
    found = Found(path, None, {kind: {} for kind in LANDMARK_FILES}, {}, {}, {}, {})
    _take(found, _members(found, path))
    own = set(found.lists)
    # Lists may lie beside the zip, or beside the folder that the official release has it in.
    for place in [path.parent, *(path.parent.parent / name for name in ("Anno", "Eval") if path.parent.name == "Img")]:
        for entry in _entries(place) if place.is_dir() else []:
            if (official := _official(entry.name)) and official not in own and not entry.name.lower().endswith(".zip"):
                _take_list(found, official, File(entry.path))
    return found


def _take(found: Found, members: Iterable[tuple[str | None, str, File]]) -> None:
    """Add images and lists, each with its kind, its name and the file; what was found before stays."""
    here: dict[tuple[str, str], File] = {}
    before = set(found.lists)
    for kind, name, file in members:
        if official := _official(name):
            if official not in before:
                _take_list(found, official, file)
            continue
        if _is_image(kind, name):
            image_name(name, file)
        else:
            if kind and (suffix := Path(name).suffix.lower()) in OTHER_SUFFIXES:
                found.unread.setdefault(
                    suffix, f"{file}, and what else ends in {suffix}: not {' or '.join(pictures.FORMATS)}"
                )
            continue
        if name in found.images[kind]:
            continue  # it was unpacked
        if (other := here.setdefault((kind, name), file)) is not file:
            _check_once(file, other)
            raise GlowkitError(f"{file}: has the name of {other}; names must differ, so move one of them away")
    for (kind, name), file in here.items():
        found.images[kind][name] = file


def _take_list(found: Found, official: str, file: File) -> None:
    """Add a list; there may be copies of it, as .txt and as .csv, say."""
    other = found.lists.setdefault(official, file)
    if other is not file:
        _check_once(file, other)
        if other.read() != file.read():
            found.copies.setdefault(official, []).append(file)


def _check_once(file: File, other: File) -> None:
    if other == file:
        raise GlowkitError(f"{file}: is there twice; pack the zip anew")


def _walked(folder: str) -> Iterator[tuple[str | None, str, File]]:
    def fail(error: OSError) -> None:
        raise GlowkitError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, _, names in os.walk(folder, onerror=fail, followlinks=True):
        kind = next(filter(None, map(_kind_of, reversed(Path(place).parts))))
        yield from ((kind, name, File(os.path.join(place, name))) for name in names if not _official(name))


def _members(found: Found, path: Path) -> Iterator[tuple[str | None, str, File]]:
    """The files in a zip; if it cannot be read, that is noted instead."""
    try:
        archive = open_zip(str(path), os.getpid())
    except UNREADABLE as error:
        why = str(error) if isinstance(error, GlowkitError) else f"{path}: {_nature(path, error)}"
        found.unread[str(path)] = why
        return
    if archive.cut:
        found.cut[str(path)] = archive.cut
    # Members may lie in img_align_celeba/ or in any other folder of an archive named so.
    own = next((kind for kind in LANDMARK_FILES if kind in path.name.lower()), None)

    def meant(member: str) -> tuple[str | None, str]:
        *folders, name = re.split(r"[/\\]", member)  # Windows packs with either
        return next(filter(None, map(_kind_of, reversed(folders))), own), name

    members = [member for member in archive.namelist() if not re.search(r"(^|[/\\])__MACOSX[/\\]", member)]
    # The directory's names are what counts; that one was not damaged is made sure where a file is not used for it.
    for member in () if archive.cut else members:
        kind, name = meant(member)
        if not (_is_image(kind, name) or _official(name)):
            kind, name = meant(lies := archive.own_name(member))
            if _is_image(kind, name) or _official(name):
                found.unread[str(path)] = (
                    f"{path}: damaged: its directory has {member[:60]!a}, where {lies[:60]!a} lies; get it again"
                )
                return
    yield from ((*meant(member), File(member, str(path))) for member in members if meant(member)[1])


# ------------------------------------------------------------------------------------- what there is instead


def _nature(path: Path, error: Exception) -> str:
    """What a file is that was taken for a zip."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})"
    if other := next((name for name, magic in OTHERS.items() if head.startswith(magic)), None):
        return f"a {other} archive, which is not read; unpack it and give the folder"
    if head[257:262] == b"ustar":
        return "a tar archive, which is not read; unpack it and give the folder"
    if re.match(rb"\s*<(!doctype|html)", head, re.IGNORECASE):
        return "a web page in place of a zip, over a server's quota perhaps; get it again"
    if _official(path.name) or path.name.lower().endswith(IMAGE_SUFFIXES):
        return "a file of a tree, not a zip; give its folder"
    if isinstance(error, NotImplementedError):
        return f"a zip of a kind that is not read ({error}); unpack it and give the folder"
    return f"not a zip, or cut short ({error}); get it again"


def _seen(path: Path) -> str:
    """What is at a path that has no images of CelebA, in a few words."""
    if path.is_file():
        try:
            names = [name for name in open_zip(str(path), os.getpid()).namelist() if "__MACOSX" not in name]
        except UNREADABLE:
            names = []
    else:
        names = [entry.name + "/" * entry.is_dir() for entry in _entries(path)]
        below = (os.path.join(place, name) for place, _, files in os.walk(path) for name in files)
        images = (file for file in itertools.islice(below, 10_000) if file.lower().endswith(IMAGE_SUFFIXES))
        if image := next(images, None):
            return f"there are images such as {image}, in a folder of another name"
    packed = next((name for name in names if name.lower().endswith(ARCHIVES)), None)
    if packed:
        return f"{packed} has to be unpacked first"
    shown = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
    return f"there {'is ' + shown if names else 'is nothing'}"


def _packed(path: str) -> Iterator[tuple[str, File]]:
    """The names of the images in the array at `path`, and where each is."""
    listed = File(str(Path(path).with_suffix(".txt")))
    names, rows = lines_of(listed), len(open_packed(path))
    if len(names) != rows:
        raise GlowkitError(f"{listed}: {len(names)} names of {rows} images in {PACKED}")
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = lines.setdefault(image_name(name, f"{listed} line {number}"), number)
        if first != number:
            raise GlowkitError(f"{listed} line {number}: {name} is the name in line {first} already")
        yield name, File(path, row=number - 1)
