"""The lists of CelebA, read and written: in the official format, or as spreadsheets and data frames have them.

The official format separates values by spaces, so a list in which a name has one is written as CSV. What is read may
be either, under any of its names: the separator is found out, and so is the column that names the images.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glowkit.celeba.files import IMAGE_SUFFIXES, File
from glowkit.errors import GlowkitError
from glowkit.files import replacing

MAX_LINES, MAX_LINE = 1_000_000, 2**16  # lines of a list, and characters of one; CelebA has 202,599 images
DELIMITERS = ",;\t|"  # of CSV, and of what goes by that name
IMAGE_COLUMNS = ("image_id", "image", "image_name", "filename", "file_name", "file", "name", "img")  # of no attribute
SPECIAL = re.compile(r'[\s"|,;]')  # in a name, what would end it in one format or the other


class Row(NamedTuple):
    """A line of a list: its number from 1, the name of an image, and the values."""

    line: int
    name: str
    values: list[str]


class Table(NamedTuple):
    """What a list holds: the line that names the columns, from 1, and their names; or None and []. And the rows."""

    line: int | None
    header: list[str]
    rows: dict[str, object]


def lines_of(file: File) -> list[str]:
    """The lines of a list. Raises GlowkitError if it is no text, or longer than any list of images."""
    data = file.read()
    # Windows has its own idea of "Unicode", and of text that it takes for that.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in data[:100]
    try:
        decoded = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        code = "UTF-16" if wide else "UTF-8"
        raise GlowkitError(f"{file}: not a text file (byte {error.start} is not {code}); save it as UTF-8") from error
    text = io.StringIO(decoded.rstrip(), newline=None)
    lines: list[str] = []
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise GlowkitError(f"{file} line {len(lines) + 1}: longer than the {MAX_LINE:,} characters that are read")
        if len(lines) == MAX_LINES:
            raise GlowkitError(f"{file}: more than the {MAX_LINES:,} lines that are read")
        lines.append(line.strip("\n "))
    return lines


def table(file: File, convert: Callable[[list[str]], object], what: str, columns: int | None = None) -> Table:
    """What a list holds, by the names of images in it; `what` says what a right row holds.

    In the official format, a count line and a header line come first, or, with `columns` given, nothing. CSV has a
    header line, and may have columns of row numbers before that of the images. An image may be named by its path.
    Raises GlowkitError, which names the file and line, if anything is wrong.
    """
    lines = lines_of(file)
    delimiter = _delimiter(file, lines, columns)
    if delimiter:
        count, head, header, rows = _delimited(file, lines, delimiter, columns)
    else:
        count, head, header, rows = _official(file, lines, columns)
    first = next(rows)
    if head is not None:
        # If the very first row disagrees with the header, the header is the likelier culprit.
        if len(header) != len(first.values):
            raise GlowkitError(
                f"{file} line {head}: the header names {len(header)} columns, but line {first.line} has "
                f"{len(first.values)} values"
            )
        if not header or columns not in (None, len(header)):
            needed = f", not {columns} ({what})" if header else " but the images"
            raise GlowkitError(f"{file} line {head}: the header names {len(header) or 'no'} columns{needed}")
        if odd := [name for name in header if not name or not name.isprintable()]:
            raise GlowkitError(f"{file} line {head}: the header has {odd[0][:60]!a}; a column's name is printable text")
        if twice := [name for name, times in Counter(header).items() if times > 1]:
            raise GlowkitError(f"{file} line {head}: the header names {twice[0]} twice")
    columns = len(header) if head is not None else columns
    found: dict[str, object] = {}
    for line, name, values in itertools.chain([first], rows):
        if len(values) != columns:
            raise GlowkitError(f"{file} line {line}: {len(values)} values, not {columns} ({what})")
        name = _base(name, f"{file} line {line}")
        if name in found:
            raise GlowkitError(f"{file} line {line}: {name} has a line already")
        try:
            found[name] = convert(values)
        except (ValueError, KeyError) as error:
            raise GlowkitError(f"{file} line {line}: {' '.join(values)[:60]!r} is not {what}") from error
    if count is not None and count != str(len(found)):
        raise GlowkitError(f"{file} line 1: says {count[:40]!r}, but {len(found)} rows follow the header")
    return Table(head, header, found)


def difference(one: Table, other: Table) -> str:
    """What two tables do not agree about first; "" if they say the same, in whatever order of the images."""
    for mine, its in itertools.zip_longest(one.header, other.header) if one.header and other.header else ():
        if mine != its:
            return f"one has the column {mine or its}, the other {its if mine and its else 'none'} there"
    for name in [*one.rows, *other.rows]:
        if name not in one.rows or name not in other.rows:
            return f"{name} has a line in one of them"
        mine, its = (np.atleast_1d(of.rows[name]).tolist() for of in (one, other))
        for column, (here, there) in enumerate(zip(mine, its, strict=True)):
            if here != there:
                where = f", {one.header[column]}" if len(one.header) > 1 else ""
                return f"{name}{where} is {here:g} in one and {there:g} in the other"
    return ""


def write(folder: Path, name: str, header: list[str], names: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a list under its official `name`, with a count line and a header line if there is a header; as .csv, if
    it could not be read otherwise. `rows` has the values of each image."""
    names = list(names)
    path = folder / name
    if any(map(SPECIAL.search, [*names, *header])):
        path, other = path.with_suffix(".csv"), path
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image_id", *(header or ["value"])])
        writer.writerows([image, *(value.strip() for value in row)] for image, row in zip(names, rows, strict=True))
        content = text.getvalue()
    else:
        other = path.with_suffix(".csv")
        lines = [str(len(names)), " ".join(header)] if header else []
        lines += [f"{image} {' '.join(row)}" for image, row in zip(names, rows, strict=True)]
        content = "\n".join(lines) + "\n"
    other.unlink(missing_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


# --------------------------------------------------------------------------------------------------- formats


def _is_image(cell: str) -> bool:
    return cell.lower().endswith(IMAGE_SUFFIXES)


def _official_row(line: str, columns: int) -> list[str]:
    """The name of a line in the official format, which may have spaces, and its values."""
    line = line.strip()
    cells = line.rsplit(None, columns) or [""]
    # A name that ends like no image is none: the line has too many values.
    return cells if _is_image(cells[0]) or len(cells[0].split()) == 1 else line.split() or [""]


def _delimiter(file: File, lines: list[str], columns: int | None) -> str | None:
    """What separates the cells; None in the official format."""
    top = lines[0] if lines else ""
    if top[:-1].lower() == "sep=":  # a line for Excel
        lines[0] = ""
        return top[-1]
    counted = columns is None and top.strip().isdigit()
    if columns:
        name, *values = _official_row(top, columns)
        if _is_image(name) and len(values) == columns:
            return None
    for delimiter in DELIMITERS + " " * (file.name.lower().endswith("csv") and not counted):
        for line in lines[2 * counted : 3]:
            cells = next(csv.reader([line], delimiter=delimiter), [])
            if len(cells) > 1 and any(_is_image(cell.strip()) for cell in cells):
                return delimiter
    named = [delimiter for delimiter in DELIMITERS if delimiter in top]
    return named[0] if named else "," if file.name.lower().endswith("csv") and not counted else None


Parsed = tuple[str | None, int | None, list[str], Iterator[Row]]  # the count, the header's line, the header, the rows


def _official(file: File, lines: list[str], columns: int | None) -> Parsed:
    if len(lines) <= (0 if columns else 2):
        needed = "a line for each image is" if columns else "a count line, a header line and rows are"
        raise GlowkitError(f"{file}: {len(lines)} lines; {needed} needed")
    if columns:
        return None, None, [], (Row(n, *_row(_official_row(line, columns))) for n, line in enumerate(lines, 1))
    header = lines[1].split()
    width = len(_official_row(lines[2], len(header))) - 1
    if len(header) == width + 1 and header[0].lower() in IMAGE_COLUMNS:
        header = header[1:]
    rows = (Row(n, *_row(_official_row(line, len(header)))) for n, line in enumerate(lines[2:], 3))
    return lines[0].strip(), 2, header, rows


def _row(cells: list[str]) -> tuple[str, list[str]]:
    return cells[0], cells[1:]


def _delimited(file: File, lines: list[str], delimiter: str, columns: int | None) -> Parsed:
    parsed = _cells(file, lines, delimiter)
    nothing = (len(lines), [])
    line, cells = next(parsed, nothing)
    count, head, header = None, None, []
    if sum(map(bool, cells)) == 1 and cells[0].isdigit():
        count = cells[0]  # an official list that went through a spreadsheet
        line, cells = next(parsed, nothing)
    if not (columns and any(map(_is_image, cells))):
        head, header = line, cells
        while header and not header[-1]:
            header.pop()
        line, cells = next(parsed, nothing)
    if not cells:
        raise GlowkitError(f"{file}: {len(lines)} lines; a header line and rows are needed")
    images = [i for i, cell in enumerate(cells) if _is_image(cell)]
    if count is not None and images[:1] == [0] and header and header[0].lower() not in IMAGE_COLUMNS:
        header = ["", *header]  # the official header names no column of images
    images += [i for i, name in enumerate(header) if name.lower() in IMAGE_COLUMNS]
    if not images:
        shown = delimiter.join(cells)[:60]
        raise GlowkitError(f"{file} line {line}: {shown!a} names no image, such as 000001.jpg")
    at = images[0]
    left_out = {i for i, name in enumerate(header[:at]) if not name or re.match("unnamed|index$", name.lower())} | {at}
    width = len(header) or columns + 1

    def row(line: int, cells: list[str]) -> Row:
        if len(cells) > width and not any(cells[width:]):
            del cells[width:]
        values = [cell for i, cell in enumerate(cells) if i not in left_out]
        if delimiter == ";":  # where this separates cells, a comma is a decimal point
            values = [value.replace(",", ".") for value in values]
        return Row(line, cells[at] if at < len(cells) else "", values)

    rows = itertools.starmap(row, itertools.chain([(line, cells)], parsed))
    return count, head, [name for i, name in enumerate(header) if i not in left_out], rows


def _cells(file: File, lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of CSV that are not empty, with their numbers."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise GlowkitError(f"{file} line {reader.line_num}: not CSV ({error})") from error


# --------------------------------------------------------------------------------------------------- names


def _base(name: str, where: str) -> str:
    """The name of a listed image without the folders it may be in. It is looked up, and never written or opened."""
    base = re.split(r"[/\\]", name)[-1]
    if not base.isprintable() or not (_is_image(base) or re.fullmatch(r"[\w-]+", base)):
        raise GlowkitError(f"{where}: {name[:60]!a} is not the name of an image, such as 000001.jpg")
    return base


def _form(name: str) -> str:
    """What names have in common that differ only in form: case, suffix, and how accents are composed."""
    stem = next((name[: -len(suffix)] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), name)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def _number(name: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", _form(name))


def match(listed: Iterable[str], images: Collection[str], where: object) -> dict[str, str]:
    """The image that each listed name means: that of the very name, or the one whose name differs only in form.

    Names that mean none are left out. Numbers without their leading zeros count only if that explains every image:
    parts of CelebA go by numbers of their own. Raises GlowkitError if a name may mean two images, or two names one.
    """
    listed = list(listed)
    meant = {name: name for name in listed if name in images}
    _match(meant, listed, images, _form, where)
    if not meant:
        _match(meant, listed, images, _number, where)
        if len(meant) < len(images):
            meant = {}
    return meant


def _match(meant: dict[str, str], listed: list[str], images: Collection[str], form: Callable, where: object) -> None:
    """Add to `meant` what names and images of one form mean."""
    taken = set(meant.values())
    if len(taken) == len(images):
        return
    forms: dict[str, list[str]] = {}
    for image in images:
        if image not in taken:
            forms.setdefault(form(image), []).append(image)
    names: dict[str, str] = {}
    for name in listed:
        if name in meant or not (found := forms.get(form(name))):
            continue
        if len(found) > 1:
            raise GlowkitError(f"{where}: {name} may mean {found[0]} or {found[1]}; give one of them its very name")
        if (other := names.setdefault(found[0], name)) != name:
            raise GlowkitError(f"{where}: {other} and {name} both mean {found[0]}; one line an image is needed")
    meant |= {name: image for image, name in names.items()}
