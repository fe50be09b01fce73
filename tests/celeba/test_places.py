"""The places that people have CelebA in: the same tree from each of them, or a line that says what is there."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from celeba_trees import ATTRIBUTES, LABELS, NAMES, as_zip, picture, write_tree

from glowkit import celeba
from glowkit.celeba.check import check
from glowkit.errors import GlowkitError


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_tree(tmp_path / "data" / "celeba")


def pack(tree: Path, path: Path, rename=lambda name: name) -> Path:
    """A zip of everything in the tree, which is removed."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(filter(Path.is_file, tree.rglob("*"))):
            archive.writestr(rename(f"celeba/{file.relative_to(tree)}"), file.read_bytes())
    shutil.rmtree(tree)
    return path


def images(tree: Path) -> Path:
    return tree / "img_align_celeba"


def move(tree: Path, **places: str) -> Path:
    """Each list, by the beginning of its name, to another place; the images by `img`."""
    for file in list(tree.iterdir()):
        place = tree / next((place for start, place in places.items() if file.name.startswith(start)), "")
        place.mkdir(exist_ok=True, parents=True)
        file.rename(place / file.name)
    return tree


def nested(tree: Path) -> Path:
    (images(tree)).rename(tree / "inner")
    images(tree).mkdir()
    (tree / "inner").rename(images(tree) / "img_align_celeba")
    return images(tree)


def renamed(tree: Path, name: str) -> Path:
    images(tree).rename(tree / name)
    return tree


def unpacked_lists(tree: Path) -> Path:
    """As Windows unpacks lists that are zipped one by one."""
    for file in tree.glob("*.txt"):
        text = file.read_bytes()
        file.unlink()
        file.mkdir()
        (file / file.name).write_bytes(text)
    return tree


def zipped_lists(tree: Path) -> Path:
    for file in tree.glob("*.txt"):
        with zipfile.ZipFile(f"{file}.zip", "w") as archive:
            archive.write(file, file.name)
        file.unlink()
    return tree


def broken_zip(tree: Path) -> Path:
    (tree / "img_align_celeba.zip").write_bytes(b"<!DOCTYPE html><html>Quota exceeded</html>")
    return tree


def resource_forks(tree: Path) -> Path:
    for file in list(tree.rglob("*.*")):
        fork = tree / "__MACOSX" / file.relative_to(tree).with_name("._" + file.name)
        fork.parent.mkdir(parents=True, exist_ok=True)
        fork.write_bytes(b"\0\5\26\7")
    shutil.copy(tree / "list_attr_celeba.txt", tree / "__MACOSX" / "list_attr_celeba.txt")
    return pack(tree, tree.parent / "celeba.zip", lambda name: name.replace("celeba/__MACOSX", "__MACOSX/celeba"))


LAYOUTS = {
    "the root that torchvision is given": lambda tree: tree.parent,
    "two above": lambda tree: tree.parent.parent,
    "lists above": lambda tree: move(tree, img="data"),
    "the images' folder": images,
    "the images' folder, nested": nested,
    "the inner of two folders": lambda tree: nested(tree) / "img_align_celeba",
    "the folder Img": lambda tree: move(tree, img="Img", list_attr="Anno", list_eval="Eval", identity="Anno") / "Img",
    "in the folder Img": lambda tree: move(tree, img="Img", list_="Anno", identity="Anno") / "Img" / "img_align_celeba",
    "small letters": lambda tree: move(tree, img="img", list_="anno", identity="anno"),
    "the archive of PNGs": lambda tree: renamed(tree, "img_align_celeba_png"),
    "capitals": lambda tree: renamed(tree, "IMG_ALIGN_CELEBA"),
    "a zip made by Windows": lambda tree: pack(tree, tree.parent / "a.zip", lambda name: name.replace("/", "\\")),
    "a folder more in a zip": lambda tree: pack(tree, tree.parent / "a.zip", lambda name: f"a/b/{name}"),
    "a zip of macOS": resource_forks,
    "Kaggle's zip in a folder": lambda tree: pack(tree, tree.parent / "archive.zip").parent,
    "a zip in capitals": lambda tree: pack(tree, tree.parent / "CELEBA.ZIP").parent,
    "lists in folders": unpacked_lists,
    "lists in zips": zipped_lists,
    "a broken zip beside": broken_zip,
    "home": lambda tree: "~/celeba",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_tree_from_everywhere(tree, layout, monkeypatch):
    monkeypatch.setenv("HOME", str(tree.parent))
    t = celeba.read(LAYOUTS[layout](tree))
    assert t.names == NAMES and t.attributes == ATTRIBUTES and (t.labels == LABELS).all()
    assert t.identities.tolist() == [7, 7, 8, 9] and t.splits.tolist() == [0, 0, 1, 2]
    assert t.crop(3, 8).shape == (3, 8, 8)


def test_the_images_folder_names_the_images(tree):
    (tree / "img_celeba").mkdir()
    for name in NAMES[:2]:
        picture().save(tree / "img_celeba" / name)
    (tree / "list_landmarks_celeba.txt").write_text(
        "2\n"
        + " ".join(celeba.tree.LANDMARK_COLUMNS)
        + "\n"
        + "".join(f"{n} 9 9 99 9 9 9 9 9 9 9\n" for n in NAMES[:2])
    )
    assert celeba.read(tree).kind == "img_celeba"
    assert celeba.read(images(tree)).kind == "img_align_celeba"


def test_a_zip_with_another_folder_is_known_by_its_name(tree):
    path = as_zip(tree, tree / "img_align_celeba (1).zip", "all of them/")
    shutil.rmtree(images(tree))
    assert celeba.read(tree).names == celeba.read(path).names == NAMES


def test_what_is_unpacked_and_edited_comes_before_the_zip(tree):
    with zipfile.ZipFile(tree / "celeba.zip", "w") as archive:
        archive.writestr("list_attr_celeba.txt", "1\nMale\n000001.jpg 1\n")
    assert celeba.read(tree).attributes == ATTRIBUTES


def refused(path: Path, *words: str) -> None:
    with pytest.raises(GlowkitError) as caught:
        celeba.read(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_name_in_two_folders_is_never_dropped(tree):
    for other in ("img_align_celeba/more", "Img/img_align_celeba", "img_align_celeba_png"):
        (tree / other).mkdir(parents=True)
        shutil.copy(images(tree) / NAMES[0], tree / other / NAMES[0])
        refused(tree, str(images(tree) / NAMES[0]), str(tree / other / NAMES[0]), "names must differ")
        shutil.rmtree(tree / other)
    for prefix in ("img_align_celeba/a/", "img_align_celeba/b/"):
        as_zip(tree, tree / f"celeba{prefix[-2]}.zip", prefix)
    assert celeba.read(tree).names == NAMES  # they were unpacked
    shutil.rmtree(images(tree))
    refused(tree, "celebab.zip: img_align_celeba/b/000001.jpg", "celebaa.zip: img_align_celeba/a/000001.jpg")


def test_folders_within_the_images_folder_of_a_zip_count(tree):
    path = tree / "celeba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(NAMES):
            archive.write(images(tree) / name, f"img_align_celeba/{i % 2}/{name}")
    shutil.rmtree(images(tree))
    assert celeba.read(tree).names == NAMES


def test_members_of_one_name_are_told(tree):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tree / "celeba.zip", "w") as archive:
        for _ in range(2):
            archive.writestr("img_align_celeba/000003.jpg", b"data")
    refused(tree, f"{tree / 'celeba.zip'}: img_align_celeba/000003.jpg: is there twice; pack the zip anew")


def test_two_lists_of_one_thing_are_told(tree):
    (tree / "Anno").mkdir()
    shutil.copy(tree / "list_attr_celeba.txt", tree / "Anno")
    assert celeba.read(tree).attributes == ATTRIBUTES  # a copy
    (tree / "Anno" / "list_attr_celeba.txt").write_text("1\nMale\n000001.jpg 1\n")
    refused(tree, f"is another list_attr_celeba.txt beside {tree}", "one has the column Smiling, the other none there")


def as_csv(file: Path, change=lambda text: text) -> Path:
    """A list as Kaggle has it, beside the official one."""
    lines = [line.split() for line in file.read_text().splitlines()]
    head, lines = (lines[1], lines[2:]) if len(lines[0]) == 1 else (["value"], lines)
    text = "\n".join(",".join(cells) for cells in [["image_id", *head], *lines])
    path = file.with_suffix(".csv")
    path.write_text(change(text))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_list_in_two_formats_is_taken_if_they_agree(tree, packed):
    there = tree.parent / "celeba.zip" if packed else tree
    right = celeba.read(tree)
    for file in list(tree.glob("*.txt")):
        zeros = (lambda text: text.replace("-1", "0")) if "attr" in file.name else (lambda text: text)
        as_csv(file, zeros)
    copy = shutil.copytree(tree, tree.parent / "kept")

    def read(change: str, by: str) -> None:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(copy, tree)
        for file in tree.glob("list_attr*.csv"):
            file.write_text(file.read_text().replace(change, by))
        return celeba.read(pack(tree, there) if packed else there)

    t = read("", "")
    assert t.names == NAMES and (t.labels == LABELS).all() and t.splits.tolist() == right.splits.tolist()
    for change, by, words in (
        ("000005.jpg,1,1,0", "000005.jpg,1,0,0", "000005.jpg, Smiling is "),
        ("000005.jpg,1,1,0\n", "", "000005.jpg has a line in one of them"),
        ("Smiling", "Smile", "one has the column Smil"),
    ):
        with pytest.raises(GlowkitError, match=words) as caught:
            read(change, by)
        assert "list_attr_celeba.csv" in str(caught.value) and "move one of them away" in str(caught.value)


def test_two_trees_below_are_told(tree):
    shutil.copytree(tree, tree.parent / "celeba64")
    refused(tree.parent, f"images of CelebA are in {tree} and in {tree.parent / 'celeba64'}; give one of them")


def test_what_is_no_file_is_told(tree):
    (tree / "list_attr_celeba.txt").unlink()
    os.mkfifo(tree / "list_attr_celeba.txt")
    refused(tree, f"{tree / 'list_attr_celeba.txt'}: cannot be read (not a file)")
    refused(tree / "list_attr_celeba.txt", "not a file or folder")
    (tree / "list_attr_celeba.txt").unlink()
    (tree / "list_attr_celeba.txt").symlink_to("nowhere.txt")
    refused(tree, "list_attr_celeba.txt: cannot be read", "No such file")


def test_links_among_the_images_are_followed(tree):
    (tree / "elsewhere").mkdir()
    (images(tree) / NAMES[0]).rename(tree / "elsewhere" / NAMES[0])
    (images(tree) / "more").symlink_to(tree / "elsewhere")
    assert celeba.read(tree).names == NAMES


@pytest.mark.parametrize(
    "head, words",
    [
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive, which is not read; unpack it"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\0" * 257 + b"ustar\0", "a tar archive"),
        (b"\n <HTML>", "a web page in place of a zip, over a server's quota perhaps; get it again"),
        (b"", "not a zip, or cut short"),
    ],
)
def test_archives_of_other_kinds_are_named(tree, head, words):
    shutil.rmtree(images(tree))
    path = tree / "img_align_celeba.zip"
    path.write_bytes(head + bytes(1000))
    refused(path, f"{path}: {words}")
    refused(tree, f"{path}: {words}")


def test_a_zip_of_a_newer_kind_is_not_called_damaged(tree):
    path = pack(tree, tree.with_suffix(".zip"))
    zipped = bytearray(path.read_bytes())
    zipped[zipped.index(b"PK\1\2") + 6] = 99  # the version of zip that is needed, of the first file
    path.write_bytes(zipped)
    refused(path, f"{path}: a zip of a kind that is not read (zip file version 9.9); unpack it and give the folder")


def test_a_broken_zip_that_is_not_needed_is_mentioned(tree):
    assert any(
        line.startswith(f"not used: {tree}/img_align_celeba.zip: a web page") for line in check(broken_zip(tree))
    )


def test_a_damaged_directory_of_a_zip_loses_no_image_in_silence(tree):
    """Any byte of it changed: all images by their names, or a line on what is wrong."""
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    shutil.rmtree(images(tree))
    for file in tree.glob("*.txt"):  # which would tell of an image that is not there
        file.unlink()
    good, read = zipped.read_bytes(), 0
    for at in range(good.index(b"PK\1\2"), len(good)):
        for byte in (0, good[at] ^ 1):
            zipped.write_bytes(good[:at] + bytes([byte]) + good[at + 1 :])
            try:
                t = celeba.read(tree)
                [file.read() for file in t.files]
            except GlowkitError:
                continue
            assert t.names == NAMES, (at, byte)
            read += 1
    assert read > 100


def test_pictures_that_are_not_read_are_mentioned(tree):
    for name in ("IMG_1.HEIC", "IMG_2.HEIC"):
        (images(tree) / name).write_bytes(b"")
    said = [line for line in check(tree) if "HEIC" in line]
    assert len(said) == 1 and said[0].endswith(", and what else ends in .heic: not JPEG or PNG or WebP or BMP")
    for name in NAMES:
        (images(tree) / name).unlink()
    refused(tree, "and what else ends in .heic: not JPEG")


def test_lists_beside_a_zip_that_differ_are_told(tree):
    path = as_zip(tree, tree / "a.zip")
    (tree / "list_attr_celeba.csv").write_text("image_id,Male\n000001.jpg,1\n")
    refused(path, "is another list_attr_celeba.txt beside")


def test_what_is_there_instead_is_said(tree):
    renamed(tree, "faces")
    refused(tree, f"there are images such as {tree / 'faces'}/0", "in a folder of another name", "img_align_celeba")
    refused(tree / "list_attr_celeba.txt", "a file of a tree, not a zip; give its folder")
    refused(tree / "faces" / NAMES[0], "a file of a tree, not a zip; give its folder")
    path = pack(tree, tree.parent / "a.zip")
    refused(path, f"{path}: no images of CelebA", "there is celeba/faces/000001.jpg, ")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("celeba/Img/img_align_celeba.zip", b"")
    refused(path, "celeba/Img/img_align_celeba.zip has to be unpacked first")
    refused(path.parent / "no" / "where", "no such file or folder")
