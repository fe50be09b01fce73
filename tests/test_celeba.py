"""CelebA trees and the crop, against brute force, pictures whose eyes are known, and files read by hand."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glowkit import celeba, faces
from glowkit.errors import GlowkitError

NAMES = [f"{i:06d}.jpg" for i in (1, 2, 5, 9)]  # a subset of ids, as real subsets are
ATTRIBUTES = ["Male", "Smiling", "Young"]
LABELS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]], bool)


def picture(width=178, height=218, seed=0) -> Image.Image:
    """A smooth picture with some texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def tree(tmp_path) -> Path:
    """A small tree of aligned images, its lists in the official formats but for the landmarks."""
    folder = tmp_path / "tree"
    (folder / "img_align_celeba").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        picture(seed=i).save(folder / "img_align_celeba" / name, quality=95)
    rows = [
        name + " " + " ".join(f"{v:2d}" for v in row) for name, row in zip(NAMES, 2 * LABELS - 1, strict=True)
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["4", " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{n} {k}\n" for n, k in zip(NAMES, (7, 7, 8, 9), strict=True))
    )
    # One line more than there are attributes: the other lists may be the complete ones.
    partition = zip([*NAMES, "000010.jpg"], (0, 0, 1, 2, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {k}\n" for n, k in partition))
    return folder


LANDMARK_HEAD = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y "
    "leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)


def write_landmarks(path: Path, rows: list[list[int]]) -> None:
    lines = [f"{n} " + " ".join(map(str, row)) for n, row in zip(NAMES, rows, strict=True)]
    path.write_text("\n".join([str(len(rows)), LANDMARK_HEAD, *lines]) + "\n")


def edit_line(path: Path, number: int, text: str | None) -> None:
    """Replace a line, counted from 1, or drop it."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


# -------------------------------------------------------------------------------------------- the similarity

points = st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))


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


@pytest.mark.parametrize("eyes", [((3, 4), (3, 4)), ((float("nan"), 4), (3, 4)), ((0, 0), (float("inf"), 1))])
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
    assert error.mean() < (2.5 if image is NOISE else 0.6)
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


@settings(max_examples=40)
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


@pytest.mark.parametrize("eyes", [((500, 50), (540, 50)), ((-900, -900), (-870, -900))])
def test_a_crop_outside_the_image_is_refused(eyes):
    with pytest.raises(GlowkitError, match="outside the 100 x 100 image"):
        celeba.crop(Image.new("RGB", (100, 100)), *eyes, 64)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_colour_mode_will_do(mode):
    assert celeba.crop(Image.new(mode, (60, 60)), (20, 30), (40, 30), 32).shape == (3, 32, 32)


# -------------------------------------------------------------------------------------------- reading a tree


def test_reads_the_official_files(tree):
    t = celeba.read(tree)
    assert t.names == NAMES and t.attributes == ATTRIBUTES and t.kind == "img_align_celeba"
    assert (t.labels == LABELS).all() and t.labels.dtype == bool
    assert t.splits.tolist() == [0, 0, 1, 2] and t.identities.tolist() == [7, 7, 8, 9]
    assert t.landmarks is None and t.cropped_landmarks(64) is None
    assert np.allclose(t.eyes[2], [(69.4, 111.4), (107.8, 111.4)])


def test_optional_lists_may_be_absent(tree):
    (tree / "identity_CelebA.txt").unlink()
    (tree / "list_eval_partition.txt").unlink()
    t = celeba.read(tree)
    assert t.identities is None and t.splits is None


def as_zip(folder: Path, path: Path, prefix: str = "img_align_celeba/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((folder / "img_align_celeba").iterdir()):
            archive.write(file, prefix + file.name)
    return path


@pytest.mark.parametrize(
    "layout", ["zip inside", "flat zip", "zip itself", "all in one zip", "official", "nested"]
)
def test_layouts_hold_the_same_tree(tree, tmp_path, layout):
    before = celeba.read(tree)
    crops = torch.stack([before.crop(i, 32) for i in range(4)])
    path = tree
    if layout == "official":  # as the CelebA drive has it
        for name in ("Anno", "Eval", "Img"):
            (tree / name).mkdir()
        for name, place in (
            ("list_attr_celeba", "Anno"),
            ("identity_CelebA", "Anno"),
            ("list_eval_partition", "Eval"),
        ):
            (tree / f"{name}.txt").rename(tree / place / f"{name}.txt")
        as_zip(tree, tree / "Img" / "img_align_celeba.zip")
    elif layout == "nested":
        (tree / "img_align_celeba").rename(tree / "inner")
        (tree / "img_align_celeba").mkdir()
        (tree / "inner").rename(tree / "img_align_celeba" / "img_align_celeba")
    elif layout == "all in one zip":
        path = tmp_path / "celeba.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in tree.rglob("*.*"):
                archive.write(file, "celeba/" + str(file.relative_to(tree)))
    else:
        zipped = as_zip(
            tree, tree / "img_align_celeba_178x218.zip", "" if layout == "flat zip" else "img_align_celeba/"
        )
        path = zipped if layout == "zip itself" else tree
    if layout not in ("nested", "all in one zip"):
        shutil.rmtree(tree / "img_align_celeba")
    after = celeba.read(path)
    assert after.names == before.names and (after.labels == before.labels).all()
    assert after.splits.tolist() == before.splits.tolist()
    assert torch.equal(torch.stack([after.crop(i, 32) for i in range(4)]), crops)


def test_landmarks_place_the_eyes(tree):
    rows = [[69 + i, 111, 107 + i, 113 + i, 88, 140, 70, 155, 105, 156] for i in range(4)]
    write_landmarks(tree / "list_landmarks_align_celeba.txt", rows)
    t = celeba.read(tree)
    assert (t.landmarks.reshape(4, 10) == rows).all()
    assert (t.eyes[3] == [(72, 111), (110, 116)]).all()
    cropped = t.cropped_landmarks(64)
    assert cropped[:, :2] == pytest.approx(np.broadcast_to(np.array(celeba.EYES) * 64 - 0.5, (4, 2, 2)))
    # A mouth corner keeps its distance from an eye, in units of the distance of the eyes.
    apart = np.linalg.norm(t.landmarks[:, 1] - t.landmarks[:, 0], axis=1)
    before = np.linalg.norm(t.landmarks[:, 3] - t.landmarks[:, 0], axis=1) / apart
    assert np.linalg.norm(cropped[:, 3] - cropped[:, 0], axis=1) / (0.258 * 64) == pytest.approx(before)


def test_in_the_wild_images_are_used_where_their_landmarks_are(tree):
    (tree / "img_celeba").mkdir()
    for i, name in enumerate(NAMES):
        picture(300, 260, seed=i).save(tree / "img_celeba" / name)
    assert celeba.read(tree).kind == "img_align_celeba"
    write_landmarks(
        tree / "list_landmarks_celeba.txt", [[100, 90, 160, 95, 130, 120, 110, 150, 155, 150]] * 4
    )
    assert celeba.read(tree).kind == "img_celeba"
    assert celeba.read(tree, "img_align_celeba").kind == "img_align_celeba"


def test_a_square_tree_is_in_the_frame_already(tree):
    for name in NAMES:
        picture(64, 64).save(tree / "img_align_celeba" / name)
    t = celeba.read(tree)
    assert torch.equal(t.crop(1, 64), torch.from_numpy(np.array(t.files[1].image())).permute(2, 0, 1))
    # Landmarks in whole pixels that agree with the frame do not move anything...
    write_landmarks(tree / "list_landmarks_align_celeba.txt", [[23, 30, 40, 30, 32, 40, 26, 48, 38, 48]] * 4)
    assert torch.equal(celeba.read(tree).crop(1, 64), t.crop(1, 64))
    # ... and landmarks that do not are believed.
    write_landmarks(tree / "list_landmarks_align_celeba.txt", [[20, 28, 44, 28, 32, 40, 26, 48, 38, 48]] * 4)
    assert (celeba.read(tree).eyes[0] == [(20, 28), (44, 28)]).all()


# ---------------------------------------------------------------------------------------------------- errors


def refused(path, *parts: str) -> None:
    """Reading the tree, images included, raises one line that holds all of `parts`."""
    with pytest.raises(GlowkitError) as caught:
        t = celeba.read(path)
        for i in range(len(t)):
            t.crop(i, 32)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "name, line, text, parts",
    [
        ("list_attr_celeba.txt", 1, "5", ["line 1", "'5'", "4 rows"]),
        ("list_attr_celeba.txt", 1, "four", ["line 1", "'four'"]),
        ("list_attr_celeba.txt", 2, "Male Smiling", ["line 2", "2 columns", "3 values"]),
        ("list_attr_celeba.txt", 2, "Male Male Young", ["line 2", "Male twice"]),
        ("list_attr_celeba.txt", 4, "000002.jpg 1 -1", ["line 4", "2 values, not 3"]),
        ("list_attr_celeba.txt", 4, "000002.jpg 1 -1 yes", ["line 4", "1 -1 yes", "1 or -1"]),
        ("list_attr_celeba.txt", 4, "", ["line 4", "0 values"]),
        ("list_attr_celeba.txt", 5, "000001.jpg 1 1 1", ["line 5", "000001.jpg", "already"]),
        ("list_attr_celeba.txt", 6, "000003.jpg 1 1 1", ["line 6", "000003.jpg", "not among the 4 files"]),
        ("list_attr_celeba.txt", 6, None, ["line 1", "'4'", "3 rows"]),
        ("list_eval_partition.txt", 2, "000002.jpg 3", ["line 2", "'3'", "2 (test)"]),
        ("list_eval_partition.txt", 2, "000002.jpg", ["line 2", "0 values, not 1"]),
        ("list_eval_partition.txt", 2, None, ["no line for 000002.jpg"]),
        ("identity_CelebA.txt", 3, "000005.jpg x", ["line 3", "'x'", "whole number"]),
        ("list_landmarks_align_celeba.txt", 4, "000002.jpg 69 111 107 113", ["line 4", "4 values, not 10"]),
        (
            "list_landmarks_align_celeba.txt",
            4,
            "000002.jpg 69 111 69 111 1 1 1 1 1 1",
            ["line 4", "eyes apart"],
        ),
        (
            "list_landmarks_align_celeba.txt",
            4,
            "000002.jpg 69 nan 69 111 1 1 1 1 1 1",
            ["line 4", "five points"],
        ),
        ("list_landmarks_align_celeba.txt", 2, "lefteye_x lefteye_y", ["line 2", "2 columns", "10 values"]),
        (
            "list_landmarks_align_celeba.txt",
            2,
            " ".join("abcdefghij"),
            ["line 2", "lefteye_x lefteye_y righteye_x"],
        ),
    ],
)
def test_wrong_lines_are_named(tree, name, line, text, parts):
    write_landmarks(
        tree / "list_landmarks_align_celeba.txt", [[69, 111, 107, 113, 88, 140, 70, 155, 105, 156]] * 4
    )
    edit_line(tree / name, line, text)
    refused(tree, str(tree / name), *parts)


def test_wrong_files_are_named(tree, tmp_path):
    attributes, image = tree / "list_attr_celeba.txt", tree / "img_align_celeba" / NAMES[2]
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])
    refused(tree, str(image), "truncated")
    image.write_bytes(b"hello")
    refused(tree, str(image), "not an image (5 bytes)")
    image.write_bytes(b"")
    refused(tree, str(image), "not an image (0 bytes)")
    picture(100, 218).save(image)
    refused(tree, str(image), "100 x 218", "178 x 218")
    image.unlink()
    refused(tree, str(attributes), "line 5", NAMES[2])
    text = attributes.read_bytes()
    attributes.write_bytes(b"\xff\xfe" + text)
    refused(tree, str(attributes), "not a text file")
    attributes.write_text("4\n")
    refused(tree, str(attributes), "1 lines")
    attributes.unlink()
    refused(tree, "list_attr_celeba.txt is missing")
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no images of CelebA", "img_align_celeba")
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", "not a zip")


def test_in_the_wild_images_need_landmarks(tree):
    (tree / "img_align_celeba").rename(tree / "img_celeba")
    refused(tree, "list_landmarks_celeba.txt")
    (tree / "img_celeba" / NAMES[0]).unlink()
    for name in NAMES[1:]:
        (tree / "img_celeba" / name).unlink()
    refused(tree, "no images of CelebA")


def test_aligned_images_of_another_shape_need_landmarks(tree):
    for name in NAMES:
        picture(218, 178).save(tree / "img_align_celeba" / name)
    refused(tree, "218 x 178", "list_landmarks_align_celeba.txt")


def test_faulty_zips_are_named(tree):
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    shutil.rmtree(tree / "img_align_celeba")
    good = zipped.read_bytes()
    where = good.index(NAMES[1].encode()) + 2000  # in the middle of the second image
    zipped.write_bytes(good[:where] + b"\0" * 50 + good[where + 50 :])
    refused(tree, f"{zipped}: img_align_celeba/{NAMES[1]}", "CRC")
    zipped.write_bytes(good[: len(good) // 2])
    refused(tree, str(zipped), "cut short")


# ---------------------------------------------------------------------------------------- checking, cropping


def test_check_says_what_is_there_and_what_is_not(tree):
    lines = "\n".join(celeba.check(tree))
    for part in ("4 images in img_align_celeba of 3 people", "3 attributes: Male", "2 train, 1 valid, 1 test",
                 "list_landmarks_align_celeba.txt is missing"):  # fmt: skip
        assert part in lines
    for i in (1, 3):
        (tree / "img_align_celeba" / NAMES[i]).write_bytes(b"hello")
    with pytest.raises(GlowkitError, match=f"2 of 4 images .*{NAMES[1]}"):
        celeba.check(tree)


def test_crop_tree_writes_an_official_tree(tree, tmp_path):
    rows = [[69 + i, 111, 107 + i, 113 + i, 88, 140, 70, 155, 105, 156] for i in range(4)]
    write_landmarks(tree / "list_landmarks_align_celeba.txt", rows)
    out = tmp_path / "crops"
    assert celeba.crop_tree(tree, out, 96) == 4
    assert sorted(p.name for p in out.iterdir()) == [
        "identity_CelebA.txt", "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt",
        "list_landmarks_align_celeba.txt",
    ]  # fmt: skip
    # The lists, read by hand.
    lines = (out / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[:3] == ["4", "Male Smiling Young", "000001.jpg  1 -1  1"]
    assert (out / "list_eval_partition.txt").read_text().split()[-2:] == ["000009.jpg", "2"]
    lines = (out / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert lines[1] == LANDMARK_HEAD
    assert [int(v) for v in lines[2].split()[1:5]] == [round(v) for v in (35.116, 45.58, 59.884, 45.58)]
    # The images: those of the source, cropped; and a data set as they are.
    source, written = celeba.read(tree), celeba.read(out)
    for i in range(4):
        error = source.crop(i, 96).float() - written.crop(i, 96).float()
        assert written.files[i].image().size == (96, 96)
        assert error.abs().mean() < 2 and error.abs().max() < 16  # JPEG's loss


def test_crop_tree_leaves_nothing_half_written(tree, tmp_path):
    out = tmp_path / "deep" / "crops"
    (tree / "img_align_celeba" / NAMES[2]).write_bytes(b"hello")
    with pytest.raises(GlowkitError, match=NAMES[2]):
        celeba.crop_tree(tree, out, 64)
    assert not [p for p in tmp_path.rglob("*") if "crops" in p.name]
    picture().save(tree / "img_align_celeba" / NAMES[2])
    celeba.crop_tree(tree, out, 64)
    with pytest.raises(GlowkitError, match="exists already"):
        celeba.crop_tree(tree, out, 64)
    with pytest.raises(GlowkitError, match="size 0"):
        celeba.crop_tree(tree, tmp_path / "other", 0)


# --------------------------------------------------------------------------------- procedural and real trees


@pytest.fixture(scope="module")
def procedural(tmp_path_factory) -> Path:
    return faces.write_tree(tmp_path_factory.mktemp("faces") / "tree", 6, size=64, seed=3)


@pytest.mark.parametrize("kind", ["img_celeba", "img_align_celeba"])
def test_a_procedural_tree_crops_to_the_faces_it_was_made_of(procedural, kind):
    t = celeba.read(procedural, kind)
    drawn = faces.factors(np.arange(6), seed=3)
    assert (t.labels == drawn.attributes).all() and t.attributes == list(faces.ATTRIBUTES)
    rendered = faces.render(drawn, 64).float()
    cropped = torch.stack([t.crop(i, 64) for i in range(6)]).float()
    near = (cropped - rendered).abs().mean((1, 2, 3))
    far = (cropped - rendered.roll(1, 0)).abs().mean((1, 2, 3))
    # Not pixel for pixel: the landmark files hold whole pixels and the images are JPEGs.
    assert (near < 6).all() and (near < far / 4).all(), (near, far)
    # Every landmark lands where the renderer has it; whole source pixels are the error.
    apart = np.linalg.norm(t.eyes[:, 1] - t.eyes[:, 0], axis=1)
    error = np.abs(t.cropped_landmarks(64) - drawn.landmarks(64)).max((1, 2))
    assert (error < 2 * 0.258 * 64 / apart).all()


REAL = os.environ.get("GLOWKIT_CELEBA")


@pytest.mark.skipif(not REAL, reason="GLOWKIT_CELEBA names no real CelebA")
def test_real_celeba_reads_and_crops():
    t = celeba.read(REAL)
    assert len(t.attributes) == 40 and len(t) > 1000
    share = dict(zip(t.attributes, t.labels.mean(0), strict=True))
    # Any subset will be near the shares of the whole (Liu et al., 2015): .482, .417, .042.
    assert 0.4 < share["Smiling"] < 0.6 and 0.35 < share["Male"] < 0.5 and 0.02 < share["Mustache"] < 0.07
    x = torch.stack([t.crop(i, 64) for i in range(0, len(t), len(t) // 200)])
    # Eyes are darker than the bridge of the nose between them and the cheeks below: they are where they
    # should be.
    mean = x.float().mean((0, 1))
    row, left, right = 30, 23, 40
    eyes = (
        mean[row - 1 : row + 2, left - 1 : left + 2].mean()
        + mean[row - 1 : row + 2, right - 1 : right + 2].mean()
    ) / 2
    assert (
        eyes < mean[row - 1 : row + 2, 31:34].mean() - 10
        and eyes < mean[row + 8 : row + 11, left - 1 : left + 2].mean() - 10
    )


def test_writes_and_reads_back_any_image_format(tree, tmp_path):
    """The suffix of an image's name decides its format."""
    data = io.BytesIO()
    picture().save(data, "PNG")
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"):
        (tree / name).write_text((tree / name).read_text().replace(".jpg", ".png"))
    for name in NAMES:
        (tree / "img_align_celeba" / name.replace("jpg", "png")).write_bytes(data.getvalue())
    celeba.crop_tree(tree, tmp_path / "crops", 64)
    assert (tmp_path / "crops/img_align_celeba/000001.png").read_bytes().startswith(b"\x89PNG")
    assert torch.equal(celeba.read(tree).crop(0, 64), celeba.read(tmp_path / "crops").crop(0, 64))
