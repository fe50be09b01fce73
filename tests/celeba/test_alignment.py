"""The crop, against brute force and pictures whose eyes are known."""

import io

import numpy as np
import pytest
import torch
from celeba_trees import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glowkit import celeba
from glowkit.celeba import alignment
from glowkit.errors import GlowkitError

# -------------------------------------------------------------------------------------------- the similarity

points = st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))


@settings(deadline=None)
@given(points, points, points, st.integers(1, 512))
def test_similarity_takes_the_eyes_to_their_place_and_keeps_angles(left, right, other, size):
    if np.hypot(right[0] - left[0], right[1] - left[1]) < 1e-2:
        return
    m = celeba.similarity(left, right, size)
    scale = 0.258 * size / np.hypot(right[0] - left[0], right[1] - left[1])
    slack = 1e-9 * size + 1e-9 * scale * 4000
    for eye, target in zip((left, right), celeba.EYES, strict=True):
        assert m[:, :2] @ eye + m[:, 2] == pytest.approx(np.multiply(target, size) - 0.5, abs=slack)
    # Lengths all change by one factor and the orientation stays: a rotation times a scale.
    assert m[:, :2] @ m[:, :2].T == pytest.approx(scale**2 * np.eye(2), rel=1e-6, abs=1e-6 * scale**2)
    assert np.linalg.det(m[:, :2]) > 0
    u, v = np.subtract(right, left), np.subtract(other, left)
    cross_before, cross_after = np.linalg.det([u, v]), np.linalg.det([m[:, :2] @ u, m[:, :2] @ v])
    assert cross_after == pytest.approx(cross_before * scale**2, rel=1e-6, abs=1e-6 * scale**2)


@pytest.mark.parametrize(
    "eyes",
    [
        ((3, 4), (3, 4)),
        ((float("nan"), 4), (3, 4)),
        ((3, 4), (5, float("nan"))),
        ((0, 0), (float("inf"), 1)),
        ((1e30, 100), (1e31, 100)),
        ((1e300, 1), (-1e300, 1)),
        ((70, 110), (70.0000001, 110)),
    ],
)
def test_eyes_that_fix_no_similarity(eyes):
    with pytest.raises(GlowkitError, match="two different points"):
        celeba.similarity(*eyes, 64)


# -------------------------------------------------------------------------------------------------- the crop


def brute_force(image, left, right, size, n=16) -> np.ndarray:
    """The bilinear source at n x n points of each crop pixel, averaged; edges repeat. (size, size, 3)."""
    source = np.asarray(image, float)
    height, width, _ = source.shape
    # The similarity solved as a linear system, not with complex numbers: (a, -b; b, a) p + t = q for both
    # eyes.
    rows, targets = [], []
    for (x, y), (u, v) in zip((left, right), np.array(celeba.EYES) * size, strict=True):
        x, y = x + 0.5, y + 0.5  # pixels as unit squares
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        targets += [u, v]
    a, b, tx, ty = np.linalg.solve(rows, targets)
    grid = (np.arange(size * n) + 0.5) / n
    u, v = np.meshgrid(grid - tx, grid - ty)
    x = np.clip((a * u + b * v) / (a * a + b * b) - 0.5, 0, width - 1)
    y = np.clip((a * v - b * u) / (a * a + b * b) - 0.5, 0, height - 1)
    j, i = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = (x - j)[..., None], (y - i)[..., None]
    top = source[i, j] * (1 - fx) + source[i, j + 1] * fx
    bottom = source[i + 1, j] * (1 - fx) + source[i + 1, j + 1] * fx
    return (top * (1 - fy) + bottom * fy).reshape(size, n, size, n, 3).mean((1, 3))


NOISE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (300, 360, 3), dtype=np.uint8))


@pytest.mark.parametrize("distance", [18, 25, 37, 60, 85, 110, 130])
@pytest.mark.parametrize("image", [NOISE, picture(360, 300)], ids=["noise", "smooth"])
def test_crop_is_the_mean_over_each_pixels_footprint(image, distance):
    """White noise is the hardest case for a prefilter."""
    left, right = (180 - distance / 2, 140.0), (180 + distance / 2, 152.0)
    ours = celeba.crop(image, left, right, 64).permute(1, 2, 0).numpy()
    error = np.abs(ours - brute_force(image, left, right, 64))
    assert error.mean() < (3.5 if image is NOISE else 0.6)
    assert error.max() < (16 if image is NOISE else 6)


def test_crop_of_a_very_large_face_agrees_too():
    image = picture(375, 325).resize((3000, 2600), Image.Resampling.BICUBIC)
    left, right = (1100, 1200), (1900, 1300)  # 48 source pixels a crop pixel
    error = celeba.crop(image, left, right, 64).permute(1, 2, 0).numpy() - brute_force(image, left, right, 64)
    assert np.abs(error).max() < 8 and np.abs(error).mean() < 1


def test_crop_in_place_changes_nothing():
    image = picture(64, 64)
    eyes = 64 * np.array(celeba.EYES) - 0.5
    assert torch.equal(celeba.crop(image, *eyes, 64), torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_crop_to_half_size_averages_blocks_of_four():
    image = picture(128, 128)
    eyes = 128 * np.array(celeba.EYES) - 0.5
    blocks = np.asarray(image, float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    error = np.abs(celeba.crop(image, *eyes, 64).permute(1, 2, 0).numpy() - blocks)
    # Linear interpolation spreads a pixel a little past its own square, so not exactly.
    assert error.max() <= 6 and error.mean() < 1


def photograph(side: int) -> Image.Image:
    """Noise with the spectrum of photographs, 1 / frequency."""
    rng = np.random.default_rng(1)
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    f[0, 0] = 1
    spectra = (rng.normal(size=(3, *f.shape)) + 1j * rng.normal(size=(3, *f.shape))) / f
    x = np.fft.irfft2(spectra, s=(side, side)).transpose(1, 2, 0)
    return Image.fromarray((128 + 50 * x / x.std()).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("shrink, coarse", [(2.3, 1), (2.5, 2), (3.2, 2), (5.4, 2), (5.8, 4)])
def test_a_coarsely_decoded_jpeg_makes_the_same_crop(shrink, coarse):
    data = io.BytesIO()
    photograph(601).save(data, "JPEG", quality=95, subsampling=0)
    half, middle = 0.258 * 96 / 2 * shrink * np.array([np.cos(0.2), np.sin(0.2)]), np.array([290, 285])
    fine = celeba.crop(Image.open(data).convert("RGB"), middle - half, middle + half, 96).numpy().astype(float)
    image = Image.open(data)
    crop = celeba.crop(image, middle - half, middle + half, 96).numpy().astype(float)
    assert image.width == -(-601 // coarse)
    # A few of 256 levels: the mean over the footprint lets some of the finest detail through that a coarse decoding
    # does not have. Neither blurred nor jagged: neighbours differ as they should. Nor shifted.
    assert np.abs(crop - fine).mean() < 4.5
    assert np.diff(crop).std() == pytest.approx(np.diff(fine).std(), rel=0.1)
    shifts = [np.abs(crop[:, :, 4:-4] - np.roll(fine, k, 2)[:, :, 4:-4]).mean() for k in (-1, 0, 1)]
    assert shifts[1] < 0.4 * min(shifts[0], shifts[2])
    assert shifts[0] == pytest.approx(shifts[2], rel=0.1)


@pytest.mark.parametrize("shrink", [1.1, 1.5, 1.7, 2.3, 2.7, 3.4])
def test_few_samples_are_enough_for_photographs(shrink):
    """Closer to the mean over the footprint than what a JPEG of quality 95 loses."""
    image = photograph(400)
    half, middle = 0.258 * 64 / 2 * shrink * np.array([np.cos(0.2), np.sin(0.2)]), np.array([200, 190])
    exact = brute_force(image, middle - half, middle + half, 64)
    error = celeba.crop(image, middle - half, middle + half, 64).permute(1, 2, 0).numpy() - exact
    data = io.BytesIO()
    Image.fromarray(exact.round().astype(np.uint8)).save(data, "JPEG", quality=95, subsampling=0)
    assert np.square(error).mean() < np.square(np.asarray(Image.open(data)) - exact).mean()


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 90), st.floats(-0.6, 0.6), st.integers(0, 10**6), st.sampled_from([64, 128, 256]))
def test_marked_eyes_come_to_rest_within_half_a_pixel(distance, roll, seed, size):
    rng = np.random.default_rng(seed)
    middle = np.array([200, 180]) + rng.uniform(-20, 20, 2)
    half = distance / 2 * np.array([np.cos(roll), np.sin(roll)])
    left, right = middle - half, middle + half
    # A soft white spot on black at each eye, as wide as a few pixels of source and crop.
    y, x = np.mgrid[:360, :400]
    sigma = max(1.5, 1.5 * distance / (0.258 * size))
    for eye, target in zip((left, right), celeba.EYES, strict=True):
        spot = 250 * np.exp(-((x - eye[0]) ** 2 + (y - eye[1]) ** 2) / (2 * sigma**2))
        image = Image.fromarray(spot.round().astype(np.uint8))
        out = celeba.crop(image, left, right, size)[0].double().numpy()
        weight = np.where(out > 25, out, 0)
        v, u = np.mgrid[:size, :size]
        centre = np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()
        assert np.abs(centre - (np.multiply(target, size) - 0.5)).max() < 0.5


def test_edges_repeat():
    image = Image.fromarray(np.full((100, 100, 3), 200, np.uint8))
    assert (celeba.crop(image, (5, 50), (60, 50), 64) == 200).all()
    image.putpixel((0, 0), (0, 0, 0))
    corner = celeba.crop(image, (5.0, 4.0), (21.5, 4.0), 64)  # the crop reaches far past the top left corner
    assert (corner[:, :8, :8] == 0).all()


def test_other_paddings_mirror_and_blur():
    image = picture(64, 64)
    eyes = 64 * np.array(celeba.EYES) - 0.5 + (20, -16)  # the crop begins 16 rows above and ends 20 columns beyond
    inside = np.asarray(image)[:48, 20:]
    mirrored = celeba.crop(image, *eyes, 64, "reflect").permute(1, 2, 0).numpy()
    assert (mirrored[16:, :44] == inside).all()
    assert (mirrored[:16, :44] == inside[15::-1]).all() and (mirrored[16:, 44:] == inside[:, :-21:-1]).all()
    blurred = celeba.crop(image, *eyes, 64, "blur").permute(1, 2, 0).numpy()
    assert (blurred[16:, :44] == inside).all()
    rough = [np.abs(np.diff(x[:12, :40].astype(float), axis=1)).mean() for x in (mirrored, blurred)]
    assert rough[1] < 0.7 * rough[0]
    assert np.abs(blurred[15, :44].astype(int) - mirrored[15, :44]).mean() < 12  # no seam


@pytest.mark.parametrize("eyes", [((500, 50), (540, 50)), ((-900, -900), (-870, -900))])
def test_a_crop_outside_the_image_is_refused(eyes):
    with pytest.raises(GlowkitError, match="outside the 100 x 100 image"):
        celeba.crop(Image.new("RGB", (100, 100)), *eyes, 64)


@pytest.mark.parametrize("eyes", [((0, 50), (1e5, 50)), ((-1e6, 50), (1e6, 50)), ((50, -110), (50, 110))])
def test_a_face_far_larger_than_its_image_is_refused(eyes):
    with pytest.raises(GlowkitError, match="too far apart for a face in a 100 x 100 image"):
        celeba.crop(Image.new("RGB", (100, 100)), *eyes, 64)


def test_a_crop_that_memory_has_no_room_for_is_refused():
    """A narrow image is wide enough for a very large face, and what is beyond its edge is larger than itself."""
    strip = Image.new("RGB", (60_000, 2))
    with pytest.raises(GlowkitError, match="made of .* x .* pixels, .* the 60000 x 2 image; at most 70,000,000"):
        celeba.crop(strip, (100, 1), (59_900, 1), 16)
    with pytest.raises(GlowkitError, match="at most 70,000,000 can be"):
        celeba.crop(Image.new("RGB", (5000, 5000)), (100, 2500), (4900, 2500), 64, "reflect")


@pytest.mark.parametrize("distance", [30, 200, 1300])
@pytest.mark.parametrize("padding", ["edge", "blur"])
def test_work_in_bands_makes_the_same_crop(distance, padding, monkeypatch):
    image, middle = picture(700, 600), np.array([350, 300])
    half = distance / 2 * np.array([np.cos(0.2), np.sin(0.2)])
    whole = celeba.crop(image, middle - half, middle + half, 48, padding)
    monkeypatch.setattr(alignment, "BAND", 5000)
    assert torch.equal(celeba.crop(image, middle - half, middle + half, 48, padding), whole)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_colour_mode_will_do(mode):
    assert celeba.crop(Image.new(mode, (60, 60), "red" if mode != "L" else 76), (20, 30), (40, 30), 32).shape == (
        3,
        32,
        32,
    )
