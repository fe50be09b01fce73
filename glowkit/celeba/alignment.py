"""The eye-aligned crop of section 3.1: from a picture and two eye points to a square with the eyes in place.

Points are x, y in pixels with (0, 0) at the middle of the first pixel, as landmark files have them. Relative
places are fractions of the image's side, so a relative place r lies at r * side - 0.5.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from glowkit.celeba import pictures
from glowkit.errors import GlowkitError

# Where the original Glow's aligner puts the eyes, relative to the crop.
EYES = ((0.371, 0.480), (0.629, 0.480))
MAX_SIZE = 2048  # pixels a side of a crop
FARTHEST = 1_000_000  # pixels from an image's corner to a point of its face; any farther is a mistake
NEAREST = 0.001  # pixels between two eyes
WIDEST = 2  # longer sides of the image between the eyes
MAX_SOURCE = 70_000_000  # pixels of an image, and from beyond its edge, that go into a crop
BAND = 2**22  # pixels that are floats at a time
PADDINGS = ("edge", "reflect", "blur")  # what a crop shows beyond the edge of its image


def similarity(left_eye: Sequence[float], right_eye: Sequence[float], size: int, eyes=EYES) -> np.ndarray:
    """The rotation, scale and shift that takes two eye points to their place in a crop (section 3.1).

    Returns the 2 x 3 matrix M with  p_crop = M[:, :2] @ p + M[:, 2]  in pixels. Raises GlowkitError if the
    eyes coincide or are nowhere near an image.
    """
    # A similarity of the plane is w = a p + b over the complex numbers; two points fix a and b.
    p, q = complex(*left_eye), complex(*right_eye)
    half = complex(0.5, 0.5)
    u, v = size * complex(*eyes[0]) - half, size * complex(*eyes[1]) - half
    if not (all(abs(place) <= FARTHEST for place in (*left_eye, *right_eye)) and abs(q - p) >= NEAREST):
        where = _places(left_eye, right_eye)
        raise GlowkitError(f"{where}: two different points within {FARTHEST:,} pixels are needed")
    a = (v - u) / (q - p)
    b = u - a * p
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _places(left_eye: Sequence[float], right_eye: Sequence[float]) -> str:
    return f"eyes at {tuple(map(float, left_eye))} and {tuple(map(float, right_eye))}"


def is_upright(points: np.ndarray, image_size: tuple[int, int]) -> bool:
    """Are five points (5, 2) those of a face that stands upright in an image of this width and height: all within it,
    the left eye on the left, and the mouth below the eyes by more than it is beside them?"""
    right = points[1] - points[0]
    beside, below = points[3:].mean(0) - points[:2].mean(0)
    within = (points >= -0.5).all() and (points <= np.array(image_size) - 0.5).all()
    return bool(within and right[0] > 0 and below > abs(beside))


def check_size(size: int) -> int:
    """The size, if a crop can have it."""
    if not 1 <= size <= MAX_SIZE:
        raise GlowkitError(f"size {size}: a crop has 1 to {MAX_SIZE} pixels a side")
    return size


def crop(image: Image.Image, left_eye, right_eye, size: int, padding: str = "edge", eyes=EYES) -> torch.Tensor:
    """Cut a square out of `image` so that the eyes come to rest at `eyes` (relative to the square).

    Returns uint8 (3, size, size). Every crop pixel is the mean of the (bilinear) source over its own
    footprint, so nothing aliases when a large face shrinks; an enlarged face is interpolated bicubically. A JPEG
    that is open but not decoded yet is decoded at a half, a quarter or an eighth where that is detail enough.
    Beyond the edge of the image its outermost pixels repeat (padding "edge"), or it is mirrored ("reflect"), or
    mirrored and the more blurred the farther out ("blur"). Raises GlowkitError if the eyes coincide, the crop
    misses the image, the face is far larger than it, or its pixels have no known scale (`pictures.shown`).
    """
    image = pictures.shown(image)[0]
    matrix = similarity(left_eye, right_eye, check_size(size), eyes)
    to_source = np.linalg.inv(matrix[:, :2])
    # Pixels are little squares here; count from the corner of the first: p = to_source @ p_crop + origin.
    origin = to_source @ (-0.5 - matrix[:, 2]) + 0.5
    shrink = math.sqrt(np.linalg.det(to_source))  # source pixels per crop pixel
    corners = size * np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) @ to_source.T + origin
    if (corners.max(0) <= 0).any() or (corners.min(0) >= image.size).any():
        where = _places(left_eye, right_eye)
        raise GlowkitError(f"{where} put the whole crop outside the {image.width} x {image.height} image")
    if np.hypot(*np.subtract(right_eye, left_eye)) > WIDEST * max(image.size):
        where = _places(left_eye, right_eye)
        raise GlowkitError(f"{where} are too far apart for a face in a {image.width} x {image.height} image")
    image, coarse = _decoded(image, shrink)
    # From here on in pixels as they are decoded.
    to_source, origin, corners, shrink = to_source / coarse, origin / coarse, corners / coarse, shrink / coarse
    # A very large face is averaged over blocks of k x k pixels first, which bounds the work.
    k = max(1, int(shrink / 4))
    tile, low = _tile(image, corners, k, padding, blur=0.05 * size * shrink)
    source = torch.from_numpy(tile).permute(2, 0, 1)[None]  # (1, 3, h, w)
    if k > 1:
        bands = source.split(k * max(1, BAND // (k * tile.shape[1])), 2)
        source = torch.cat([F.avg_pool2d(_floats(band), k) for band in bands], 2)
    source = _floats(source)

    samples, width = 1, 0.0
    if shrink > 1.001:
        # The footprint's mean is a filter of variance 1 / (6 coarse^2) + shrink^2 / 12, the bilinear kernel's and the
        # square's. Blocks have (k^2 - 1) / 12 and their kernel k^2 / 6, so the square has to be that much narrower.
        square = math.sqrt(max(0, shrink**2 + 2 / coarse**2 - 3 * k**2 + 1))
        # The mean of n x n samples at most a block apart, with the variance of the square (Gauss's rule, for n = 2).
        samples = max(2, math.ceil(math.hypot(1, square / k)))
        width = square / shrink / math.sqrt(1 - 1 / samples**2)
    # grid_sample counts the tile from -1 to 1: p_source = low + (width, height) * (v + 1) / 2.
    scale = 2 / np.array([tile.shape[1], tile.shape[0]])
    turn = torch.from_numpy(scale[:, None] * to_source).float()
    shift = torch.from_numpy(scale * (origin - low) - 1).float()
    within = ((torch.arange(samples) + 0.5) / samples - 0.5) * width
    u = (torch.arange(size)[:, None] + 0.5 + within).flatten()
    mode = "bicubic" if samples == 1 else "bilinear"

    def rows(v: torch.Tensor) -> torch.Tensor:
        grid = torch.empty(1, len(v), len(u), 2)
        for i in (0, 1):
            torch.add(u * turn[i, 0], (v * turn[i, 1] + shift[i])[:, None], out=grid[0, :, :, i])
        out = F.grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)
        if samples > 1:  # avg_pool2d by hand: it takes three times as long
            out = out.unflatten(2, (-1, samples)).sum(3)
            out = sum(out[..., i::samples] for i in range(samples)) / samples**2
        return out[0].round().clamp(0, 255).to(torch.uint8)

    return torch.cat([rows(v) for v in u.split(samples * max(1, BAND // (samples * len(u))))], 1)


def _floats(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.to(torch.float32, memory_format=torch.contiguous_format)


def _decoded(image: Image.Image, shrink: float) -> tuple[Image.Image, int]:
    """The image in RGB, and how many pixels a side of the file one of its pixels stands for."""
    width, height = image.size
    # As coarse as leaves the filter of `crop` as narrow as it should be.
    wanted = max((k for k in (1, 2, 4, 8) if shrink**2 >= 2 * (k**2 - 1)), default=1)
    image.draft("RGB", (width // wanted, height // wanted))  # does nothing but for a JPEG not decoded yet
    return image if image.mode == "RGB" else image.convert("RGB"), round(width / image.width)


def _tile(image: Image.Image, corners: np.ndarray, k: int, padding: str, blur: float):
    """The part of the image between the corners, in k x k blocks, uint8 (h, w, 3), and where its own corner is, x, y.

    blur: pixels beyond the edge at which the blurring of padding "blur" is complete.
    """
    size = np.array(image.size)
    # A margin for the interpolation. It repeats the edge itself, so one block of that is enough.
    beyond = k if padding == "edge" else size
    low = np.maximum(np.floor(corners.min(0)) - 2 * k, -beyond).astype(int)
    high = np.minimum(np.ceil(corners.max(0)) + 2 * k, size + beyond)
    high = low + k * np.ceil((high - low) / k).astype(int)
    if (high - low).prod() > MAX_SOURCE:
        raise GlowkitError(
            f"the crop is made of {' x '.join(map(str, high - low))} pixels, some from beyond the edge of the "
            f"{image.width} x {image.height} image; at most {MAX_SOURCE:,} can be"
        )
    tile = np.array(image.crop(tuple(map(int, (*np.maximum(low, 0), *np.minimum(high, size))))))
    before, after = np.maximum(-low, 0), np.maximum(high - size, 0)
    if not (before.any() or after.any()):
        return tile, low
    around = [(before[i], after[i]) for i in (1, 0)]
    tile = np.pad(tile, [*around, (0, 0)], mode="edge" if padding == "edge" else "symmetric")
    if padding == "blur":
        y, x = (np.concatenate([np.arange(b, 0, -1), np.zeros(n - b - a), np.arange(1, a + 1)])
                for n, (b, a) in zip(tile.shape, around, strict=False))  # fmt: skip
        blurred = np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(blur)))
        for rows in np.array_split(np.arange(len(tile)), tile.size // BAND + 1):
            outside = (np.hypot(x, y[rows, None]) / blur).clip(0, 1)[:, :, None]
            tile[rows] = (tile[rows] + outside * (blurred[rows].astype(float) - tile[rows])).round().astype(np.uint8)
    return tile, low
