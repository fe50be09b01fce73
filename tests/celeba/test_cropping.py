"""Cropping a tree: what is written, what survives an interruption, and what the report says."""

import csv
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from celeba_trees import LANDMARK_HEAD, NAMES, as_zip, edit_line, picture, write_landmarks, write_tree
from PIL import Image

import glowkit
from glowkit import celeba
from glowkit.celeba import cropping
from glowkit.celeba.cropping import crop_tree
from glowkit.errors import GlowkitError
from glowkit.files import alone_in

ROWS = [[69 + i, 111, 107 + i, 113 + i, 88, 140, 70, 155, 105, 156] for i in range(4)]


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_tree(tmp_path / "tree")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_crops_that_another_process_made_meanwhile_are_kept(tree, tmp_path, monkeypatch):
    out = tmp_path / "crops"

    def after_another(part):
        monkeypatch.setattr(cropping, "alone_in", alone_in)
        crop_tree(tree, out, 32)
        return alone_in(part)

    monkeypatch.setattr(cropping, "alone_in", after_another)
    with pytest.raises(GlowkitError, match="crops: exists already; name a new folder"):
        crop_tree(tree, out, 32)
    assert len(celeba.read(out)) == 4 and not (tmp_path / "crops.part").exists()


def test_a_zip_with_a_damaged_directory_loses_nothing(tree, tmp_path):
    """The comment of its first file seems to be as long as what the directory has of the others."""
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    shutil.rmtree(tree / "img_align_celeba")
    data = bytearray(zipped.read_bytes())
    data[data.index(b"PK\1\2") + 33] = 1
    zipped.write_bytes(data)
    with pytest.raises(GlowkitError, match="is cut short: 4 whole files, then its directory, which is cut or damaged"):
        crop_tree(tree, tmp_path / "crops", 32)
    assert crop_tree(tree, tmp_path / "crops", 32, skip_faulty=True) == {"crops": 4}
    for file in tree.glob("*.txt"):  # then nobody knows whether these were all
        file.unlink()
    assert crop_tree(tree, tmp_path / "more", 32, skip_faulty=True) == {"crops": 4, "left out": 1}


@pytest.mark.parametrize("number", [3, 6, 8])
@pytest.mark.parametrize("stored", [True, False])
def test_landmarks_of_pixels_as_they_are_stored_turn_with_the_picture(tree, tmp_path, number, stored):
    """One photograph is turned in its file, and back by EXIF: the same crops and landmarks as of all upright ones,
    whether its landmarks are those of the file's pixels or of the picture as it is shown."""
    (tree / "img_celeba").mkdir()
    names, corners = [f"{name[:-4]}.png" for name in NAMES], ((60, 70), (50, 80), (150, 90), (90, 130))
    rows = [[x, y + 1, x + 50, y, x + 26, y + 30, x, y + 61, x + 48, y + 60] for x, y in corners]
    for file in tree.glob("*.txt"):
        file.write_text(file.read_text().replace(".jpg", ".png"))
    photographs = [picture(260, 220, seed=i) for i in range(4)]

    def cropped(out):
        lines = [f"{n} " + " ".join(map(str, row)) for n, row in zip(names, rows, strict=True)]
        (tree / "list_landmarks_celeba.txt").write_text("\n".join(["4", LANDMARK_HEAD, *lines]) + "\n")
        found = crop_tree(tree, tmp_path / out, 64)
        return found, celeba.read(tmp_path / out)

    for name, photograph in zip(names, photographs, strict=True):
        photograph.save(tree / "img_celeba" / name)
    found, right = cropped("right")
    assert set(found) == {"crops"}
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[number]
    exif = Image.Exif()
    exif[0x0112] = number
    photographs[2].transpose(back).save(tree / "img_celeba" / names[2], exif=exif)
    if stored:
        for k in range(0, 10, 2):
            spot = Image.new("L", (260, 220))
            spot.putpixel((rows[2][k], rows[2][k + 1]), 255)
            rows[2][k : k + 2] = np.argwhere(np.asarray(spot.transpose(back)))[0][::-1]
    found, again = cropped("again")
    assert found == {"crops": 4, "turned": 1} | ({"landmarks turned": 1} if stored else {})
    for i in range(4):
        assert np.array_equal(again.files[i].image(), right.files[i].image())
    assert (again.landmarks == right.landmarks).all()
    rows[2][1] = -30  # outside, either way
    found, _ = cropped("askew")
    assert found["landmarks askew"] == 1
    assert f"{names[2]},landmarks askew,no upright face" in (tmp_path / "askew" / cropping.REPORT).read_text()


def test_writes_an_official_tree(tree, tmp_path):
    write_landmarks(tree / "list_landmarks_align_celeba.txt", ROWS)
    out = tmp_path / "crops"
    assert crop_tree(tree, out, 96)["crops"] == 4
    assert sorted(p.name for p in out.iterdir()) == [
        "crop.txt", "crop_report.csv", "identity_CelebA.txt", "img_align_celeba", "list_attr_celeba.txt",
        "list_eval_partition.txt", "list_landmarks_align_celeba.txt",
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


def test_packed_is_mapped_and_the_same(tree, tmp_path):
    write_landmarks(tree / "list_landmarks_align_celeba.txt", ROWS)
    assert crop_tree(tree, tmp_path / "crops", 48, packed=True)["crops"] == 4
    pixels = np.load(tmp_path / "crops" / "img_align_celeba.npy", mmap_mode="r")
    source, data = celeba.read(tree), glowkit.open_dataset(tmp_path / "crops", 48)
    assert pixels.shape == (4, 3, 48, 48) and data.labels.tolist() == source.labels.tolist()
    for i in (3, 0):
        assert torch.equal(data.images([i])[0], source.crop(i, 48))
        assert (pixels[i] == source.crop(i, 48).numpy()).all()
    assert isinstance(celeba.read(tmp_path / "crops").packed(48)[0], np.memmap)
    # At another size it is cropped again.
    small = glowkit.open_dataset(tmp_path / "crops", 24).images([1])[0].float()
    assert (small - source.crop(1, 24).float()).abs().mean() < 4
    # The lists may name some of the images only.
    edit_line(tmp_path / "crops" / "list_attr_celeba.txt", 4, None)
    edit_line(tmp_path / "crops" / "list_attr_celeba.txt", 1, "3")
    data = glowkit.open_dataset(tmp_path / "crops", 48)
    assert torch.equal(data.images([1, 2]), torch.stack([source.crop(i, 48) for i in (2, 3)]))
    with (tmp_path / "crops" / "img_align_celeba.txt").open("a") as file:
        file.write("more.jpg\n")
    with pytest.raises(GlowkitError, match=r"img_align_celeba.txt: 5 names of 4 images"):
        celeba.read(tmp_path / "crops")


@pytest.mark.parametrize("packed", [False, True])
def test_a_faulty_image_in_a_zip_keeps_the_others_and_can_be_repaired(tree, tmp_path, packed):
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    crop_tree(zipped, tmp_path / "right", 32, packed=packed)
    good = zipped.read_bytes()
    where = good.index(NAMES[1].encode()) + 2000  # in the middle of the second image
    shutil.rmtree(tree / "img_align_celeba")
    zipped.write_bytes(good[:where] + b"\0" * 50 + good[where + 50 :])
    out, part = tmp_path / "crops", tmp_path / "crops.part"
    for _ in range(2):  # and again in vain
        with pytest.raises(GlowkitError) as caught:
            crop_tree(tree, out, 32, packed=packed)
        for words in (f"{zipped}: img_align_celeba/{NAMES[1]}", "1 of 4", f"3 crops are kept in {part}", "--skip"):
            assert words in one_line(caught)
        assert not out.exists() and not list(part.glob("list_*"))
    zipped.write_bytes(good)
    assert crop_tree(tree, out, 32, packed=packed)["crops"] == 4 and not part.exists()
    data, right = (glowkit.open_dataset(tmp_path / name, 32) for name in ("crops", "right"))
    assert torch.equal(data.images(range(4)), right.images(range(4)))
    if not packed:
        assert contents(out) == contents(tmp_path / "right")


@pytest.mark.parametrize("packed", [False, True])
def test_a_zip_cut_short_keeps_what_is_before_the_cut(tree, tmp_path, packed, monkeypatch):
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    shutil.rmtree(tree / "img_align_celeba")
    crop_tree(tree, tmp_path / "right", 32, packed=packed)
    good = zipped.read_bytes()
    zipped.write_bytes(good[: len(good) * 2 // 3])
    out = tmp_path / "crops"
    with pytest.raises(GlowkitError) as caught:
        crop_tree(tree, out, 32, packed=packed)
    for words in (
        f"{zipped} is cut short: 2 whole files, then img_align_celeba/{NAMES[2]}, which is cut",
        f"; 2 images listed in list_attr_celeba.txt but absent, the first: {NAMES[2]}; the other 2 crops are kept",
    ):
        assert words in one_line(caught)
    assert crop_tree(tree, tmp_path / "two", 32, packed=packed, skip_faulty=True) == {"crops": 2, "left out": 2}
    assert celeba.read(tmp_path / "two").names == NAMES[:2]
    report = (tmp_path / "two" / "crop_report.csv").read_text()
    assert f'{NAMES[3]},left out,"{zipped} is cut short' in report
    zipped.write_bytes(good)
    make, made = cropping._make, []
    monkeypatch.setattr(cropping, "_make", lambda job: made.append(job.name) or make(job))
    assert crop_tree(tree, out, 32, packed=packed)["crops"] == 4 and made == NAMES[2:]
    assert contents(out) == contents(tmp_path / "right")


def test_faulty_images_can_be_left_out(tree, tmp_path):
    picture(100, 218).save(tree / "img_align_celeba" / NAMES[1])
    (tree / "img_align_celeba" / NAMES[2]).write_bytes(b"hello")
    found = crop_tree(tree, tmp_path / "crops", 32, skip_faulty=True, packed=True)
    assert found == {"crops": 2, "left out": 2}
    rows = list(csv.reader((tmp_path / "crops" / "crop_report.csv").open()))
    assert [row[:2] for row in rows] == [["image", "problem"], [NAMES[1], "left out"], [NAMES[2], "left out"]]
    assert "100 x 218 pixels among" in rows[1][2] and "not an image (5 bytes)" in rows[2][2]
    t = celeba.read(tmp_path / "crops")
    assert t.names == [NAMES[0], NAMES[3]] and t.identities.tolist() == [7, 9]
    for name in NAMES:
        (tree / "img_align_celeba" / name).write_bytes(b"hello")
    with pytest.raises(GlowkitError, match="not an image"):
        crop_tree(tree, tmp_path / "none", 32, skip_faulty=True)


def test_images_without_a_line_are_reported(tree, tmp_path):
    edit_line(tree / "identity_CelebA.txt", 2, None)
    picture().save(tree / "img_align_celeba" / "000011.jpg")
    assert crop_tree(tree, tmp_path / "crops", 32) == {"crops": 3, "left out": 2}
    assert (tmp_path / "crops" / "crop_report.csv").read_text().splitlines()[1:] == [
        f"{NAMES[1]},left out,without a line in identity_CelebA.txt",
        "000011.jpg,left out,without a line in list_attr_celeba.txt",
    ]


def test_a_wrong_line_is_told_before_any_work(tree, tmp_path):
    write_landmarks(tree / "list_landmarks_align_celeba.txt", [*ROWS[:3], ROWS[3][:4]])
    with pytest.raises(GlowkitError, match="list_landmarks_align_celeba.txt line 6: 4 values, not 10"):
        crop_tree(tree, tmp_path / "crops", 32)
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]
    write_landmarks(tree / "list_landmarks_align_celeba.txt", ROWS)
    assert crop_tree(tree, tmp_path / "crops", 32)["crops"] == 4


def test_a_full_disk_keeps_what_was_made(tree, tmp_path, monkeypatch):
    crop_tree(tree, tmp_path / "right", 32)
    add, left = cropping._Folder.add, [2]

    def full(self, name: str, data: bytes) -> None:
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        add(self, name, data)

    monkeypatch.setattr(cropping._Folder, "add", full)
    with pytest.raises(GlowkitError) as caught:
        crop_tree(tree, tmp_path / "crops", 32)
    assert one_line(caught).startswith(f"{tmp_path / 'crops.part'}: No space left on device")
    assert len(list((tmp_path / "crops.part" / "img_align_celeba").iterdir())) == 2
    with pytest.raises(GlowkitError, match="crops.part: No space left on device"):
        crop_tree(tree, tmp_path / "crops", 32)  # and again in vain
    left[0] = 2  # enough for the other two, if the first two are not made again
    crop_tree(tree, tmp_path / "crops", 32)
    assert contents(tmp_path / "crops") == contents(tmp_path / "right")


def test_an_array_larger_than_it_may_be_keeps_whole_images(tree, tmp_path):
    """The system itself refuses to write on, in the middle of the third image."""
    crop_tree(tree, tmp_path / "right", 32, packed=True)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 2 * 3 * 32 * 32 + 1000, hard))
    try:
        with pytest.raises(GlowkitError, match="File too large; the crops made so far are kept"):
            crop_tree(tree, tmp_path / "crops", 32, packed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / "crops.part" / "img_align_celeba.txt").read_text().split() == NAMES[:2]
    crop_tree(tree, tmp_path / "crops", 32, packed=True)
    assert contents(tmp_path / "crops") == contents(tmp_path / "right")


def test_killed_it_goes_on_and_processes_make_no_difference(tree, tmp_path):
    """300 images: enough for two processes where there are two cores."""
    names = [f"{i:06d}.jpg" for i in range(300)]
    for i, name in enumerate(names):
        shutil.copy(tree / "img_align_celeba" / NAMES[i % 4], tree / "img_align_celeba" / name)
    celeba.write_annotations(tree, names, ["Male"], np.ones((300, 1), bool), identities=range(300), splits=[0] * 300)
    command = [sys.executable, "-m", "glowkit", "crop", str(tree), str(tmp_path / "crops"), "--size", "200", "--packed"]
    environment = {**os.environ, "PYTHONPATH": str(Path(glowkit.__file__).parents[1])}
    made = tmp_path / "crops.part" / "img_align_celeba.txt"

    def count() -> int:
        return len(made.read_text().splitlines()) if made.exists() else 0

    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and count() < 40:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.stderr.close()
    assert 40 <= count() < 300 and not list(made.parent.glob("list_*"))
    kept = made.read_text().splitlines()[:40]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (tmp_path / "crops" / made.name).read_text().splitlines()[:40] == kept
    t, source = celeba.read(tmp_path / "crops"), celeba.read(tree)
    assert t.names == names and all(torch.equal(t.crop(i, 200), source.crop(i, 200)) for i in (0, 39, 40, 299))


@pytest.mark.parametrize("replaced, left", [(0, ".crop*"), (5, ".list*")])
def test_what_a_kill_left_goes_with_the_next_run(tree, tmp_path, replaced, left):
    """Killed when the settings, or the lists, were about to be put in their place."""
    script = (
        "import os, sys; from glowkit.celeba import cropping; replace, count = os.replace, iter(range(99));"
        "os.replace = lambda *a: replace(*a) if next(count) < int(sys.argv[3]) else os.kill(os.getpid(), 9);"
        "cropping.crop_tree(sys.argv[1], sys.argv[2], 32)"
    )
    command = [sys.executable, "-c", script, str(tree), str(tmp_path / "crops"), str(replaced)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((tmp_path / "crops.part").glob(left))
    crop_tree(tree, tmp_path / "crops", 32)
    crop_tree(tree, tmp_path / "right", 32)
    assert contents(tmp_path / "crops") == contents(tmp_path / "right")
    assert sorted(os.listdir(tmp_path)) == ["crops", "right", "tree"]


def test_what_stands_in_the_way_is_named(tree, tmp_path):
    out, part = tmp_path / "crops", tmp_path / "crops.part"
    (tree / "img_align_celeba" / NAMES[2]).write_bytes(b"hello")
    with pytest.raises(GlowkitError):
        crop_tree(tree, out, 32)
    with pytest.raises(GlowkitError, match="32 x 32 .* not 64 x 64 .*finish it so, or delete it"):
        crop_tree(tree, out, 64)
    with pytest.raises(GlowkitError, match="padding edge, files, not .*padding blur, packed"):
        crop_tree(tree, out, 32, padding="blur", packed=True)
    (part / "img_align_celeba" / "other.jpg").write_bytes(b"")
    with pytest.raises(GlowkitError, match="has other.jpg, which is not in"):
        crop_tree(tree, out, 32)
    shutil.rmtree(part)
    with pytest.raises(GlowkitError, match="not an image"):
        crop_tree(tree, out, 32, packed=True)
    (part / "img_align_celeba.txt").write_text(3 * f"{NAMES[0]}\n")
    with pytest.raises(GlowkitError, match="crops.part: has an image twice; delete the folder"):
        crop_tree(tree, out, 32, packed=True)
    shutil.rmtree(part)
    picture().save(tree / "img_align_celeba" / NAMES[2])
    crop_tree(tree, out, 32)
    with pytest.raises(GlowkitError, match="exists already"):
        crop_tree(tree, out, 32)
    with pytest.raises(GlowkitError, match="size 0"):
        crop_tree(tree, tmp_path / "other", 0)
    with pytest.raises(GlowkitError, match="padding 'none'"):
        crop_tree(tree, tmp_path / "other", 32, padding="none")
    part.mkdir()
    (part / "thesis.tex").write_text("")
    shutil.rmtree(out)
    with pytest.raises(GlowkitError, match="was begun with something else"):
        crop_tree(tree, out, 32)
    assert (part / "thesis.tex").exists()


def test_the_report_lists_doubtful_crops(tree, tmp_path):
    rows = [
        [60, 100, 130, 100, *ROWS[0][4:]],  # 70 pixels apart: detail for 256
        [60, 100, 100, 100, *ROWS[0][4:]],  # 40 pixels apart
        [-20, 100, 60, 100, *ROWS[0][4:]],  # an eye outside
        [60, 100, 110, 150, *ROWS[0][4:]],  # 45 degrees
    ]
    write_landmarks(tree / "list_landmarks_align_celeba.txt", rows)
    found = crop_tree(tree, tmp_path / "crops", 256)
    assert found == {"crops": 4, "face too small": 1, "eye outside": 1, "extreme roll": 1}
    lines = (tmp_path / "crops" / "crop_report.csv").read_text().splitlines()
    assert lines == [
        "image,problem,detail",
        f"{NAMES[1]},face too small,enlarged 1.65 times",
        f"{NAMES[2]},eye outside,eyes at (-20 100) and (60 100) of 178 x 218 pixels",
        f"{NAMES[3]},extreme roll,45 degrees",
    ]


def test_any_image_format(tree, tmp_path):
    """The suffix of an image's name decides its format."""
    data = io.BytesIO()
    picture().save(data, "PNG")
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"):
        (tree / name).write_text((tree / name).read_text().replace(".jpg", ".png"))
    for name in NAMES:
        (tree / "img_align_celeba" / name.replace("jpg", "png")).write_bytes(data.getvalue())
    crop_tree(tree, tmp_path / "crops", 64)
    assert (tmp_path / "crops/img_align_celeba/000001.png").read_bytes().startswith(b"\x89PNG")
    assert torch.equal(celeba.read(tree).crop(0, 64), celeba.read(tmp_path / "crops").crop(0, 64))


@pytest.mark.parametrize("name", ["crop.txt", "crop_report.csv", "img_align_celeba.txt"])
def test_bytes_that_are_no_text_in_a_begun_crop_are_told_or_left_out(tree, tmp_path, name):
    """What a damaged disk may put there: one line or the right crops, never a stack."""
    out, part = tmp_path / "crops", tmp_path / "crops.part"
    packed = name.startswith("img")
    crop_tree(tree, out, 32, packed=packed)
    right = contents(out)
    os.rename(out, part)
    with (part / name).open("ab") as file:
        file.write(b"\xff\xfe\x00\n")
    try:
        crop_tree(tree, out, 32, packed=packed)
    except GlowkitError as error:
        assert str(part) in str(error)
    else:
        assert contents(out) == right


def test_two_crops_of_one_name_do_not_meet(tree, tmp_path):
    with alone_in(tmp_path / "crops.part"):
        with pytest.raises(GlowkitError, match=f"crops.part: in use by process {os.getpid()} on "):
            crop_tree(tree, tmp_path / "crops", 32)
    crop_tree(tree, tmp_path / "crops", 32)
    assert not list((tmp_path / "crops").glob(".*"))


def test_ctrl_c_while_a_process_starts_waits_until_it_has(monkeypatch):
    before, seen = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        with cropping._uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            seen.append("started")
    assert seen == ["started"] and signal.getsignal(signal.SIGINT) is before
    with cropping._uninterrupted():
        pass
    assert signal.getsignal(signal.SIGINT) is before
