"""Strips and animations as pictures: what is where in them."""

import numpy as np
import pytest
import torch
from PIL import Image

from glowkit import strips


def test_a_strip_shows_the_original_then_each_picture_enlarged():
    original = torch.full((3, 64, 64), 10, dtype=torch.uint8)
    pictures = torch.tensor([0.2, 0.6])[:, None, None, None].expand(2, 3, 64, 64)
    sheet = np.asarray(strips.strip(original, pictures, ["a", "b"], ["", "c"], "title"))
    row = sheet[sheet.shape[0] // 2]
    values, counts = np.unique(row[:, 0], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)).items() >= {10: 192, 51: 192, 153: 192}.items()
    labels = sheet[-55:, :] < 200  # ink below the pictures
    assert labels[:25].any() and labels[25:].any()


def test_pictures_larger_than_a_tile_stay_as_they_are():
    x = torch.rand(1, 3, 256, 256)
    sheet = strips.strip((x[0] * 255).byte(), x, [""], [""], "")
    assert np.array_equal(np.asarray(sheet)[48:304, 14:270], (x[0] * 255).byte().permute(1, 2, 0).numpy())


def test_an_animation_goes_there_and_back_without_a_jump():
    alphas = strips.there_and_back(-2.0)
    assert (alphas[0], alphas[-1], len(alphas)) == (0, -2, 13)
    assert np.all(np.diff(alphas) < 0) and np.abs(np.diff(alphas)).max() < 0.27
    pictures = torch.linspace(0, 1, 13)[:, None, None, None].expand(13, 3, 64, 64)
    frames = strips.frames(pictures, alphas, "Smiling")
    grey = [frame.getpixel((100, 100))[0] for frame in frames]
    assert len(frames) == 24 and grey[1:13] == grey[:11:-1] and grey[0] == 0 and grey[12] == 255


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_a_written_animation_loops_and_is_true_to_its_frames(tmp_path, name):
    pictures = torch.rand(1, 3, 8, 8).expand(13, 3, 8, 8) * torch.linspace(0.5, 1, 13)[:, None, None, None]
    frames = strips.frames(pictures, strips.there_and_back(1.0), "Smiling")
    strips.save(tmp_path / name, frames)
    with Image.open(tmp_path / name) as moving:
        assert (moving.n_frames, moving.info["loop"]) == (24, 0)
        for k in (0, 6, 12, 18):
            moving.seek(k)
            gap = np.asarray(moving.convert("RGB")).astype(int) - np.asarray(frames[k])
            assert np.abs(gap).mean() < 12
