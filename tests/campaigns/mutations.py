"""Damage: functions (data, chance) -> other data, by the kind of file. Each needs to know no more than its format."""

from __future__ import annotations

import functools
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

Mutation = Callable[[bytes, random.Random], bytes]
NUMBERS = (
    "0", "-1", "-0", "2", "7", "1e30", "-1e30", "1e309", "nan", "inf", "-inf", "0.5", "1e-300", "99999999999999999999",
    "9223372036854775808", "4294967296", "1000000000", "0x10", "1_0", "٣", "",
)  # fmt: skip
WORDS = (
    "../../evil.jpg", "/tmp/evil.jpg", "..", ".", ".hidden.jpg", "a/b.jpg", "a\\b.jpg", "C:evil.jpg", "CON.jpg",
    "x" * 300 + ".jpg", "\0", "\x1b[2J", "a.exe", "é", "<script>", '"', "'", ",", "\t", "null", "true", "[]", "{}",
    "000001.jpg", "Smiling",
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------- any file


def _place(data: bytes, chance: random.Random) -> int:
    # Headers are at the beginning, and the directory of a zip at the end.
    n, where = len(data), chance.random()
    return chance.randrange(min(n, 64)) if where < 0.3 else n - 1 - chance.randrange(min(n, 64)) if where < 0.4 else (
        chance.randrange(n))  # fmt: skip


def _cut(data: bytes, chance: random.Random) -> tuple[int, int]:
    first = _place(data, chance)
    return first, min(len(data), first + round(len(data) ** chance.random()))


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 8, 64))):
        changed[_place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.choice((0, _place(data, chance), chance.randrange(len(data))))]


def zero(data: bytes, chance: random.Random) -> bytes:
    first, last = _cut(data, chance)
    return data[:first] + bytes([chance.choice((0, 0, 255))]) * (last - first) + data[last:]


def drop(data: bytes, chance: random.Random) -> bytes:
    first, last = _cut(data, chance)
    return data[:first] + data[last:]


def double(data: bytes, chance: random.Random) -> bytes:
    first, last = _cut(data, chance)
    at = chance.choice((first, last, _place(data, chance), len(data)))
    return data[:at] + data[first:last] + data[at:]


def insert(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + chance.randbytes(chance.choice((1, 4, 100))) + data[at:]


def extreme(data: bytes, chance: random.Random) -> bytes:
    """A field of one to eight bytes that holds the largest number, or none."""
    at, wide = _place(data, chance), chance.choice((1, 2, 4, 8))
    field = chance.choice(
        (b"\0" * wide, b"\xff" * wide, b"\xff" * (wide - 1) + b"\x7f", b"\x7f" + b"\xff" * (wide - 1))
    )
    return (data[:at] + field + data[at + wide :])[: len(data)]


ANY: tuple[Mutation, ...] = (flip, truncate, zero, drop, double, insert, extreme)


# ------------------------------------------------------------------------------------------------------------ text


def number(data: bytes, chance: random.Random) -> bytes:
    """Another number in the place of one."""
    return _replace(data, rb"-?\d[\d.e+-]*", chance.choice(NUMBERS).encode(), chance)


def word(data: bytes, chance: random.Random) -> bytes:
    """Something strange in the place of a word."""
    return _replace(data, rb"[\w./-]+", chance.choice(WORDS).encode(), chance)


def _replace(data: bytes, pattern: bytes, new: bytes, chance: random.Random) -> bytes:
    found = list(re.finditer(pattern, data))
    if not found:
        return new
    one = found[chance.randrange(min(len(found), chance.choice((8, len(found)))))]
    return data[: one.start()] + new + data[one.end() :]


def lines(data: bytes, chance: random.Random) -> bytes:
    """A line lost, doubled, moved, emptied, or ended otherwise."""
    all_lines = data.splitlines(keepends=True) or [b""]
    i, j = chance.randrange(len(all_lines)), chance.randrange(len(all_lines))
    how = chance.randrange(6)
    if how == 0:
        del all_lines[i]
    elif how == 1:
        all_lines.insert(j, all_lines[i])
    elif how == 2:
        all_lines[i], all_lines[j] = all_lines[j], all_lines[i]
    elif how == 3:
        all_lines[i] = b"\n"
    elif how == 4:
        return data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b" ")))
    else:
        all_lines[i] = all_lines[i].replace(b" ", b"").replace(b",", b"")
    return b"".join(all_lines)


def encoding(data: bytes, chance: random.Random) -> bytes:
    text = data.decode(errors="replace")
    return chance.choice(
        (text.encode("utf-16"), text.encode("utf-8-sig"), b"\xff\xfe" + data, data + b"\x80", b"\0" * 99)
    )


TEXT: tuple[Mutation, ...] = (*ANY, number, number, word, word, lines, lines, encoding)


def json_value(data: bytes, chance: random.Random) -> bytes:
    """Another value, of another type even, a key lost or doubled or renamed, anywhere in a JSON document or in a line
    of one."""
    all_lines = [data] if data.lstrip().startswith((b"{\n", b"[\n", b"[")) else data.splitlines(keepends=True)
    i = chance.randrange(len(all_lines))
    try:
        content = json.loads(all_lines[i])
    except ValueError:
        return word(data, chance)
    ending = b"\n" if all_lines[i].endswith(b"\n") else b""
    all_lines[i] = json.dumps(tampered(content, chance)).encode() + ending
    return b"".join(all_lines)


VALUES = (
    None, True, False, 0, -1, 3, 0.5, -0.0, 1e30, 10**9, 2**31, 2**63, 10**20, float("nan"), float("inf"), "", "x", "1",
    [], {}, [1], {"a": 1}, ["Smiling"], [None], "<b>", "é" * 300,
)  # fmt: skip


def tampered(content: object, chance: random.Random) -> object:
    """The content with one thing changed, somewhere."""
    if isinstance(content, dict) and content:
        key = chance.choice(list(content))
        how = chance.random()
        rest = {name: value for name, value in content.items() if name != key}
        if how < 0.12:
            return rest
        if how < 0.2:
            return rest | {key + "_": content[key]}
        return content | {key: tampered(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.8:
        k = chance.randrange(len(content))
        before, one, after = content[:k], content[k], content[k + 1 :]
        return chance.choice((before + after, [*content, one], [*before, tampered(one, chance), *after]))
    if isinstance(content, str) and content.startswith("{") and chance.random() < 0.8:  # JSON in JSON
        return json.dumps(tampered(json.loads(content), chance))
    return chance.choice(VALUES)


JSON: tuple[Mutation, ...] = (*ANY, number, word, lines, encoding, *(json_value,) * 6)


# --------------------------------------------------------------------------------------------------- safetensors


def _unpack(data: bytes) -> tuple[dict, dict[str, tuple[str, list[int], bytes]]]:
    """The metadata, and of each tensor its dtype, shape and bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = header.pop("__metadata__", {})
    body = data[8 + length :]
    return about, {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}


def _pack(about: dict, tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header, body = {"__metadata__": about} if about else {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def header_text(data: bytes, chance: random.Random) -> bytes:
    """The header with one thing changed, its length right."""
    (length,) = struct.unpack("<Q", data[:8])
    text = json.dumps(tampered(json.loads(data[8 : 8 + length]), chance)).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def metadata(data: bytes, chance: random.Random) -> bytes:
    about, tensors = _unpack(data)
    return _pack({k: v if isinstance(v, str) else json.dumps(v) for k, v in tampered(about, chance).items()}
                 if about else {"run": "{}"}, tensors)  # fmt: skip


def tensor_lost(data: bytes, chance: random.Random) -> bytes:
    about, tensors = _unpack(data)
    if chance.random() < 0.3:  # all that begin alike
        stem = chance.choice(list(tensors)).split(".")[0]
        return _pack(about, {k: v for k, v in tensors.items() if not k.startswith(stem)})
    if chance.random() < 0.2:  # all that end alike
        end = chance.choice(list(tensors)).split(".")[-1]
        return _pack(about, {k: v for k, v in tensors.items() if not k.endswith(end)})
    name = chance.choice(list(tensors))
    value = tensors.pop(name)
    return _pack(about, tensors if chance.random() < 0.6 else tensors | {name + "_": value})


def tensor_shape(data: bytes, chance: random.Random) -> bytes:
    """A whole tensor of another shape, or kind of number."""
    about, tensors = _unpack(data)
    name = chance.choice(list(tensors))
    dtype, shape, body = tensors[name]
    how = chance.randrange(5)
    if how == 0 and shape:
        rows = chance.choice((0, 1, max(0, shape[0] - 1), shape[0] + 1, 2 * shape[0]))
        row = body[: len(body) // max(1, shape[0])]
        tensors[name] = (dtype, [rows, *shape[1:]], row * rows)
    elif how == 1:
        tensors[name] = (dtype, shape[::-1], body)
    elif how == 2:
        tensors[name] = (dtype, [*shape, 1], body)
    elif how == 3:
        tensors[name] = (dtype, [int(np.prod(shape))], body)
    else:
        size = len(body) // max(1, int(np.prod(shape)))
        other = {1: ("BOOL", "I8", "U8"), 2: ("F16", "BF16", "I16"), 4: ("F32", "I32", "U32"), 8: ("F64", "I64", "U64")}
        tensors[name] = (chance.choice(other.get(size, ("F32",))), shape, body)
    return _pack(about, tensors)


def tensor_values(data: bytes, chance: random.Random) -> bytes:
    """Numbers that cannot be, in one place of a tensor or all over it."""
    about, tensors = _unpack(data)
    name = chance.choice(list(tensors))
    dtype, shape, body = tensors[name]
    kinds = {"F32": "f4", "F64": "f8", "F16": "f2", "I64": "i8", "U8": "u1", "BOOL": "u1", "I32": "i4"}
    values = np.frombuffer(body, kinds.get(dtype, "u1")).copy()
    if len(values):
        where = chance.choice((slice(None), chance.randrange(len(values))))
        with np.errstate(all="ignore"):
            odd = (
                (float("nan"), float("inf"), -1e30, 1e30, -1, 0, 1e-30, 1e9)
                if values.dtype.kind == "f"
                else (-1, 0, 255, 2**62)
            )
            values[where] = np.array(chance.choice(odd)).astype(values.dtype)
    return _pack(about, tensors | {name: (dtype, shape, values.tobytes())})


SAFETENSORS: tuple[Mutation, ...] = (
    *ANY, *(header_text, metadata, tensor_lost, tensor_shape, tensor_values) * 2,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- npy


def npy_header(data: bytes, chance: random.Random) -> bytes:
    """Another shape, type or order, in a header of the same length."""
    length = struct.unpack("<H", data[8:10])[0]
    text = data[10 : 10 + length].decode().rstrip()
    text = chance.choice((
        lambda: _replace(text.encode(), rb"\d+", chance.choice(NUMBERS).encode(), chance).decode(),
        lambda: text.replace("|u1", chance.choice(("|b1", "|i1", "<f4", "|O", "<u2", "|S1", "|V1", "<M8[s]"))),
        lambda: text.replace("False", "True"),
        lambda: text.replace("'shape'", "'form'"),
        lambda: "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        lambda: "(" * 100,
    ))()  # fmt: skip
    return data[:10] + text.encode().ljust(length - 1)[: length - 1] + b"\n" + data[10 + length :]


NPY: tuple[Mutation, ...] = (*ANY, *(npy_header,) * 4)


# ------------------------------------------------------------------------------------------------------------- zip


def zip_members(data: bytes, chance: random.Random) -> bytes:
    """A whole zip with other members: strange names, one name twice, one cut short, a list among them, a wrong one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
        method = archive.infolist()[0].compress_type
    k = chance.randrange(len(members))
    name, content = members[k]
    more = ("list_attr_celeba.txt", "identity_CelebA.txt")
    change = chance.choice((
        lambda: members.append((chance.choice(WORDS).replace("\0", "0"), content)),
        lambda: members.append((f"img_align_celeba/{chance.choice(WORDS)}".replace("\0", "0"), content)),
        lambda: members.append((name, members[0][1])),
        lambda: members.append((f"other/{name}", members[0][1])),
        lambda: members.__setitem__(k, (name, content[: len(content) // 2])),
        lambda: members.__setitem__(k, (name, bytes(10**6))),
        lambda: members.append((chance.choice(more), b"1\n" * chance.choice((1, 10**6)))),
    ))  # fmt: skip
    change()
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return _without_directory(packed.getvalue(), chance)


def _without_directory(whole: bytes, chance: random.Random) -> bytes:
    """Half of the time without what a zip ends in: then it is read another way."""
    return whole if chance.random() < 0.5 else whole[: whole.index(b"PK\1\2")]


def zip_bomb(data: bytes, chance: random.Random) -> bytes:
    """A zip of 3 MB with a member, an image or a list, that unpacks to 3 GB."""
    name = chance.choice((b"img_align_celeba/000001.jpg", b"list_attr_celeba.txt"))
    said = chance.choice((_BOMB, 1000, 0xFFFFFFFE))
    # version, flags, method, time, date, sum, lengths, length of the name, of extras
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, 0, len(_bomb()), said, len(name), 0)
    whole = b"PK\3\4" + fields + name + _bomb()
    entry = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(whole), 0)
    return _without_directory(whole + entry + end, chance)


_BOMB = 3 * 10**9


@functools.cache
def _bomb() -> bytes:
    """A deflated stream of 3 GB of zeros: one piece of it again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (_BOMB // 10**6) + packer.flush()


def zip_fields(data: bytes, chance: random.Random) -> bytes:
    """A field of a header with another number."""
    heads = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x07\x08)", data)] or [0]
    at = chance.choice(heads) + chance.randrange(4, 46)
    wide = chance.choice((1, 2, 4))
    return data[:at] + chance.choice((b"\0" * wide, b"\xff" * wide, chance.randbytes(wide))) + data[at + wide :]


ZIP: tuple[Mutation, ...] = (*ANY, *(zip_members, zip_fields) * 3, zip_bomb)


# ---------------------------------------------------------------------------------------------------------- images


def image_size(data: bytes, chance: random.Random) -> bytes:
    """Another width or height in the header, its checksum right."""
    side = chance.choice((0, 1, 3, 1000, 20_000, 65_535, 2**31 - 1))
    if data.startswith(b"\x89PNG"):
        head = bytearray(data[12:29])
        at = 4 + 4 * chance.randrange(2)
        head[at : at + 4] = struct.pack(">I", side)
        if chance.random() < 0.5:
            head[4:12] = struct.pack(">II", side, side)
        return data[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + data[33:]
    frame = re.search(rb"\xff[\xc0-\xc2]\0", data)
    if frame is None:
        return flip(data, chance)
    at = frame.start() + 5 + 2 * chance.randrange(2)
    return data[:at] + struct.pack(">H", side & 0xFFFF) + data[at + 2 :]


def image_format(data: bytes, chance: random.Random) -> bytes:
    """A picture in another format under the same name."""
    picture, packed = Image.open(io.BytesIO(data)).convert("RGB"), io.BytesIO()
    how = chance.choice(("EPS", "PDF", "GIF", "TIFF", "PPM", "ICO", "BMP", "WEBP", "JPEG", "PNG", "JPEG2000", "TGA"))
    try:
        picture.save(packed, how)
    except OSError:
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 44 54\n{} loop\n"
    if how == "EPS":
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 44 54\n%%EndComments\n{} loop\nshowpage\n"
    return packed.getvalue()


def image_mode(data: bytes, chance: random.Random) -> bytes:
    """The same picture in grey, with a palette, with an alpha channel, in 16 bits, turned, or of another size."""
    picture, packed = Image.open(io.BytesIO(data)), io.BytesIO()
    how = chance.choice(("L", "P", "RGBA", "LA", "1", "I;16", "CMYK", "size", "bomb"))
    if how == "size":
        picture = picture.resize((chance.choice((1, 43, 300)), chance.choice((1, 54, 7))))
    elif how == "bomb":
        return _large_picture(chance.choice((9000, 20_000)))
    else:
        picture = picture.convert("L").convert("I;16") if how == "I;16" else picture.convert(how)
    form = "JPEG" if picture.mode in ("L", "CMYK", "RGB") and data.startswith(b"\xff\xd8") else "PNG"
    picture.save(packed, form if picture.mode != "CMYK" else "JPEG")
    return packed.getvalue()


@functools.cache
def _large_picture(width: int) -> bytes:
    """A small file of a picture that takes far more memory."""
    packed = io.BytesIO()
    Image.new("L", (width, 10_000)).save(packed, "PNG", compress_level=1)
    return packed.getvalue()


IMAGE: tuple[Mutation, ...] = (*ANY, *(image_size, image_format, image_mode) * 2)
