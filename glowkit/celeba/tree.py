"""A CelebA tree: which images are there, their attributes, eyes, people and splits, and their crops.

`files` finds and reads the files. Any part of CelebA will do: an image is used if it is there and every list
that is there has a line for it. Each list may be absent; `check` says what that rules out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from glowkit.celeba import pictures
from glowkit.celeba.alignment import EYES, FARTHEST, NEAREST, crop, is_upright, similarity
from glowkit.celeba.files import ATTRIBUTE_FILE, IDENTITY_FILE, LANDMARK_FILES, PARTITION_FILE, File, open_packed
from glowkit.celeba.lists import difference, match, table, write
from glowkit.celeba.places import Found, find
from glowkit.errors import GlowkitError

ALIGNED_SIZE = (178, 218)
ALIGNED_EYES = ((69.4, 111.4), (107.8, 111.4))  # mean eye places in img_align_celeba at ALIGNED_SIZE

LANDMARK_COLUMNS = [
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]
ABSENT = "but absent"
SPLITS = ("train", "valid", "test")  # as numbered in the partition file
SOME = 20  # images that are tried before a tree is given up
REACH = 1000  # distances of the eyes; no point of a face is that far from the left eye


class _Signs:
    """The labels of an image from its line. Who has no attribute is -1 or 0, but the same throughout a list."""

    meaning = {"1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "0": 0, "0.0": 0} | {
        word: number for name, number in (("true", 1), ("false", 0)) for word in (name, name.title(), name.upper())
    }

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, values: list[str]) -> list[bool]:
        signs = [self.meaning[value] for value in values]
        self.seen.update(signs)
        if {0, -1} <= self.seen:
            raise ValueError
        return [sign == 1 for sign in signs]


def _five_points(values: list[str]) -> list[float]:
    points = [float(value) for value in values]
    left, right, *others = zip(points[::2], points[1::2], strict=True)
    apart = math.dist(left, right)
    near = all(math.dist(left, point) <= REACH * apart for point in others)
    if not (apart >= NEAREST and near and all(abs(place) <= FARTHEST for place in points)):
        raise ValueError
    return points


def _person(values: list[str]) -> int:
    if not -(2**63) <= (number := int(values[0].removesuffix(".0"))) < 2**63:
        raise ValueError
    return number


def _split(values: list[str]) -> int:
    return {"0": 0, "1": 1, "2": 2}[values[0].removesuffix(".0")]


@dataclass(frozen=True, eq=False)
class Tree:
    """A CelebA tree. Row i of every array belongs to the image named `names[i]`.

    labels: bool (N, A); A = 0 without a list of attributes. eyes: float (N, 2, 2), left then right eye, x then y, in
    pixels of the source image. landmarks: float (N, 5, 2) or None: left eye, right eye, nose, left and right corner
    of the mouth ("left" in the picture). identities: int (N,) or None. splits: uint8 (N,), 0 train, 1 valid, 2 test,
    or None.
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
    unused: dict[str, list[str]]  # a reason and the names of the images that are not in the tree for it
    cut: str  # which zip was cut short, and where; "" for none
    unread: list[str]  # archives beside the images that are of no use, and why

    def __len__(self) -> int:
        return len(self.names)

    @property
    def listed(self) -> bool:
        """Whether a list tells which images there should be."""
        return bool(self.attributes) or not (self.landmarks is self.identities is self.splits is None)

    @property
    def absent(self) -> list[str]:
        """The names of images that are listed and not there."""
        return next((names for reason, names in self.unused.items() if reason.endswith(ABSENT)), [])

    def describe_unused(self) -> str:
        """In one line, what is there and not in the tree, or listed and not there, with an example of each; "" for
        nothing."""
        said = [f"{len(names):,} {reason} (the first: {names[0]})" for reason, names in self.unused.items()]
        said += self.unread
        used = f"{self.path}: {len(self):,} images are used (the first: {self.names[0]})"
        return f"{used}; not used: {'; '.join(said)}" if said else ""

    def describe_faults(self, faults: Sequence[str]) -> str:
        """In one line, which of its images are faulty, given what is wrong with each, and what a cut zip lacks; "" if
        nothing is wrong."""
        said = []
        if self.cut:
            said.append(self.cut)
            lost = [(reason, names) for reason, names in self.unused.items() if reason.endswith(ABSENT)]
            said += [f"{len(names):,} images {reason}, the first: {names[0]}" for reason, names in lost]
        if faults:
            more = "; ..." if len(faults) > 3 else ""
            said.append(f"{len(faults):,} of {len(self):,} images are faulty ({'; '.join(faults[:3])}{more})")
        return "; ".join(said)

    def crop(self, i: int, size: int, padding: str = "edge") -> torch.Tensor:
        """Image i, eye-aligned: uint8 (3, size, size). Errors name the file."""
        return crop_file(self.files[i], self.points(i), size, padding, self.image_size)[0]

    def points(self, i: int) -> np.ndarray:
        """What image i is cropped by: its five landmarks, or two eyes where these are at their fixed place."""
        if self.landmarks is None or (self.landmarks[i, :2] != self.eyes[i]).any():
            return self.eyes[i]
        return self.landmarks[i]

    def cropped_landmarks(self, size: int) -> np.ndarray | None:
        """The landmarks in pixels of the crops, float (N, 5, 2), or None."""
        if self.landmarks is None:
            return None
        matrices = np.stack([similarity(*eyes, size) for eyes in self.eyes])  # (N, 2, 3)
        return self.landmarks @ matrices[:, :, :2].swapaxes(1, 2) + matrices[:, None, :, 2]

    def packed(self, size: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the tree is one array of crops of this size: that array (M, 3, size, size), mapped from disk, and the
        row in it of each image (N,)."""
        if self.files[0].row is None or self.image_size != (size, size):
            return None
        return open_packed(self.files[0].name), np.array([file.row for file in self.files])


def read(path: str | Path, kind: str | None = None, allow_cut: bool = False, tell: bool = True) -> Tree:
    """Open the CelebA tree at `path`, a folder or a zip. Images have their own names, in whatever form lists have them.

    With `tell`, a line says how many images are not used, and why (`Tree.describe_unused`).

    kind: "img_celeba" or "img_align_celeba"; by default the in-the-wild images where they and their landmarks are
    there, since they have the detail for large crops, else the aligned ones. allow_cut: make do with what is left of
    a zip that was cut short. Raises GlowkitError, which names the file and line, if a list is wrong, a zip is cut
    short or no image is left.
    """
    found = find(path)
    lists, kind = found.lists, _kind(found, kind or found.kind)
    images = found.images[kind]
    listed: dict[str, str] = {}  # the first name in each list

    def rows(name: str, convert: Callable, *arguments) -> tuple[list[str], dict | None]:
        """The columns and, by image, the rows of a list that may be absent, or there more than once."""
        if name not in lists:
            return [], None
        one = table(lists[name], convert(), *arguments)
        for copy in found.copies.get(name, ()):
            if unlike := difference(one, table(copy, convert(), *arguments)):
                raise GlowkitError(f"{copy}: is another {name} beside {lists[name]}: {unlike}; move one of them away")
        head, header, values = one
        if name in LANDMARK_FILES.values() and [column.lower() for column in header] != LANDMARK_COLUMNS:
            raise GlowkitError(f"{lists[name]} line {head}: the header must be {' '.join(LANDMARK_COLUMNS)}")
        listed[name] = next(iter(values))
        meant = match(values, images, lists[name])
        return header, {meant.get(name, name): value for name, value in values.items()}

    attributes, labels = rows(ATTRIBUTE_FILE, _Signs, "1 or -1, or else 1 or 0, for every attribute")
    if labels is None:
        labels = {name: [] for name in sorted(images)}
    right = f"five points x y with the eyes apart, near each other and within {FARTHEST:,} pixels"
    _, points = rows(LANDMARK_FILES[kind], lambda: _five_points, right)
    _, people = rows(IDENTITY_FILE, lambda: _person, "a whole number of up to 64 bits", 1)
    _, splits = rows(PARTITION_FILE, lambda: _split, "0 (train), 1 (valid) or 2 (test)", 1)

    archives = {file.archive for file in (*images.values(), *lists.values())}
    cut = "; ".join(f"{archive} is cut short: {left}" for archive, left in found.cut.items() if archive in archives)
    if cut and not allow_cut:
        raise GlowkitError(f"{cut}; get it again, or crop what is before the cut: glowkit crop --skip-faulty")

    others = {LANDMARK_FILES[kind]: points, IDENTITY_FILE: people, PARTITION_FILE: splits}
    others = {name: values for name, values in others.items() if values is not None}
    names = [name for name in labels if name in images]
    # Of several lists that of attributes counts: the others may be the complete ones.
    main = {ATTRIBUTE_FILE: labels} if ATTRIBUTE_FILE in lists else others
    first = next(iter(main), "")
    unused = {
        f"listed in {first} {ABSENT}": [name for name in main.get(first, ()) if name not in images],
        f"without a line in {ATTRIBUTE_FILE}": [name for name in images if name not in labels],
    }
    for list_name, values in others.items():
        unused[f"without a line in {list_name}"] = [name for name in names if name not in values]
    names = [name for name in names if all(name in values for values in others.values())]
    if not names:
        raise GlowkitError(
            f"{path}: none of the {len(images):,} images in {kind} (the first: {min(images)}) has a line in each of "
            + ", ".join(f"{lists[name]} (the first: {first})" for name, first in listed.items())
        )
    landmarks = None if points is None else np.array([points[name] for name in names]).reshape(-1, 5, 2)
    files = [images[name] for name in names]
    image_size = _size(files) if kind == "img_align_celeba" else None
    tree = Tree(
        path=found.root,
        kind=kind,
        names=names,
        attributes=attributes,
        labels=np.array([labels[name] for name in names], bool),
        eyes=landmarks[:, :2] if image_size is None else _aligned_eyes(image_size, landmarks, files),
        landmarks=landmarks,
        identities=None if people is None else np.array([people[name] for name in names]),
        splits=None if splits is None else np.array([splits[name] for name in names], np.uint8),
        files=files,
        image_size=image_size,
        unused={reason: which for reason, which in unused.items() if which},
        cut=cut,
        unread=list(found.unread.values()),
    )
    if tell and (said := tree.describe_unused()):
        tqdm.write(said)
    return tree


def own_splits(tree: Tree) -> np.ndarray:
    """uint8 (N,), about 80% train, 10% valid, 10% test, for a tree without a partition file.

    Each person is drawn into one split by their number, so the draw is the same in any part of CelebA. Where nobody
    knows who is who, the split follows the order of the images.
    """
    if tree.identities is None:
        place = np.arange(len(tree)) / len(tree)
    else:
        people, where = np.unique(tree.identities, return_inverse=True)
        place = np.array([zlib.crc32(b"%d" % person) / 2**32 for person in people])[where]
    return np.digitize(place, (0.8, 0.9)).astype(np.uint8)


def crop_file(
    file: File, points: np.ndarray, size: int, padding: str = "edge", image_size: tuple[int, int] | None = None
) -> tuple[torch.Tensor, np.ndarray, tuple[int, int], list[tuple[str, str]]]:
    """The crop of one image by two eyes or five landmarks: uint8 (3, size, size), the eyes (2, 2) that it was cropped
    by, the image's width and height, and what was done to it before (`pictures.shown`).

    Points are those of the image as viewers show it. Of one that its camera turned, five points may be of its pixels
    as they are stored: that is so if they make an upright face there and none as they are. Raises GlowkitError, which
    names the file, if it is faulty or not of the size that it should have.
    """
    with file.opened() as raw:
        image, notes = pictures.shown(raw)
        found = image.size
        if image_size not in (None, found):
            right = f"{image_size[0]} x {image_size[1]}"
            raise GlowkitError(f"{found[0]} x {found[1]} pixels among aligned images of {right}")
        turn = pictures.orientation(raw)
        if turn in pictures.PLAIN_TURNS and len(points) == 5 and not is_upright(points, found):
            stored = pictures.turned(points, turn, found)
            if is_upright(stored, found):
                points = stored
                notes.append(("landmarks turned", "with the image: they are of its pixels as they are stored"))
            else:
                notes.append(("landmarks askew", "no upright face in the image as it is stored or as it is shown"))
        return crop(image, *points[:2], size, padding), points[:2], found, notes


def _kind(found: Found, kind: str | None) -> str:
    """The images to use: those asked for, or the best there are."""
    landmarks = LANDMARK_FILES["img_celeba"]
    there = [k for k in LANDMARK_FILES if found.images[k]]
    usable = [k for k in there if k == "img_align_celeba" or landmarks in found.lists]
    if usable and kind in (None, *usable):
        return kind or usable[0]
    if kind in (None, *there):
        fault = f"{found.root}: images in img_celeba need {landmarks} to find the eyes"
    else:
        fault = f"{found.root}: no images of CelebA in {kind}; there are some in {there[0]}"
    raise GlowkitError("; ".join([fault, *found.unread.values()]))


def _size(files: list[File]) -> tuple[int, int]:
    """Width and height of the first image that can be opened, of some from beginning to end."""
    for file in files[:: max(1, len(files) // SOME)]:
        try:
            with file.opened() as image:
                return pictures.size(image)
        except GlowkitError as error:
            fault = error
    raise fault


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


def framed(image_size: tuple[int, int]) -> bool:
    """Has an image of this width and height the shape of an aligned one: CelebA's own, or a square crop's?"""
    return image_size[0] == image_size[1] or _official_shape(image_size)


def frame_eyes(image_size: tuple[int, int]) -> np.ndarray:
    """Where the eyes are in an aligned image of this width and height: (2, 2), left and right eye, x and y.

    In CelebA's own shape they are at ALIGNED_EYES; in any other the central square is taken for a crop.
    """
    width, height = image_size
    if _official_shape(image_size):
        return (np.array(ALIGNED_EYES) + 0.5) * width / ALIGNED_SIZE[0] - 0.5
    side = min(width, height)
    return side * np.array(EYES) - 0.5 + [(width - side) / 2, (height - side) / 2]


def write_annotations(folder, names, attributes, labels, landmarks=None, identities=None, splits=None) -> None:
    """Write the lists of aligned images in the official formats, or as CSV where a name has a space, say; landmarks
    become whole pixels."""
    folder = Path(folder)
    if attributes:
        signs = np.where(labels, " 1", "-1")
        write(folder, ATTRIBUTE_FILE, list(attributes), names, signs)
    if landmarks is not None:
        rows = (_whole(row) for row in np.reshape(landmarks, (len(names), 10)))
        write(folder, LANDMARK_FILES["img_align_celeba"], LANDMARK_COLUMNS, names, rows)
    if identities is not None:
        write(folder, IDENTITY_FILE, [], names, ([str(person)] for person in identities))
    if splits is not None:
        write(folder, PARTITION_FILE, [], names, ([str(split)] for split in splits))


def _whole(points: np.ndarray) -> list[str]:
    """Five points in whole pixels, unless a face is so small that its eyes would coincide."""
    whole = np.rint(points).astype(int).astype(str).tolist()
    try:
        _five_points(whole)
    except ValueError:
        return [f"{place:.6g}" for place in points]
    return whole
