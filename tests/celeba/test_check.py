"""What `glowkit celeba check` says of trees that lack this or that."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from celeba_trees import NAMES, as_zip, edit_line, picture, write_landmarks, write_tree

from glowkit import judge
from glowkit.celeba import facts
from glowkit.celeba.check import ENOUGH, check
from glowkit.celeba.files import File
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.study import varied


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_tree(tmp_path / "tree")


def test_says_what_is_there_and_what_its_absence_rules_out(tree):
    said = "\n".join(check(tree))
    for part in (
        "4 images in img_align_celeba of 3 people, 178 x 218 pixels, all readable",
        "3 attributes: Male, Smiling, Young",
        "splits: 2 train, 1 valid, 1 test",
        "no person is in two splits",
        "list_landmarks_align_celeba.txt is missing, which rules out measuring where the eyes are",
        "img_celeba with list_landmarks_celeba.txt is not there or not used, which rules out crops from photographs",
        "too small for a study, which needs training images with an attribute and some without it: there are 2 in the "
        "training split and 1 in the test split",
        "few images: a batch of training has 2 at most, judges of edits need 128 and a test image; there are 2 in",
        "good for training at up to 149 x 149 pixels",  # 38.4 / 0.258
    ):
        assert part in said
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"):
        (tree / name).unlink()
    write_landmarks(tree / "list_landmarks_align_celeba.txt", [[69, 111, 107, 111, 88, 140, 70, 155, 105, 156]] * 4)
    said = "\n".join(check(tree))
    for part in (
        "list_attr_celeba.txt is missing, which rules out studies",
        "list_eval_partition.txt is missing, which rules out comparing with results on the official split",
        "identity_CelebA.txt is missing, which rules out making sure that splits share no person",
        "landmarks: five points a face",
        "good for training at up to 147",
    ):
        assert part in said
    assert "list_landmarks_align_celeba.txt is missing" not in said


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1, "too small for a study, which needs images in both splits: there are 1 in the training split and 0 in the"),
        (4, "a study leaves out, since too few training images have them or have them not: Never"),
        (4, "few images: a batch of training has 4 at most, judges of edits need 128 and a test image; there are 4"),
        (200, "a study leaves out, since too few training images have them or have them not: Never"),
        (200, "good for training, a study and edits at up to 149"),
    ],
)
def test_says_what_a_study_and_judges_need(tree, n, words):
    """Of so many training images, and a test image if there is more than one."""
    assert ENOUGH == judge.BATCH
    for name in NAMES:
        (tree / "img_align_celeba" / name).unlink()
    names = [f"{i:06d}.jpg" for i in range(n + (n > 1))]
    for name in names:
        picture().save(tree / "img_align_celeba" / name)
    (tree / "identity_CelebA.txt").unlink()
    rows = (f"{name} {1 if i // 2 % 2 else -1} -1" for i, name in enumerate(names))
    (tree / "list_attr_celeba.txt").write_text("\n".join([f"{len(names)}", "Often Never", *rows]))
    splits = (f"{name} {2 * (i == n)}\n" for i, name in enumerate(names))
    (tree / "list_eval_partition.txt").write_text("".join(splits))
    said = list(check(tree))
    assert any(line.startswith(words) for line in said), said
    assert any("few images" in line for line in said) == (n < ENOUGH)
    try:
        varied(dataset := open_dataset(tree), [dataset.subset("train")[k::2] for k in (0, 1)], "study")
    except GlowkitError:
        assert n == 1
    else:
        assert any("a study and edits" in line for line in said)


def test_people_in_two_splits_are_counted(tree):
    edit_line(tree / "list_eval_partition.txt", 2, f"{NAMES[1]} 2")  # of the same person as the first image
    assert "1 people are in more than one split" in list(check(tree))


def test_counts_what_is_not_used(tree):
    (tree / "img_align_celeba" / NAMES[1]).unlink()
    (tree / "img_celeba.7z.001").write_bytes(b"")
    said = "\n".join(check(tree))
    assert said.startswith("3 images") and "1 images listed in list_attr_celeba.txt but absent are not used" in said
    assert "img_celeba.7z.001 is not used: unpack it there first (7z x img_celeba.7z.001)" in said


def test_faulty_images_are_counted_last(tree):
    for i in (1, 3):
        (tree / "img_align_celeba" / NAMES[i]).write_bytes(b"hello")
    lines = check(tree)
    assert next(lines).endswith("2 of them faulty")
    with pytest.raises(GlowkitError, match=f"2 of 4 images are faulty .*{NAMES[1]}: .*{NAMES[3]}: .*use the others"):
        list(lines)


def test_a_zip_cut_short_is_told_last(tree):
    zipped = as_zip(tree, tree / "img_align_celeba.zip")
    shutil.rmtree(tree / "img_align_celeba")
    os.truncate(zipped, zipped.stat().st_size * 2 // 3)
    lines = check(tree)
    assert next(lines).startswith("2 images in img_align_celeba")
    assert next(lines).startswith("2 images listed in list_attr_celeba.txt but absent are not used, the first: 000005")
    with pytest.raises(GlowkitError, match=f"{zipped} is cut short: 2 whole files, then .*5.jpg, which is cut; 2 imag"):
        list(lines)


def test_a_tree_of_faulty_images_alone_is_given_up_soon(tree, monkeypatch):
    names = [f"{i:06d}.jpg" for i in range(1000)]
    for name in names:
        (tree / "img_align_celeba" / name).write_bytes(b"")
    for file in tree.glob("*.txt"):
        file.unlink()
    tried, opened = [], File.opened
    monkeypatch.setattr(File, "opened", lambda self: (tried.append(self), opened(self))[1])
    with pytest.raises(GlowkitError, match="not an image"):
        list(check(tree))
    assert len(tried) < 30


def test_a_file_that_is_no_list_is_not_summed(tree):
    os.truncate(tree / "list_attr_celeba.txt", 0)
    (tree / "list_bbox_celeba.txt").write_text("1\n")
    os.truncate(tree / "list_bbox_celeba.txt", 10**8)  # more than the official file has
    (tree / "list_attr_celeba.txt").unlink()
    assert any(line.startswith("list_bbox_celeba.txt is not the whole official file") for line in check(tree))
    assert not facts.is_official(tree / "list_bbox_celeba.txt", "list_bbox_celeba.txt")


def test_sums_are_told_calmly(tree, monkeypatch):
    """A part of a list, the official list, and one as long as the official one."""
    monkeypatch.setitem(facts.COUNTS, "images", 5)
    sum_ = hashlib.md5((tree / "list_attr_celeba.txt").read_bytes()).hexdigest()
    monkeypatch.setitem(facts.MD5, "list_attr_celeba.txt", sum_)
    said = list(check(tree))
    assert "list_attr_celeba.txt is the official file, by its md5 sum" in said
    assert "identity_CelebA.txt is not the whole official file, which is no fault: it has 4 lines" in said
    assert "list_eval_partition.txt is not the official file, by its md5 sum: another version, or damaged" in said
