"""CelebA in its official layout, read where it lies.

A tree is a folder or a zip with images in `img_align_celeba` (aligned, 178 x 218 or of that shape) or
`img_celeba` (in the wild), each a folder or a zip of its own that is read without unpacking, and the files of
`ANNOTATIONS` beside them or in the official subfolders Anno, Eval and Img. The attribute file says which
images there are; any subset of CelebA will do. Landmarks, identities and the partition may be absent.
"""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from glowkit.alignment import EYES, check_size, crop, similarity
from glowkit.errors import GlowkitError
from glowkit.files import replacing

ALIGNED_SIZE = (178, 218)
ALIGNED_EYES = ((69.4, 111.4), (107.8, 111.4))  # mean eye places in img_align_celeba at ALIGNED_SIZE

ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IDENTITY_FILE = "identity_CelebA.txt"
LANDMARK_FILES = {
    "img_celeba": "list_landmarks_celeba.txt",
    "img_align_celeba": "list_landmarks_align_celeba.txt",
}
ANNOTATIONS = (ATTRIBUTE_FILE, PARTITION_FILE, IDENTITY_FILE, *LANDMARK_FILES.values())
LANDMARK_COLUMNS = [
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]
SPLITS = ("train", "valid", "test")  # as numbered in the partition file


# ------------------------------------------------------------------------------------ reading official files


class File(NamedTuple):
    """A file on disk, or a member of an open zip."""

    name: str
    archive: zipfile.ZipFile | None = None

    def __str__(self) -> str:
        return f"{self.archive.filename}: {self.name}" if self.archive else self.name

    def read(self) -> bytes:
        """The bytes. Raises GlowkitError if they cannot be had."""
        try:
            return self.archive.read(self.name) if self.archive else Path(self.name).read_bytes()
        # RuntimeError: an encrypted member; NotImplementedError: a compression Python lacks.
        except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
            raise GlowkitError(f"{self}: cannot be read ({error})") from error

    def image(self) -> Image.Image:
        """The decoded RGB image. Raises GlowkitError if it is cut short, damaged or no image."""
        data = self.read()
        try:
            return Image.open(io.BytesIO(data)).convert("RGB")
        except Image.UnidentifiedImageError as error:
            raise GlowkitError(f"{self}: not an image ({len(data)} bytes)") from error
        # Pillow's decoders answer damage with any of these; SyntaxError is a broken PNG.
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise GlowkitError(f"{self}: truncated or damaged image ({error})") from error


def _table(file: File, convert: Callable[[list[str]], object], what: str, columns: int | None = None):
    """Header (or None) and {image name: converted values} of an annotation file; `what` says what a right row
    holds.

    With `columns` given the file is bare rows; without, a count line and a header line come first.
    """
    try:
        lines = file.read().decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise GlowkitError(f"{file}: not a text file (byte {error.start} is not UTF-8)") from error
    header, first = None, 0
    if columns is None:
        if len(lines) < 3:
            raise GlowkitError(f"{file}: {len(lines)} lines; a count line, a header line and rows are needed")
        header, first = lines[1].split(), 2
        columns = len(header)
        # If the very first row disagrees with the header, the header is the likelier culprit.
        if len(lines[2].split()) - 1 != columns:
            found = len(lines[2].split()) - 1
            raise GlowkitError(
                f"{file} line 2: the header names {columns} columns, but line 3 has {found} values"
            )
        if len(set(header)) < columns:
            twice = next(name for name in header if header.count(name) > 1)
            raise GlowkitError(f"{file} line 2: the header names {twice} twice")
    rows: dict[str, object] = {}
    for number, line in enumerate(lines[first:], first + 1):
        name, *values = line.split() or [""]
        if len(values) != columns:
            raise GlowkitError(f"{file} line {number}: {len(values)} values, not {columns} ({what})")
        if name in rows:
            raise GlowkitError(f"{file} line {number}: {name} has a line already")
        try:
            rows[name] = convert(values)
        except (ValueError, KeyError) as error:
            raise GlowkitError(f"{file} line {number}: {' '.join(values)[:60]!r} is not {what}") from error
    if header is not None and lines[0].strip() != str(len(rows)):
        raise GlowkitError(
            f"{file} line 1: says {lines[0].strip()[:40]!r}, but {len(rows)} rows follow the header"
        )
    return header, rows


def _signs(values: list[str]) -> list[bool]:
    return [{"1": True, "-1": False}[value] for value in values]


def _five_points(values: list[str]) -> list[float]:
    points = [float(value) for value in values]
    if not np.isfinite(points).all() or points[:2] == points[2:4]:
        raise ValueError
    return points


def _split(values: list[str]) -> int:
    return {"0": 0, "1": 1, "2": 2}[values[0]]


def _find(path: Path) -> dict[str, dict[str, File]]:
    """The files of a tree by name: images under their kind, a key of LANDMARK_FILES, annotations under ""."""
    found: dict[str, dict[str, File]] = {"": {}, **{kind: {} for kind in LANDMARK_FILES}}

    def add_zip(zip_path: Path) -> None:
        try:
            archive = zipfile.ZipFile(zip_path)
        except (OSError, zipfile.BadZipFile) as error:
            raise GlowkitError(f"{zip_path}: not a zip, or cut short ({error})") from error
        # Members may lie in img_align_celeba/ or at the top of an archive named so.
        own = next((kind for kind in LANDMARK_FILES if zip_path.name.startswith(kind)), None)
        for member in archive.namelist():
            name = PurePosixPath(member)
            kind = name.parent.name or own
            if name.name in ANNOTATIONS:
                found[""].setdefault(name.name, File(member, archive))
            elif kind in LANDMARK_FILES and not member.endswith("/"):
                found[kind].setdefault(name.name, File(member, archive))

    if path.is_file():
        add_zip(path)
        path = path.parent  # annotation files may lie beside the zip
        places = [path]
    elif path.is_dir():
        places = [path, path / "Anno", path / "Eval", path / "Img"]
        for place in places:
            for kind in LANDMARK_FILES:
                for folder, _, names in os.walk(place / kind):
                    found[kind].update((name, File(os.path.join(folder, name))) for name in names)
                for zip_path in sorted(place.glob(f"{kind}*.zip")):
                    add_zip(zip_path)
    else:
        raise GlowkitError(f"{path}: no such file or folder")
    for place in places:
        for name in ANNOTATIONS:
            if (place / name).is_file():
                found[""].setdefault(name, File(str(place / name)))
    return found


@dataclass(frozen=True, eq=False)
class Tree:
    """A CelebA tree. Row i of every array belongs to the image named `names[i]`.

    labels: bool (N, A). eyes: float (N, 2, 2), left then right eye, x then y, in pixels of the source image.
    landmarks: float (N, 5, 2) or None: left eye, right eye, nose, left and right corner of the mouth ("left"
    in the picture). identities: int (N,) or None. splits: uint8 (N,), 0 train, 1 valid, 2 test, or None.
    """

    path: Path
    kind: str  # img_celeba or img_align_celeba
    names: list[str]
    attributes: list[str]
    labels: np.ndarray
    eyes: np.ndarray
    landmarks: np.ndarray | None
    identities: np.ndarray | None
    splits: np.ndarray | None
    files: list[File]
    image_size: tuple[int, int] | None  # of every image, where they are aligned

    def __len__(self) -> int:
        return len(self.names)

    def crop(self, i: int, size: int) -> torch.Tensor:
        """Image i, eye-aligned: uint8 (3, size, size). Errors name the file."""
        image = self.files[i].image()
        if self.image_size not in (None, image.size):
            raise GlowkitError(
                f"{self.files[i]}: {image.size[0]} x {image.size[1]} pixels among aligned images of "
                f"{self.image_size[0]} x {self.image_size[1]}"
            )
        try:
            return crop(image, *self.eyes[i], size)
        except GlowkitError as error:
            raise GlowkitError(f"{self.files[i]}: {error}") from error

    def cropped_landmarks(self, size: int) -> np.ndarray | None:
        """The landmarks in pixels of the crops, float (N, 5, 2), or None."""
        if self.landmarks is None:
            return None
        matrices = np.stack([similarity(*eyes, size) for eyes in self.eyes])  # (N, 2, 3)
        return self.landmarks @ matrices[:, :, :2].swapaxes(1, 2) + matrices[:, None, :, 2]


def read(path: str | Path, kind: str | None = None) -> Tree:
    """Open the CelebA tree at `path`, a folder or a zip.

    kind: "img_celeba" or "img_align_celeba"; by default the in-the-wild images where they and their landmarks
    are there, since they have the detail for large crops, else the aligned ones. Raises GlowkitError, which
    names the file and line, if anything listed is missing or wrong.
    """
    path = Path(path)
    found = _find(path)
    annotations = found[""]
    there = [k for k in LANDMARK_FILES if found[k]]
    if kind is None:
        usable = [k for k in there if k == "img_align_celeba" or LANDMARK_FILES[k] in annotations]
        if there and not usable:
            raise GlowkitError(
                f"{path}: images in img_celeba need {LANDMARK_FILES['img_celeba']} to find the eyes"
            )
        kind = usable[0] if usable else None
    if kind not in there:
        raise GlowkitError(
            f"{path}: no images of CelebA; {kind or 'img_align_celeba or img_celeba'} is needed there, "
            "as a folder or a zip"
        )
    if ATTRIBUTE_FILE not in annotations:
        raise GlowkitError(f"{path}: {ATTRIBUTE_FILE} is missing")

    attribute_file = annotations[ATTRIBUTE_FILE]
    attributes, labels = _table(attribute_file, _signs, "1 or -1 for every attribute")
    for line, name in enumerate(labels, 3):
        if name not in found[kind]:
            raise GlowkitError(
                f"{attribute_file} line {line}: {name} is listed, but is not among the "
                f"{len(found[kind])} files of {kind}"
            )

    def rows(name: str, *arguments) -> list | None:
        """The rows of an optional annotation file, in the order of the attribute file."""
        if name not in annotations:
            return None
        header, table = _table(annotations[name], *arguments)
        if header is not None and [column.lower() for column in header] != LANDMARK_COLUMNS:
            raise GlowkitError(f"{annotations[name]} line 2: the header must be {' '.join(LANDMARK_COLUMNS)}")
        for image in labels:
            if image not in table:
                raise GlowkitError(f"{annotations[name]}: no line for {image}")
        return [table[image] for image in labels]

    points = rows(LANDMARK_FILES[kind], _five_points, "five points x y with the eyes apart")
    identities = rows(IDENTITY_FILE, lambda v: int(v[0]), "a whole number", 1)
    splits = rows(PARTITION_FILE, _split, "0 (train), 1 (valid) or 2 (test)", 1)
    landmarks = None if points is None else np.array(points).reshape(-1, 5, 2)
    files = [found[kind][name] for name in labels]
    image_size = files[0].image().size if kind == "img_align_celeba" else None
    return Tree(
        path=path,
        kind=kind,
        names=list(labels),
        attributes=attributes,
        labels=np.array(list(labels.values())),
        eyes=landmarks[:, :2] if image_size is None else _aligned_eyes(image_size, landmarks, files),
        landmarks=landmarks,
        identities=None if identities is None else np.array(identities),
        splits=None if splits is None else np.array(splits, np.uint8),
        files=files,
        image_size=image_size,
    )


def _aligned_eyes(image_size: tuple[int, int], landmarks: np.ndarray | None, files: list[File]) -> np.ndarray:
    """Eye places (N, 2, 2) in aligned images: the landmarks, or the fixed geometry."""
    width, height = image_size
    # A square is a crop already, ours or of `glowkit faces`. Landmark files hold whole pixels: cropping by
    # them again would shake every face by up to half a pixel, so if they agree with the frame it is used.
    if landmarks is not None:
        agree = np.abs(landmarks[:, :2] - frame_eyes(image_size)).max() <= 0.51
        if width != height or not agree:
            return landmarks[:, :2]
    elif width != height and not _official_shape(image_size):
        raise GlowkitError(
            f"{files[0]}: {width} x {height} pixels; without {LANDMARK_FILES['img_align_celeba']} aligned "
            f"images must be {ALIGNED_SIZE[0]} x {ALIGNED_SIZE[1]}, of that shape, or square crops"
        )
    return np.broadcast_to(frame_eyes(image_size), (len(files), 2, 2))


def _official_shape(image_size: tuple[int, int]) -> bool:
    width, height = np.array(image_size) / ALIGNED_SIZE
    return abs(width / height - 1) < 0.02


def frame_eyes(image_size: tuple[int, int]) -> np.ndarray:
    """Where the eyes are in an aligned image of this width and height: (2, 2), left and right eye, x and y.

    In CelebA's own shape they are at ALIGNED_EYES; in any other the central square is taken for a crop.
    """
    width, height = image_size
    if _official_shape(image_size):
        return (np.array(ALIGNED_EYES) + 0.5) * width / ALIGNED_SIZE[0] - 0.5
    side = min(width, height)
    return side * np.array(EYES) - 0.5 + [(width - side) / 2, (height - side) / 2]


# ---------------------------------------------------------------------------------------- checking, cropping


def check(path: str | Path, kind: str | None = None) -> list[str]:
    """Open a tree, decode every image, and say in lines of text what is there and what is missing.

    Raises GlowkitError on wrong annotations, and with the number of faulty images and the first of them.
    """
    tree = read(path, kind)
    faults = []
    with ThreadPoolExecutor() as pool:
        for fault in tqdm(
            pool.map(_fault, tree.files), "reading images", len(tree), unit="image", leave=False
        ):
            faults += fault
    if faults:
        raise GlowkitError(f"{len(faults)} of {len(tree)} images are faulty, the first: {faults[0]}")
    people = "" if tree.identities is None else f" of {len(np.unique(tree.identities)):,} people"
    lines = [
        f"{len(tree):,} images in {tree.kind}{people}, all readable",
        f"{len(tree.attributes)} attributes: {', '.join(tree.attributes)}",
    ]
    if tree.splits is None:
        how = "in file order" if tree.identities is None else "by person"
        lines.append(f"{PARTITION_FILE} is missing: no official split; 80 / 10 / 10 % {how} will be used")
    else:
        counts = np.bincount(tree.splits, minlength=3)
        lines.append("splits: " + ", ".join(f"{n:,} {name}" for name, n in zip(SPLITS, counts, strict=True)))
    if tree.landmarks is None:
        lines.append(
            f"{LANDMARK_FILES[tree.kind]} is missing: eyes are taken at their fixed place in aligned images"
        )
    if tree.identities is None:
        lines.append(
            f"{IDENTITY_FILE} is missing: whether people are shared between splits cannot be checked"
        )
    return lines


def _fault(file: File) -> list[GlowkitError]:
    try:
        file.image()
    except GlowkitError as error:
        return [error]
    return []


def crop_tree(src: str | Path, out: str | Path, size: int, kind: str | None = None) -> int:
    """Crop every image of the tree `src` and write the crops as an aligned CelebA tree `out`; returns their
    number.

    Images keep their names, and the name's suffix decides the format (JPEG at quality 95 without chroma
    subsampling, PNG, ...). `out` appears when it is complete. Raises GlowkitError if it exists or anything in
    `src` is wrong.
    """
    check_size(size)
    tree, out = read(src, kind), Path(out)
    if out.exists():
        raise GlowkitError(f"{out}: exists already; name a new folder")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        (part / "img_align_celeba").mkdir(parents=True)

        def one(i: int) -> None:
            face = Image.fromarray(tree.crop(i, size).permute(1, 2, 0).numpy())
            face.save(part / "img_align_celeba" / tree.names[i], quality=95, subsampling=0)

        with ThreadPoolExecutor() as pool:  # Pillow and torch work outside the interpreter lock
            for _ in tqdm(pool.map(one, range(len(tree))), "cropping", len(tree), unit="image"):
                pass
        write_annotations(
            part,
            tree.names,
            tree.attributes,
            tree.labels,
            tree.cropped_landmarks(size),
            tree.identities,
            tree.splits,
        )
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(tree)


def write_annotations(
    folder, names, attributes, labels, landmarks=None, identities=None, splits=None
) -> None:
    """Write annotation files of aligned images in the official formats; landmarks become whole pixels."""
    folder = Path(folder)

    def write(name: str, head: list[str], rows) -> None:
        lines = [*head, *(f"{image} {row}" for image, row in zip(names, rows, strict=True))]
        with replacing(folder / name) as path:
            path.write_text("\n".join(lines) + "\n")

    signs = np.where(labels, " 1", "-1")
    write(ATTRIBUTE_FILE, [str(len(names)), " ".join(attributes)], (" ".join(row) for row in signs))
    if landmarks is not None:
        points = np.rint(landmarks).astype(int).reshape(len(names), 10).astype(str)
        head = [str(len(names)), " ".join(LANDMARK_COLUMNS)]
        write(LANDMARK_FILES["img_align_celeba"], head, (" ".join(row) for row in points))
    if identities is not None:
        write(IDENTITY_FILE, [], identities)
    if splits is not None:
        write(PARTITION_FILE, [], splits)
