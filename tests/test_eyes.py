"""Eyes found in pictures of which it is known where they are: drawn faces in the wild, with their landmarks."""

import sys

import numpy as np
import pytest
from PIL import Image

from glowkit import celeba, eyes, faces


@pytest.fixture(scope="module")
def wild(tmp_path_factory) -> celeba.Tree:
    return celeba.read(faces.write_tree(tmp_path_factory.mktemp("wild") / "tree", 12, seed=8), "img_celeba")


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Of the worse eye, in distances between the eyes."""
    return np.hypot(*(found - truth).T).max() / np.hypot(*(truth[1] - truth[0]))


def test_eyes_are_found_in_drawn_faces_in_the_wild(wild):
    found = [eyes.find(file.image()) for file in wild.files]
    errors = [error(one.places, truth) for one, truth in zip(found, wild.eyes, strict=True) if one]
    assert len(errors) >= 11 and max(errors) < 0.15
    assert all(one.faces == 1 for one in found if one)


def test_they_move_with_the_picture(wild):
    """Turned, enlarged and shifted: places are those of the picture given, not of what is looked at."""
    picture, truth = wild.files[0].image(), wild.eyes[0]
    turn, zoom, shift = np.deg2rad(12), 2.3, np.array([40, 25])
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    back = np.linalg.inv(matrix)
    corner = -back @ (shift + 0.5) + 0.5  # Pillow counts from the corner of the first pixel
    corner = corner + back @ [0.5, 0.5] - 0.5
    size = tuple(int(zoom * side) for side in picture.size)
    moved = picture.transform(size, Image.Transform.AFFINE, (*back[0], corner[0], *back[1], corner[1]), 3)
    assert error(eyes.find(moved).places, truth @ matrix.T + shift) < 0.15


def test_two_faces_are_counted(wild):
    one = wild.files[0].image()
    both = Image.new("RGB", (2 * one.width, one.height))
    both.paste(one, (0, 0))
    both.paste(one, (one.width, 0))
    assert eyes.find(both).faces == 2


@pytest.mark.parametrize("size", [(64, 64), (3, 400), (500, 2), (1, 1)])
def test_where_no_face_is_none_are_found(size):
    assert eyes.find(Image.new("RGB", size, "grey")) is None
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert eyes.find(Image.fromarray(noise)) is None


def test_an_opencv_without_detectors_is_not_at_hand(tmp_path, monkeypatch):
    """As version 5 is installed: the package and an empty folder of data."""
    assert eyes.at_hand()
    (tmp_path / "cv2" / "data").mkdir(parents=True)
    (tmp_path / "cv2" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert not eyes.at_hand()
