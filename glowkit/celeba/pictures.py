"""A picture as its viewers show it: upright, on white, in eight bits of sRGB. Crops, edits and data sets all read here.

Pictures come from anywhere, so only formats that are meant are opened, and no more pixels than memory has room for.
What is done to a picture beyond decoding it is told, as pairs of what it was and what was done.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings

import numpy as np
from PIL import Image, ImageCms

from glowkit.errors import GlowkitError

FORMATS = ("JPEG", "PNG", "WebP", "BMP")  # Pillow knows others that start programs or hold many pictures
# How files begin that are often taken for one of these; those of a phone name their format from the fifth byte.
OTHERS = {b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<!DO": "HTML"}
BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"hevc": "HEIC", b"avif": "AVIF"}
MAX_PIXELS = 2**26  # of a picture: 8192 x 8192; to decode them takes up to 25 bytes each
DARK = 2**12  # of 2**16: below this is no picture of 16 bits, but one of 8 or 12 that was not scaled to them
PLAIN = ("RGB", "L")  # modes that are left as they are
MODES = ("1", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")  # those that `convert` knows the way from
# EXIF's ways to hold a camera, and what undoes each.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PLAIN_TURNS = (3, 6, 8)  # without a mirror
ORIENTATION = 0x0112  # the tag of EXIF

_filters = threading.Lock()  # those of warnings are the whole process's


def open_picture(data: bytes) -> Image.Image:
    """The picture in the bytes of a file, not decoded yet. Raises GlowkitError if it is of another format or too large;
    Pillow's own errors tell of damage."""
    try:
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        other = BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else OTHERS.get(data[:4])
        told = f"; it is {other}, so save it as one of these" if other else ""
        read = ", ".join(FORMATS)
        raise GlowkitError(f"not an image ({len(data)} bytes) in a format that is read: {read}{told}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = next((int(word) for word in str(error).replace("(", "").split() if word.isdecimal()), 0)
        raise GlowkitError(f"too large to be read: {count:,} pixels, of at most {MAX_PIXELS:,}") from error
    if image.width * image.height > MAX_PIXELS:
        count = f"{image.width} x {image.height} pixels"
        raise GlowkitError(f"too large to be read: {count}, of at most {MAX_PIXELS:,}")
    return image


def shown(image: Image.Image) -> tuple[Image.Image, list[tuple[str, str]]]:
    """The picture in mode RGB or L, of 8 bits, and what was done for that: pairs of what it was and what was done.

    A picture that is so already is returned as it is, a JPEG not decoded. Turned as its camera noted (EXIF); laid on
    white where it is transparent; from its colour profile to sRGB; the first of an animation. Raises GlowkitError for
    a picture that is wholly transparent, and for pixels without a known scale (floats, integers of 32 bits).
    """
    notes: list[tuple[str, str]] = []
    given, turn, profile = image, orientation(image), image.info.get("icc_profile")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("PNG", "WEBP"):
        notes.append(("animated", f"the first of {frames} pictures was taken"))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I": of older Pillows
        image = _eight_bits(image)
        notes.append(("16 bits", "the upper 8 were taken"))
    if image.mode not in PLAIN + MODES:
        raise GlowkitError(
            f"pixels of mode {image.mode}: a picture of 8 or 16 bits a channel is needed; scale it to that first"
        )
    if image.has_transparency_data:
        image, share = _on_white(image)
        if share:
            notes.append(("transparent", f"laid on white ({share:.0%} of it)"))
    if profile:
        image, said = _srgb(image, profile)
        notes += said
    elif image.mode == "CMYK":
        notes.append(("CMYK", "without a colour profile: its colours are about right"))
    if image.mode not in PLAIN:
        image = image.convert("RGB")
    if turn in TURNS:
        image = image.transpose(TURNS[turn])
        notes.append(("turned", f"as its camera noted (EXIF orientation {turn})"))
    if image is not given:
        image.info = {}  # which told of what has been done, and would have it done again
    return image, notes


def size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the picture as `shown`, which is not decoded for it."""
    return image.size[::-1] if orientation(image) in (5, 6, 7, 8) else image.size


def orientation(image: Image.Image) -> int:
    """EXIF's number of how the camera was held: 1 upright, others in TURNS; 1 too where that is damaged."""
    try:
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever is wrong with what is written about a picture, the picture itself may be right
        return 1
    return turn if turn in TURNS else 1


def turned(points: np.ndarray, turn: int, shown_size: tuple[int, int]) -> np.ndarray:
    """Points (n, 2), x and y in pixels as they are stored, where they are in the picture of that width and height as
    `shown`. turn: EXIF's number, of a turn without a mirror."""
    (x, y), (width, height) = points.T, shown_size
    ways = {3: (width - 1 - x, height - 1 - y), 6: (width - 1 - y, x), 8: (y, height - 1 - x)}
    return np.stack(ways[turn], 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits in 8, its transparent grey, if it has one, as transparency."""
    pixels = np.asarray(image).astype(np.uint16)
    if pixels.max() < DARK:
        raise GlowkitError(
            f"16 bits of which the upper 4 are not used (no pixel is above {pixels.max():,} of 65,535), which would be "
            "all but black; scale it first"
        )
    grey = Image.fromarray((pixels >> 8).astype(np.uint8))
    if (hidden := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(pixels == hidden, 0, 255).astype(np.uint8)))
    return grey


def _on_white(image: Image.Image) -> tuple[Image.Image, float]:
    """The picture, RGB or L, on white, and the share of its pixels through which that is seen."""
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    image = image.convert("RGBA")
    counts = image.getchannel("A").histogram()
    if counts[0] == sum(counts):
        raise GlowkitError("wholly transparent: there is nothing to see")
    if counts[255] < sum(counts):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode), 1 - counts[255] / sum(counts)


def _srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[tuple[str, str]]]:
    """The picture with the colours of its profile in sRGB, and what was done."""
    mode = image.mode if image.mode in ("L", "CMYK") else "RGB"
    try:
        name, transform = _transform(profile, mode)
        if transform is None:
            return image, []
        return transform.apply(image.convert(transform.input_mode)), [("colour profile", f"from {name} to sRGB")]
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        return image, [("colour profile", f"cannot be used, taken for sRGB ({error})")]


@functools.lru_cache(maxsize=16)
def _transform(data: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """What a profile calls itself, and the way from it to sRGB; None if it is that already."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    name = " ".join((profile.profile.profile_description or "a profile without a name").split())[:60]
    if "sRGB" in name:
        return name, None
    srgb = ImageCms.createProfile("sRGB")
    return name, ImageCms.buildTransform(profile, srgb, mode, "RGB", flags=ImageCms.Flags.NOCACHE)  # for threads
