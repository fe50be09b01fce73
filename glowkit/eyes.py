"""Where the eyes are in a picture, by the stock detectors of OpenCV, which is an optional extra: glowkit[eyes].

The frontal-face detector (Viola & Jones 2001) looks at the picture upright and turned, for it knows upright faces
alone; in the clearest face two detectors of eyes, one that knows glasses, look on each side. An eye is where they
agree. What they do not agree on is not found: a wrong eye would move the whole face.

Measured, an error being that of the worse eye in distances between the eyes: of 200 CelebA photographs that were turned
by up to 20 degrees, enlarged and shifted (their eyes taken to be at the mean place of aligned ones), both eyes are
found in 90% [85, 93]; the error is 0.09 in the median [0.08, 0.10], and above 0.25 in 3% [2, 7] of those found. Of 200
drawn faces in the wild they are found in 99.5% [97, 100], with 0.06 [0.05, 0.06] and none above 0.25. That is not proof
of a face: eyes are found in 9% [5, 16] of 100 photographs upside down, and in 6% [3, 13] of 100 cut up and shuffled.
The photographs are aligned ones moved about, with mirrored and blurred surroundings, not real pictures in the wild,
which may be harder. The limits below were set on other draws from the same 9,000 photographs, of which a few may be in
both. So say where the eyes were found, and let the reader look.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 400  # pixels of the longer side of what is looked at
TURNS = (0, -15, 15, -30, 30)  # degrees
FACE, EYES = "haarcascade_frontalface_alt2.xml", ("haarcascade_eye.xml", "haarcascade_eye_tree_eyeglasses.xml")
PLACES = np.array([(0.305, 0.395), (0.705, 0.395)])  # where eyes are in the box of a face, from its corner
REACH = 0.2  # sides of the box about these places in which an eye is looked for
BOX = 240  # pixels of a face's side when eyes are looked for
AGREE = 0.08  # sides of the box between what two detectors take for the same eye
APART = (0.28, 0.52)  # sides of the box between the eyes
LEVEL = 0.3  # how steep their line may be in the turned picture


class Eyes(NamedTuple):
    """Middles of the left and the right eye (2, 2) in pixels, x and y, left in the picture first; faces: how many
    there seem to be, of which the eyes are those of the clearest."""

    places: np.ndarray
    faces: int


def at_hand() -> bool:
    """Is an OpenCV installed that has the detectors? Version 5 came without."""
    package = find_spec("cv2")
    return package is not None and all((Path(package.origin).parent / "data" / name).exists() for name in (FACE, *EYES))


def find(image: Image.Image) -> Eyes | None:
    """The eyes of the clearest face in an RGB image that is about upright, None if not both are found."""
    import cv2

    face, *pair = (cv2.CascadeClassifier(cv2.data.haarcascades + name) for name in (FACE, *EYES))
    scale = SIDE / max(image.size)
    size = [max(1, round(scale * side)) for side in image.size]
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC))
    middle = ((size[0] - 1) / 2, (size[1] - 1) / 2)
    seen = []  # how often, place of the middle upright, the turn, the turned picture, the box
    for turn in TURNS:
        there = cv2.getRotationMatrix2D(middle, turn, 1.0)
        turned = cv2.warpAffine(grey, there, size, borderMode=cv2.BORDER_REPLICATE)
        boxes, counts = face.detectMultiScale2(turned, 1.1, 3, minSize=(SIDE // 10, SIDE // 10))
        back = cv2.invertAffineTransform(there)
        for box, count in zip(boxes, np.ravel(counts), strict=True):
            centre = back[:, :2] @ (box[:2] + box[2:] / 2 - 0.5) + back[:, 2]
            seen.append((int(count), centre, back, turned, box))
    if not seen:
        return None
    _, _, back, turned, box = max(seen, key=lambda one: one[0])
    eyes = [_eye(cv2, turned, box, place, pair) for place in PLACES]
    if any(eye is None for eye in eyes):
        return None
    across = eyes[1] - eyes[0]
    if not APART[0] * box[2] <= np.hypot(*across) <= APART[1] * box[2] or abs(across[1]) > LEVEL * across[0]:
        return None
    upright = np.array([back[:, :2] @ eye + back[:, 2] for eye in eyes])
    return Eyes((upright + 0.5) * np.array(image.size) / size - 0.5, _apart(seen))


def _eye(cv2, picture: np.ndarray, box: np.ndarray, place: np.ndarray, pair) -> np.ndarray | None:
    """The middle of one eye (2,) in pixels of the picture: the mean of the detectors that see one, if they agree."""
    zoom = BOX / box[2]
    corner = box[:2] + box[2:] * (place - REACH)  # counted from the corner of the first pixel
    n = round(2 * REACH * BOX)
    shift = 0.5 * zoom - 0.5 - zoom * corner  # pixel p of the picture is zoom (p + 1/2 - corner) - 1/2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    window = cv2.warpAffine(picture, matrix, (n, n), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    found = []
    for detector in pair:
        least = round(0.15 * BOX)
        spots, _, weights = detector.detectMultiScale3(window, 1.05, 2, minSize=(least, least), outputRejectLevels=True)
        if len(spots):
            spot = spots[int(np.argmax(weights))]
            found.append(corner + (spot[:2] + spot[2:] / 2) / zoom - 0.5)
    if not found or (len(found) == 2 and np.hypot(*(found[1] - found[0])) > AGREE * box[2]):
        return None
    return np.mean(found, 0)


def _apart(seen: list[tuple]) -> int:
    """How many of the faces seen are others, a box's side apart at least."""
    others: list[tuple] = []
    for one in sorted(seen, key=lambda one: -one[0]):
        if all(np.hypot(*(one[1] - other[1])) > 0.7 * max(one[4][2], other[4][2]) for other in others):
            others.append(one)
    return len(others)
