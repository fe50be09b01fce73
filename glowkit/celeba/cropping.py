"""`glowkit crop`: all images of a tree cropped by all cores, kept through an interruption, with a report on quality.

Crops gather in the folder OUT.part. It becomes OUT, lists and all, when every image is cropped; until then a second
run goes on from what is there.
"""

from __future__ import annotations

import csv
import io
import math
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from glowkit import workers
from glowkit.celeba.alignment import EYES, PADDINGS, check_size
from glowkit.celeba.files import PACKED, File
from glowkit.celeba.tree import Tree, crop_file, read, write_annotations
from glowkit.errors import GlowkitError
from glowkit.files import LOCK, alone_in, expanded, replacing

SETTINGS = "crop.txt"  # what the crops were made with
REPORT = "crop_report.csv"  # image, problem, detail
SMALL, OUTSIDE, ROLLED, FAULTY = "face too small", "eye outside", "extreme roll", "left out"
ENLARGED = 1.1  # a face is too small if its crop is enlarged by more
ROLL = 30  # degrees of the line of the eyes
CHUNK = 16  # images that go to a process at a time


class Job(NamedTuple):
    """What a process needs to know to crop an image."""

    name: str
    file: File
    points: np.ndarray
    image_size: tuple[int, int] | None
    size: int
    padding: str
    packed: bool


class Crop(NamedTuple):
    """A crop as it goes to disk, or why there is none, and what is wrong with it or was done to its image before, as
    (problem, detail)."""

    data: bytes
    fault: str | None
    problems: list[tuple[str, str]]


def crop_tree(
    src: str | Path,
    out: str | Path,
    size: int,
    kind: str | None = None,
    padding: str = "edge",
    packed: bool = False,
    skip_faulty: bool = False,
) -> Counter[str]:
    """Crop every image of the tree `src` and write the crops as an aligned CelebA tree `out`.

    Images keep their names, and the name's suffix decides the format (JPEG at quality 95 without chroma subsampling,
    PNG, ...); `packed` makes one array of them instead, which training maps from disk. Returns how many crops there
    are, under "crops", and how many have each of the problems listed in the file `REPORT`. Raises GlowkitError if
    `out` exists, anything in `src` is wrong, or an image would be missing because it is faulty or its zip was cut
    short; with `skip_faulty` it is left out.
    """
    check_size(size)
    if padding not in PADDINGS:
        raise GlowkitError(f"padding {padding!r}: choose one of {', '.join(PADDINGS)}")
    tree, out = read(src, kind, allow_cut=True), expanded(out)
    _check_new(out)
    part = out.with_name(out.name + ".part")
    eyes = "at their fixed place" if tree.landmarks is None else "as listed"
    form = "packed" if packed else "files"
    try:
        with alone_in(part):
            _check_new(out)  # another process may have made it meanwhile
            _begin(part, f"{size} x {size} pixels of {tree.kind}, eyes {eyes}, padding {padding}, {form}\n")
            with (_Array if packed else _Folder)(part, size) as store:
                faults = _crop_missing(tree, store, part / REPORT, size, padding, packed)
                wrong = tree.describe_faults(list(faults.values()))
                if not store.names:
                    raise GlowkitError(f"{src}: no image can be cropped: {wrong}")
                if wrong and not skip_faulty:
                    raise GlowkitError(
                        f"{wrong}; the other {len(store.names):,} crops are kept in {part}: mend and run again to go "
                        "on, or do without these images with --skip-faulty"
                    )
                if tree.cut:
                    faults |= dict.fromkeys(tree.absent if tree.listed else ["all after the cut"], tree.cut)
                for reason, names in tree.unused.items():
                    faults |= dict.fromkeys(names if names is not tree.absent else (), reason)
                store.finish()
            problems = _finish(tree, part, store.names, faults, size)
    except BrokenProcessPool as error:
        raise GlowkitError(f"{part}: a process was killed, for want of memory perhaps; run again to go on") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise GlowkitError(f"{part}: {why}; the crops made so far are kept there, run again to go on") from error
    os.replace(part, out)
    return problems


def _check_new(out: Path) -> None:
    if out.exists():
        raise GlowkitError(f"{out}: exists already; name a new folder")


def _begin(part: Path, settings: str) -> None:
    """Make the folder, or make sure that what is in it was made with the same settings."""
    made = part / SETTINGS
    if all(file.name == LOCK for file in part.iterdir()):
        with replacing(made) as path:
            path.write_text(settings, encoding="utf-8")
    begun = made.read_text(encoding="utf-8", errors="replace") if made.exists() else "something else"
    if begun != settings:
        raise GlowkitError(
            f"{part}: was begun with {begun.strip()}, not {settings.strip()}; finish it so, or delete it"
        )


def _crop_missing(tree: Tree, store: _Folder | _Array, report: Path, size: int, padding: str, packed: bool) -> dict:
    """Crop what is not in the store yet; returns the faulty images and what is wrong with them."""
    if strange := set(store.names) - set(tree.names):
        raise GlowkitError(f"{report.parent}: has {min(strange)}, which is not in {tree.path}; delete the folder")
    if len(set(store.names)) < len(store.names):
        raise GlowkitError(f"{report.parent}: has an image twice; delete the folder")
    there, faults = set(store.names), {}
    jobs = [
        Job(name, tree.files[i], tree.points(i), tree.image_size, size, padding, packed)
        for i, name in enumerate(tree.names)
        if name not in there
    ]
    bar = tqdm(total=len(tree), initial=len(there), desc="cropping", unit="image")
    with bar, report.open("a", newline="", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file)
        for job, made in zip(jobs, _made(jobs), strict=True):
            if made.fault:
                faults[job.name] = made.fault
            else:
                # The report first: an image that is in the store will not be looked at again.
                lines.writerows((job.name, *problem) for problem in made.problems)
                store.add(job.name, made.data)
            bar.update()
    return faults


def _finish(tree: Tree, part: Path, names: list[str], faults: dict[str, str], size: int) -> Counter[str]:
    """Write the lists and the report of the crops in the store, and count the problems."""
    there = set(names)
    rows = np.array([i for i, name in enumerate(tree.names) if name in there])
    landmarks = tree.cropped_landmarks(size)
    write_annotations(
        part,
        [tree.names[i] for i in rows],
        tree.attributes,
        tree.labels[rows],
        *(None if array is None else array[rows] for array in (landmarks, tree.identities, tree.splits)),
    )
    try:
        with (part / REPORT).open(newline="", encoding="utf-8", errors="replace") as file:
            # An interruption can leave a line half written, and then written again.
            found = dict.fromkeys(tuple(line) for line in csv.reader(file) if len(line) == 3 and line[0] in there)
    except csv.Error as error:
        raise GlowkitError(f"{part / REPORT}: damaged ({error}); delete it and run again") from None
    found |= dict.fromkeys((name, FAULTY, fault) for name, fault in faults.items())
    with (
        replacing(part / REPORT) as path,
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows([("image", "problem", "detail"), *sorted(found)])
    return Counter({"crops": len(names)}) + Counter(problem for _, problem, _ in found)


# ------------------------------------------------------------------------------------------- where the crops go


class _Folder:
    """Crops as image files."""

    def __init__(self, part: Path, size: int) -> None:
        self.folder = part / "img_align_celeba"
        self.folder.mkdir(exist_ok=True)
        for unfinished in self.folder.glob(".*"):
            unfinished.unlink()
        self.names = os.listdir(self.folder)

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *error) -> None:
        pass

    def add(self, name: str, data: bytes) -> None:
        with replacing(self.folder / name) as path:
            path.write_bytes(data)
        self.names.append(name)

    def finish(self) -> None:
        pass


class _Array:
    """Crops in one .npy file, image after image as they come, and the list of their names."""

    HEADER = 128  # bytes; the header is written last, since only then the number of images is known

    def __init__(self, part: Path, size: int) -> None:
        self.shape = (3, size, size)
        path = part / PACKED
        path.touch()
        path.with_suffix(".txt").touch()
        self.pixels, self.list = path.open("r+b"), path.with_suffix(".txt").open("r+b")
        # The last image or name may be half written.
        whole = max(0, path.stat().st_size - self.HEADER) // math.prod(self.shape)
        lines = [line for line in self.list if line.endswith(b"\n")][:whole]
        self.names = [line.decode("utf-8", "replace").strip() for line in lines]
        self.pixels.truncate(self.pixels.seek(self.HEADER + len(lines) * math.prod(self.shape)))
        self.list.truncate(self.list.seek(sum(map(len, lines))))

    def __enter__(self) -> _Array:
        return self

    def __exit__(self, *error) -> None:
        self.pixels.close()
        self.list.close()

    def add(self, name: str, data: bytes) -> None:
        # Each to the disk at once, the pixels first: a name stands for a whole image.
        for file, line in ((self.pixels, data), (self.list, f"{name}\n".encode())):
            file.write(line)
            file.flush()
        self.names.append(name)

    def finish(self) -> None:
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (len(self.names), *self.shape)}
        np.lib.format.write_array_header_1_0(header, shape)
        assert header.tell() == self.HEADER
        self.pixels.seek(0)
        self.pixels.write(header.getvalue())


# ------------------------------------------------------------------------------------------------ the processes


def _made(jobs: list[Job]) -> Iterator[Crop]:
    """The crops of the jobs, in order, by as many processes as there are cores and it is worth to start."""
    processes = min(os.cpu_count() or 1, len(jobs) // 100)
    if processes < 2:
        yield from map(_make, jobs)
        return
    # Not "fork": a process forked off one in which torch has threads may never answer. A fork server has none, and
    # loads torch once for all.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    if method == "forkserver":
        # Deaf to Ctrl-C from the first, it and all that it forks: loading torch takes seconds.
        resource_tracker.ensure_running()  # the fork server wants it, and its start would end what comes now
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start)
    try:
        # A window of work rather than pool.map: crops that wait to be written would fill the memory.
        waiting: deque = deque()
        for first in range(0, len(jobs), CHUNK):
            with _uninterrupted():
                waiting.append(pool.submit(_make_all, jobs[first : first + CHUNK]))
            if len(waiting) > 3 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        with _uninterrupted():
            pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C within takes effect at the end: a process whose start is cut short would tell of it in a stack."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears it
        yield
        return
    pressed = []
    hearing = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, hearing)
    if pressed:
        raise KeyboardInterrupt


def _start() -> None:
    """A process of the pool: one thread, deaf to Ctrl-C, which its parent answers, and gone when its parent is."""
    workers.begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make_all(jobs: list[Job]) -> list[Crop]:
    return [_make(job) for job in jobs]


def _make(job: Job) -> Crop:
    try:
        crop, eyes, image_size, notes = crop_file(job.file, job.points, job.size, job.padding, job.image_size)
    except GlowkitError as error:
        return Crop(b"", str(error), [])
    problems = quality(eyes, image_size, job.size) + notes
    if job.packed:
        return Crop(crop.numpy().tobytes(), None, problems)
    data, suffix = io.BytesIO(), Path(job.name).suffix.lower()
    picture = Image.fromarray(crop.permute(1, 2, 0).contiguous().numpy())
    picture.save(data, Image.registered_extensions()[suffix], quality=95, subsampling=0)
    return Crop(data.getvalue(), None, problems)


def quality(eyes: np.ndarray, image_size: tuple[int, int], size: int) -> list[tuple[str, str]]:
    """What is wrong with a crop of `size` pixels, given the eyes (2, 2) and the width and height of its image: pairs
    of a problem (SMALL, OUTSIDE, ROLLED) and its extent."""
    apart = eyes[1] - eyes[0]
    enlarged = size * (EYES[1][0] - EYES[0][0]) / np.hypot(*apart)
    roll = math.degrees(math.atan2(apart[1], apart[0]))
    found = []
    if enlarged > ENLARGED:
        found.append((SMALL, f"enlarged {enlarged:.2f} times"))
    if ((eyes < -0.5) | (eyes > np.array(image_size) - 0.5)).any():
        x, y, u, v = eyes.ravel()
        width, height = image_size
        found.append((OUTSIDE, f"eyes at ({x:g} {y:g}) and ({u:g} {v:g}) of {width} x {height} pixels"))
    if abs(roll) > ROLL:
        found.append((ROLLED, f"{roll:.0f} degrees"))
    return found
