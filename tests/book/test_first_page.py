"""The first page: its hero and its picture of the argument show what the models give, and need nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from glowkit import checkpoint
from glowkit.book import argument, hero
from glowkit.dataset import open_dataset
from glowkit.study import open_study

ROOT = Path(__file__).resolve().parents[2]


def test_the_drawn_faces_are_held_out_and_lack_every_attribute():
    album = open_dataset("faces64")
    faces = list(hero.FACES["faces64"])
    assert set(faces) <= set(album.subset("test").tolist())
    assert not any(album.has(attribute)[faces].any() for attribute in hero.WISHES)
    assert argument.FACE in faces


def test_a_row_of_a_film_is_the_decoded_sum_and_at_zero_the_faces_themselves(monkeypatch):
    monkeypatch.setattr(hero, "ALPHAS", [0.0, 1.0])
    flow, study = checkpoint.load("faces64"), open_study("faces64")
    pictures = open_dataset("faces64").images(hero.FACES["faces64"])
    z = flow.encode(pictures, noise=torch.Generator().manual_seed(0))
    direction = torch.from_numpy(study.class_mean("Smiling") - study.class_mean("Smiling", positive=False))
    shown = hero.frames(flow, hero.latents(flow, "faces64"), study.direction("Smiling"))
    assert shown.shape == (2, 3, 64, 64, 3)
    # What the model sees of a face has 5 bits; with noise it is anywhere within a bin.
    assert np.abs(shown[0] / 255 - pictures.permute(0, 2, 3, 1).numpy() / 255).max() <= 1 / 2**flow.config.bits + 0.01
    wanted = flow.decode(z + direction).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(shown[1] / 255 - wanted).max() < 0.004
    moved = shown.astype(float)
    assert np.abs(moved[1] - moved[0])[:, 38:52].mean() > np.abs(moved[1] - moved[0])[:, :12].mean()  # mouth, forehead


def test_a_film_has_a_row_for_each_alpha_and_no_face_colours_another():
    pixels = np.zeros((4, 3, 64, 64, 3), np.uint8)
    pixels[2, 1] = 255
    film = np.asarray(hero.film(pixels)).reshape(4, 128, 3, 128, 3)
    assert (film[2, :, 1] == 255).all()
    film = film.copy()
    film[2, :, 1] = 0
    assert not film.any()


def test_the_page_has_labelled_controls_and_asks_nobody_for_anything():
    page = hero.html("_static/hero")
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert data["alphas"] == hero.ALPHAS and 0 in data["alphas"] and 1 in data["alphas"]
    assert len(data["films"]) == len(hero.FACES) * len(hero.WISHES)
    assert set(data["films"].values()) == {f"_static/hero/{m}-{a}.webp" for m in hero.FACES for a in hero.WISHES}
    assert page.count("<label>") == len(hero.FACES) + len(hero.WISHES) == page.count('type="radio"')
    assert '<label for="hero-alpha">' in page and page.count("<legend>") == 2
    assert re.search(r'<img src="_static/hero/still.webp"[^>]*alt="[^"]{20,}"', page)  # without JavaScript
    assert "prefers-reduced-motion" in page
    assert not re.search(r"https?://|fetch\(|XMLHttp", page + argument._PAGE.template + argument._DRAWING.template)


@pytest.fixture(scope="module")
def found():
    return argument.measure(checkpoint.load(argument.MODEL), open_study(argument.MODEL))


def test_the_arrow_crosses_the_border_along_the_direction_alone(found):
    step = np.linalg.norm(open_study(argument.MODEL).direction(argument.ATTRIBUTE))
    (x0, y0), (x1, y1) = found.points["face"], found.points["edited"]
    assert x1 - x0 == pytest.approx(step, abs=1e-3) and y1 == pytest.approx(y0, abs=1e-3)
    assert x0 < found.border < x1 and found.border < found.points["truth"][0]
    assert found.shell[0] < np.hypot(x0, y0) < found.shell[1]
    assert found.radius**2 == pytest.approx(3 * 64 * 64)


def test_the_errors_are_those_of_the_pictures_that_are_shown(found):
    for picture, error in ((found.edited, found.error), (found.face, found.idle)):
        square = (picture / 255.0 - found.truth / 255.0) ** 2
        assert np.sqrt(square.mean()) == pytest.approx(error, abs=1e-3)


def test_the_drawing_has_every_point_where_its_latent_is(found):
    svg = argument.drawing(found)
    at = {
        name: (float(x), float(y))
        for x, y, name in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5" class="(\w+)"/>', svg)
    }
    (x0, y0), (x1, y1) = found.points["face"], found.points["truth"]
    assert at["truth"][0] - at["face"][0] == pytest.approx(argument.SCALE * (x1 - x0), abs=0.11)
    assert at["truth"][1] - at["face"][1] == pytest.approx(-argument.SCALE * (y1 - y0), abs=0.11)
    assert all(0 < x < argument.WIDE and 0 < y < argument.HIGH for x, y in at.values())
