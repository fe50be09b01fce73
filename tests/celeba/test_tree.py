"""CelebA trees, in every layout that people have them in, against files read by hand."""

import io
import os
import shutil
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from celeba_trees import ATTRIBUTES, LABELS, NAMES, as_zip, edit_line, picture, write_landmarks, write_tree
from hypothesis import given
from hypothesis import strategies as st

from glowkit import celeba, dataset, faces
from glowkit.celeba import files
from glowkit.celeba.cropping import crop_tree
from glowkit.celeba.files import File, image_name
from glowkit.errors import GlowkitError


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_tree(tmp_path / "tree")


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


@pytest.mark.parametrize(
    "layout", ["zip inside", "flat zip", "zip itself", "all in one zip", "official", "nested", "kaggle"]
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
    elif layout in ("all in one zip", "kaggle"):
        if layout == "kaggle":
            to_csv(tree)
        path = tmp_path / "celeba.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in tree.rglob("*.*"):
                archive.write(file, "celeba/" + str(file.relative_to(tree)))
    else:
        zipped = as_zip(
            tree, tree / "img_align_celeba_178x218.zip", "" if layout == "flat zip" else "img_align_celeba/"
        )
        path = zipped if layout == "zip itself" else tree
    if layout not in ("nested", "all in one zip", "kaggle"):
        shutil.rmtree(tree / "img_align_celeba")
    after = celeba.read(path)
    assert after.names == before.names and (after.labels == before.labels).all()
    assert after.splits.tolist() == before.splits.tolist()
    assert torch.equal(torch.stack([after.crop(i, 32) for i in range(4)]), crops)


def test_a_part_of_the_images_with_the_full_lists(tree):
    (tree / "img_align_celeba" / NAMES[0]).unlink()
    picture().save(tree / "img_align_celeba" / "000011.jpg")
    t = celeba.read(tree)
    assert t.names == NAMES[1:] and (t.labels == LABELS[1:]).all() and t.identities.tolist() == [7, 8, 9]
    assert t.unused == {
        "listed in list_attr_celeba.txt but absent": NAMES[:1],
        "without a line in list_attr_celeba.txt": ["000011.jpg"],
    }


def test_what_is_not_used_is_told_in_a_line(tree, capsys):
    celeba.read(tree)
    assert capsys.readouterr().out == ""
    (tree / "img_align_celeba" / NAMES[0]).unlink()
    picture().save(tree / "img_align_celeba" / "000011.jpg")
    (tree / "img_align_celeba" / "000012.heic").write_bytes(b"")
    lost = "1 listed in list_attr_celeba.txt but absent (the first: 000001.jpg)"
    stray = "1 without a line in list_attr_celeba.txt (the first: 000011.jpg)"
    used = f"{tree}: 3 images are used (the first: 000002.jpg); not used: "
    dataset.open_dataset(tree)
    said = capsys.readouterr().out
    assert said.startswith(f"{used}{lost}; {stray}; {tree}") and "000012.heic" in said and said.count("\n") == 1
    (tree / "list_attr_celeba.txt").unlink()  # then the next list is to tell what should be there
    celeba.read(tree)
    lost = "1 listed in identity_CelebA.txt but absent (the first: 000001.jpg)"
    assert f"{used}{lost}; 1 without a line in identity_CelebA.txt" in capsys.readouterr().out


def test_an_image_needs_a_line_in_every_list(tree):
    edit_line(tree / "identity_CelebA.txt", 2, None)
    t = celeba.read(tree)
    assert t.names == [NAMES[i] for i in (0, 2, 3)] and t.splits.tolist() == [0, 1, 2]
    assert t.unused == {"without a line in identity_CelebA.txt": [NAMES[1]]}


def test_images_without_attributes(tree):
    (tree / "list_attr_celeba.txt").unlink()
    t = celeba.read(tree)
    assert t.names == NAMES and t.attributes == [] and t.labels.shape == (4, 0) and t.splits.tolist() == [0, 0, 1, 2]


def to_csv(tree: Path) -> None:
    """The lists as Kaggle has them, the images one folder deeper."""
    for file in tree.glob("*.txt"):
        lines = [line.split() for line in file.read_text().splitlines()]
        head = {"list_eval_partition": ["partition"], "identity_CelebA": ["identity"]}.get(file.stem) or lines[1]
        rows = lines[2:] if head == lines[1] else lines
        text = "\n".join(",".join(row) for row in [["image_id", *head], *rows])
        file.with_suffix(".csv").write_text(text + "\n")
        file.unlink()
    (tree / "img_align_celeba").rename(tree / "inner")
    (tree / "img_align_celeba").mkdir()
    (tree / "inner").rename(tree / "img_align_celeba" / "img_align_celeba")


def test_a_csv_list_without_columns_is_told(tree):
    (tree / "list_attr_celeba.txt").unlink()
    (tree / "list_attr_celeba.csv").write_text("image_id\n" + "".join(f"{name}\n" for name in NAMES))
    with pytest.raises(GlowkitError, match="list_attr_celeba.csv line 1: the header names no columns"):
        celeba.read(tree)


def test_csv_lists(tree):
    rows = [[69 + i, 111, 107 + i, 113 + i, 88, 140, 70, 155, 105, 156] for i in range(4)]
    write_landmarks(tree / "list_landmarks_align_celeba.txt", rows)
    before = celeba.read(tree)
    to_csv(tree)
    after = celeba.read(tree)
    assert after.names == before.names and after.attributes == before.attributes
    for array in ("labels", "eyes", "landmarks", "identities", "splits"):
        assert (getattr(after, array) == getattr(before, array)).all()
    good = (tree / "list_attr_celeba.csv").read_text()
    for number, text, parts in (
        (1, "image_id,Male,Smiling", ["line 1", "2 columns", "line 2 has 3"]),
        (3, "000002.jpg,1,-1", ["line 3", "2 values, not 3"]),
        (3, "000002.jpg,1,-1,0", ["line 3", "'1 -1 0'", "1 or -1"]),
    ):
        edit_line(tree / "list_attr_celeba.csv", number, text)
        refused(tree, str(tree / "list_attr_celeba.csv"), *parts)
        (tree / "list_attr_celeba.csv").write_text(good)
    edit_line(tree / "list_landmarks_align_celeba.csv", 3, "000002.jpg,69,111,107,113")
    refused(tree, str(tree / "list_landmarks_align_celeba.csv"), "line 3", "4 values, not 10")


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
    write_landmarks(tree / "list_landmarks_celeba.txt", [[100, 90, 160, 95, 130, 120, 110, 150, 155, 150]] * 4)
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
        ("list_attr_celeba.txt", 6, None, ["line 1", "'4'", "3 rows"]),
        ("list_eval_partition.txt", 2, "000002.jpg 3", ["line 2", "'3'", "2 (test)"]),
        ("list_eval_partition.txt", 2, "000002.jpg", ["line 2", "0 values, not 1"]),
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
        *(
            ("list_landmarks_align_celeba.txt", 4, f"000002.jpg {points} 1 1 1 1", ["line 4", "five points", "1,000,0"])
            for points in (
                "1e30 111 107 111 1 1",
                "69 111 107 -1e308 1 1",
                "69 111 69.0001 111 1 1",
                "69 111 107 111 5e5 1",
                "5e6 5e6 5.1e6 5e6 5e6 5e6",
            )
        ),
        ("identity_CelebA.txt", 3, f"000005.jpg {10**19}", ["line 3", "'10000000000000000000'", "64 bits"]),
        ("identity_CelebA.txt", 3, f"000005.jpg {-(2**63) - 1}", ["line 3", "64 bits"]),
        ("identity_CelebA.txt", 3, "../000005.gif 7", ["line 3", "'../000005.gif' is not the name of an image"]),
        ("list_attr_celeba.txt", 2, "Male Smi\x1b[2Jling Young", ["line 2", "'Smi\\x1b[2Jling'", "printable"]),
        ("list_attr_celeba.txt", 4, "x" * 70_000, ["line 4", "longer than the 65,536 characters"]),
        (
            "list_landmarks_align_celeba.txt",
            2,
            " ".join("abcdefghij"),
            ["line 2", "lefteye_x lefteye_y righteye_x"],
        ),
    ],
)
def test_wrong_lines_are_named(tree, name, line, text, parts):
    write_landmarks(tree / "list_landmarks_align_celeba.txt", [[69, 111, 107, 113, 88, 140, 70, 155, 105, 156]] * 4)
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
    picture().save(image)
    text = attributes.read_bytes()
    attributes.write_bytes(b"\xff\xfe" + text)
    refused(tree, str(attributes), "not a text file")
    attributes.write_text("4\n")
    refused(tree, str(attributes), "1 lines")
    attributes.write_bytes(text.replace(b"0000", b"1000"))
    refused(tree, "none of the 4 images in img_align_celeba (the first: 000001.jpg)", str(attributes))
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no images of CelebA", "img_align_celeba")
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", "not a zip")


PARTS = ["/", "\\", "..", ".", ":", "C", "a", "1", " ", "\0", "\n", "\x85", "nul", "é", "\udc80"]


@given(st.lists(st.sampled_from(PARTS)), st.sampled_from([".jpg", ".JPEG", ".png", ".txt", "", "/"]))
def test_a_name_is_that_of_a_file_in_a_folder_on_any_system(parts, suffix):
    """What is one name to a system may be a path to another."""
    name = "".join(parts) + suffix
    try:
        image_name(name, "list")
    except GlowkitError as error:
        assert str(error).startswith("list: ") and str(error).isprintable() and str(error).isascii()
        return
    for system in (PurePosixPath, PureWindowsPath):
        path = system("folder") / name
        assert path.name == name and path.parent == system("folder") and not system(name).is_reserved()
    assert name.lower().endswith((".jpg", ".jpeg", ".png")) and name.isprintable() and not name.startswith(".")


@pytest.mark.parametrize("name", ["000001.jpg", "1.PNG", "my face (2).webp", "Zoë.jpeg", "a..bmp", "console.jpg"])
def test_names_that_are_plain(name):
    assert image_name(name, "") == name


@pytest.mark.parametrize("evil", ["../../evil.jpg", "{}/evil.jpg", "..\\evil.jpg", "C:evil.jpg", ".evil.jpg", "evil"])
def test_a_packed_tree_cannot_name_files_elsewhere(tree, tmp_path, evil):
    crop_tree(tree, tmp_path / "a" / "packed", 32, packed=True)
    for file in (tmp_path / "a" / "packed").glob("[!ic]*.txt"):
        file.unlink()
    (tmp_path / "a" / "packed" / "identity_CelebA.txt").unlink()
    names = [NAMES[0], evil.format(tmp_path), *NAMES[2:]]
    (tmp_path / "a" / "packed" / "img_align_celeba.txt").write_text("\n".join(names) + "\n")
    with pytest.raises(GlowkitError, match="img_align_celeba.txt line 2: .* is not the plain name of an image"):
        crop_tree(tmp_path / "a" / "packed", tmp_path / "a" / "out", 32)
    assert not list(tmp_path.rglob("*evil*")) and sorted(os.listdir(tmp_path / "a")) == ["packed"]


def test_names_that_are_there_twice_are_refused(tree, tmp_path):
    """In silence, all but one of them would be gone."""
    crop_tree(tree, tmp_path / "packed", 32, packed=True)
    (tmp_path / "packed" / "img_align_celeba.txt").write_text("\n".join([NAMES[0]] * 4))
    refused(tmp_path / "packed", "img_align_celeba.txt line 2: 000001.jpg is the name in line 1 already")
    zipped = as_zip(tree, tmp_path / "twice.zip")
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.write(tree / "img_align_celeba" / NAMES[1], f"other/img_align_celeba/{NAMES[0]}")
    refused(zipped, f"{zipped}: other/img_align_celeba/{NAMES[0]}", f"{zipped}: img_align_celeba/{NAMES[0]}")
    (tree / "img_align_celeba" / "more").mkdir()
    shutil.copy(tree / "img_align_celeba" / NAMES[1], tree / "img_align_celeba" / "more" / NAMES[2])
    places = [str(tree / "img_align_celeba" / where) for where in (f"more/{NAMES[2]}", NAMES[2])]
    refused(tree, *places, "names must differ")
    (tree / "img_align_celeba" / "more" / NAMES[2]).rename(tree / "img_align_celeba" / "more" / "000011.jpg")
    as_zip(tree, tree / "img_align_celeba.zip")  # what was unpacked lies beside its zip: the same images
    assert celeba.read(tree).names == NAMES


def test_only_pictures_of_formats_that_are_meant_are_opened(tree):
    """Pillow hands an EPS to Ghostscript, whatever its name."""
    image = tree / "img_align_celeba" / NAMES[2]
    image.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 178 218\n%%EndComments\nshowpage\n%%EOF\n")
    refused(tree, f"{image}: not an image (80 bytes) in a format that is read: JPEG, PNG, WebP, BMP")
    for unmeant in ("GIF", "TIFF", "PPM", "PCX", "TGA", "ICO", "PDF"):
        picture().save(image, unmeant)
        refused(tree, f"{image}: not an image (", "in a format that is read: JPEG, PNG, WebP, BMP")
    for meant in ("JPEG", "PNG", "WebP", "BMP"):
        picture().save(image, meant)
        assert celeba.read(tree).crop(2, 32).shape == (3, 32, 32)


def test_pictures_too_large_for_memory_are_told_as_such(tree):
    image = tree / "img_align_celeba" / NAMES[2]
    sizes = (20_000, 20_000, "PNG"), (12_000, 9_000, "PNG"), (65_000, 60_000, "JPEG"), (9_000, 8_000, "JPEG")
    for width, height, format in sizes:
        data = io.BytesIO()
        picture(8, 8).save(data, format)
        changed = bytearray(data.getvalue())
        if format == "PNG":
            changed[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
            changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
        else:
            frame = changed.index(b"\xff\xc0") + 5
            changed[frame : frame + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        image.write_bytes(changed)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            size = f"{width * height:,} pixels" if width > 9_000 else "9000 x 8000 pixels"
            refused(tree, f"{image}: too large to be read: {size}, of at most 67,108,864")
        assert not seen


def test_files_too_long_for_memory_are_not_read(tree, monkeypatch):
    image, attributes = tree / "img_align_celeba" / NAMES[2], tree / "list_attr_celeba.txt"
    os.truncate(image, 2**26 + 1)  # they take no room on the disk
    refused(tree, f"{image}: cannot be read (longer than the 67,108,864 bytes that are read)")
    picture().save(image)
    text = attributes.read_text()
    os.truncate(attributes, 2**26 + 1)
    refused(tree, f"{attributes}: cannot be read (longer than the 67,108,864 bytes that are read)")
    attributes.write_text(text + 1_000_000 * "\n" + "1\n")
    refused(tree, f"{attributes}: more than the 1,000,000 lines that are read")
    attributes.write_text(text)
    with zipfile.ZipFile(as_zip(tree, tree / "celeba.zip"), "a") as archive:
        archive.write(attributes, "list_attr_celeba.txt")
    monkeypatch.setattr(files, "MAX_FILE", 100)
    refused(tree / "celeba.zip", f"{tree / 'celeba.zip'}: list_attr_celeba.txt: cannot be read (longer than the 100 b")


def test_what_is_no_file_is_not_waited_for(tree):
    """A pipe that nobody writes to never ends."""
    os.mkfifo(tree / "celeba.zip")
    image = tree / "img_align_celeba" / NAMES[2]
    image.unlink()
    os.mkfifo(image)
    refused(tree, f"{image}: cannot be read (not a file)")
    with pytest.raises(GlowkitError, match="cannot be read .*No such file"):
        File(str(tree / "nowhere.jpg")).image()


def header(text: str, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 * version, "little") + text.encode()


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}"


@pytest.mark.parametrize(
    "head, words",
    [
        (header(HEADER.format("|u1", "4, 3, 32, 32").ljust(117) + "\n"), None),
        (header(HEADER.format("|u1", "4, 3, 32, 32") + "\n"), None),
        (header(HEADER.format("|u1", "999999999, 3, 32, 32") + "\n"), "cut short: 12,"),
        (header(HEADER.format("|u1", f"{10**30}, 3, 32, 32") + "\n"), "no array of uint8 (N, 3, S, S)"),
        (header(HEADER.format("|u1", f"{2**62}, 3, {2**31}, {2**31}") + "\n"), "no array of"),
        (header(HEADER.format("|u1", "-4, 3, 32, 32") + "\n"), "no array of"),
        (header(HEADER.format("|u1", "0, 3, 32, 32") + "\n"), "no array of"),
        (header(HEADER.format("|u1", "4, 3, 32, 16") + "\n"), "no array of"),
        (header(HEADER.format("<f4", "1, 3, 32, 32") + "\n"), "no array of"),
        (header(HEADER.format("|O", "4, 3, 32, 32") + "\n"), "no array of"),
        (header("{'descr': '|u1', '''\n"), "no array of"),
        (header("(" * 5000), "no array of"),
        (header("-" * 9000 + "1\n"), "no array of"),
        (header(" " * 10, 2)[:8] + b"\xff" * 4, "no array of"),
        (b"", "no array of"),
    ],
)
def test_the_header_of_an_array_is_not_believed(tree, tmp_path, head, words):
    crop_tree(tree, tmp_path / "packed", 32, packed=True)
    path = tmp_path / "packed" / "img_align_celeba.npy"
    pixels = np.load(path)
    path.write_bytes(head + pixels.tobytes())
    if words:
        refused(tmp_path / "packed", str(path), words)
    else:
        assert (np.asarray(files.map_pixels(path)) == pixels).all()


def test_a_name_of_many_lines_is_told_in_one(tree):
    name = "img_align_celeba/a\nb\x1b[2Jc.jpg"
    with zipfile.ZipFile(tree / "celeba.zip", "w") as archive:
        archive.writestr(name, b"data")
    refused(tree, "celeba.zip: img_align_celeba/a b\\x1b[2Jc.jpg: 'a\\nb\\x1b[2Jc.jpg' is not the plain name")
    os.truncate(tree / "celeba.zip", 61)
    shutil.rmtree(tree / "img_align_celeba")  # or the zip would not be needed
    refused(tree, "celeba.zip: not a zip, or cut short (no whole file, but img_align_celeba/a b\\x1b[2Jc.jpg, which is")


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
    refused(tree, f"{zipped} is cut short", "2 whole files, then img_align_celeba/000005.jpg, which is cut", "--skip")
    assert celeba.read(tree, allow_cut=True).names == NAMES[:2]
    zipped.write_bytes(good[:1000])
    refused(tree, str(zipped), "not a zip, or cut short (no whole file, but img_align_celeba/000001.jpg, which is cut)")


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
    error = np.abs(t.cropped_landmarks(64) - faces.landmarks(drawn, 64)).max((1, 2))
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
        mean[row - 1 : row + 2, left - 1 : left + 2].mean() + mean[row - 1 : row + 2, right - 1 : right + 2].mean()
    ) / 2
    assert (
        eyes < mean[row - 1 : row + 2, 31:34].mean() - 10
        and eyes < mean[row + 8 : row + 11, left - 1 : left + 2].mean() - 10
    )
