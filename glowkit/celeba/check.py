"""`glowkit celeba check`: what of CelebA is at a path, what is missing, and what that rules out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from tqdm.auto import tqdm

from glowkit.celeba import pictures
from glowkit.celeba.alignment import EYES
from glowkit.celeba.facts import COUNTS, located, official
from glowkit.celeba.files import ATTRIBUTE_FILE, FOLDERS, IDENTITY_FILE, LANDMARK_FILES, PARTITION_FILE, File
from glowkit.celeba.tree import SPLITS, Tree, own_splits, read
from glowkit.errors import GlowkitError

ENOUGH = 128  # training images: a judge is trained on so many at a time
LARGE = 2**24  # pixels of an image that no other so large is decoded beside
_large = Lock()


def check(path: str | Path, kind: str | None = None) -> Iterator[str]:
    """Open the tree at `path`, decode every image, and say line by line what is there and what can be done with it.

    Raises GlowkitError at once if a list is wrong, and at the end if images are faulty or a zip was cut short.
    """
    tree = read(path, kind, allow_cut=True, tell=False)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        found = tqdm(pool.map(_fault, tree.files), "reading images", len(tree), unit="image", leave=False)
        faults = [fault for fault in found if fault]
    yield from _there(tree, len(faults))
    yield from _missing(tree)
    yield from _sums(tree.path, len(tree))
    yield from _possible(tree)
    if wrong := tree.describe_faults(faults):
        raise GlowkitError(f"{wrong}; get them again, or use the others: glowkit crop --skip-faulty")


def _fault(file: File) -> str | None:
    try:
        with file.opened() as image, _large if image.width * image.height > LARGE else nullcontext():
            pictures.shown(image)[0].load()
    except GlowkitError as error:
        return str(error)
    return None


def _there(tree: Tree, faults: int) -> Iterator[str]:
    people = "" if tree.identities is None else f" of {len(np.unique(tree.identities)):,} people"
    shape = "" if tree.image_size is None else ", {} x {} pixels".format(*tree.image_size)
    readable = "all readable" if not faults else f"{faults:,} of them faulty"
    yield f"{len(tree):,} images in {tree.kind}{people}{shape}, {readable}"
    for reason, names in tree.unused.items():
        yield f"{len(names):,} images {reason} are not used, the first: {names[0]}"
    if tree.attributes:
        yield f"{len(tree.attributes)} attributes: {', '.join(tree.attributes)}"
    if tree.landmarks is not None:
        yield "landmarks: five points a face"
    if tree.splits is not None:
        counts = np.bincount(tree.splits, minlength=3)
        yield "splits: " + ", ".join(f"{n:,} {name}" for name, n in zip(SPLITS, counts, strict=True))
    if tree.splits is not None and tree.identities is not None:
        pairs = np.unique(np.stack([tree.identities, tree.splits]), axis=1)
        shared = np.sum(np.unique(pairs[0], return_counts=True)[1] > 1)
        yield f"{shared:,} people are in more than one split" if shared else "no person is in two splits"


def _missing(tree: Tree) -> Iterator[str]:
    """What is not there, and what that rules out."""
    if not tree.attributes:
        yield f"{ATTRIBUTE_FILE} is missing, which rules out studies, judges and edits; training and crops need none"
    if tree.landmarks is None:
        yield (
            f"{LANDMARK_FILES[tree.kind]} is missing, which rules out measuring where the eyes are (claim C06): they "
            "are taken to be at their fixed place in aligned images"
        )
    if tree.kind == "img_align_celeba":
        yield (
            f"img_celeba with {LANDMARK_FILES['img_celeba']} is not there or not used, which rules out crops from "
            "photographs in the wild, and so detail beyond that of aligned images"
        )
    for packed in sorted(file for folder in FOLDERS for file in (tree.path / folder).glob("img_*celeba*.7z*"))[:1]:
        yield f"{packed} is not used: unpack it there first (7z x {packed.name})"
    for fault in tree.unread:
        yield f"not used: {fault}"
    if tree.splits is None:
        how = "in file order" if tree.identities is None else "by person"
        yield (
            f"{PARTITION_FILE} is missing, which rules out comparing with results on the official split: "
            f"80 / 10 / 10 % {how} will be used"
        )
    if tree.identities is None:
        yield f"{IDENTITY_FILE} is missing, which rules out making sure that splits share no person"


def _sums(path: Path, images: int) -> Iterator[str]:
    """Whether the files are the official ones. A part of CelebA has sums of its own, and that is no fault."""
    where = located(path)
    for name, whole in official(path).items():
        count = _line_count(where[name]) if name.endswith(".txt") else images
        if whole:
            yield f"{name} is the official file, by its md5 sum"
        elif count < COUNTS["images"]:
            unit = "lines" if name.endswith(".txt") else "of its images"
            yield f"{name} is not the whole official file, which is no fault: it has {count:,} {unit}"
        else:
            yield f"{name} is not the official file, by its md5 sum: another version, or damaged"


def _line_count(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def _possible(tree: Tree) -> Iterator[str]:
    """What there is too little for, and how large crops can be before most of them enlarge the face."""
    splits = own_splits(tree) if tree.splits is None else tree.splits
    training, test = np.flatnonzero(splits == 0), np.count_nonzero(splits == 2)
    there = f"there are {len(training):,} in the training split and {test:,} in the test split"
    # A study takes directions from either half of the training images.
    halves = [tree.labels[training[training % 2 == half]] for half in (0, 1)]
    varied = np.all([half.any(0) & ~half.all(0) for half in halves], axis=0)
    studied = test > 0 and varied.any()
    if tree.attributes and not (len(training) and test):
        yield f"too small for a study, which needs images in both splits: {there}"
    elif tree.attributes and not studied:
        yield f"too small for a study, which needs training images with an attribute and some without it: {there}"
    elif not varied.all():
        few = ", ".join(name for name, kept in zip(tree.attributes, varied, strict=True) if not kept)
        yield f"a study leaves out, since too few training images have them or have them not: {few}"
    if len(training) < ENOUGH:
        judges = f", judges of edits need {ENOUGH} and a test image" if tree.attributes else ""
        yield f"few images: a batch of training has {len(training):,} at most{judges}; {there}"
    apart = np.median(np.hypot(*(tree.eyes[:, 1] - tree.eyes[:, 0]).T))
    detail = apart / (EYES[1][0] - EYES[0][0])
    use = ("training, a study and edits" if studied else "training") if len(training) else "crops"
    yield (
        f"good for {use} at up to {detail:.0f} x {detail:.0f} pixels: a larger crop enlarges half of the faces "
        f"(their eyes are {apart:.0f} pixels apart)"
    )
