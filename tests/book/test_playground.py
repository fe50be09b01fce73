"""The panel to play with, through its controls: what is shown is what the library gives, and slips are told in a
line."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import glowkit
from glowkit.book.playground import playground, upright, with_study_and_judge
from glowkit.errors import GlowkitError


@pytest.fixture
def panel():
    made = playground("faces64", "Smiling", 1.0)
    made.panel()
    return made


def pictures(panel):
    """What is shown: alternative text and pixels (H, W, 3) in [0, 1] of each picture."""
    found = re.findall(r'<img src="data:image/webp;base64,([^"]*)" alt="([^"]*)"', panel.shown.html)
    decoded = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data, _ in found]
    return {alt: np.asarray(image) / 255 for (_, alt), image in zip(found, decoded, strict=True)}


def near(a, b):
    """Whether two pictures are the same but for the losses of WebP."""
    return np.abs(a - b).mean() < 0.02


def upload(panel, name, data):
    """As the front end does it."""
    file = {"name": name, "type": "", "size": len(data), "content": memoryview(data), "last_modified": 0}
    panel.upload.set_state({"value": [file]})


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return data.getvalue()


def test_the_edit_shown_is_the_library_s(panel):
    panel.attribute.value, panel.alpha.value = "Male", -1.35
    model, study = glowkit.load("faces64"), glowkit.open_study("faces64")
    x = glowkit.open_dataset("faces64").images([panel.row])
    z = model.encode(x, noise=torch.Generator().manual_seed(0))
    edited = model.decode(z - 1.35 * torch.from_numpy(study.direction("Male")))
    shown = pictures(panel)
    assert list(shown) == [
        "A face as it is",
        "The same face with −1.35 × Male in the latent space",
        "The same face drawn without Male",
    ]
    assert near(shown["A face as it is"], x[0].permute(1, 2, 0).numpy() / 255)
    assert near(list(shown.values())[1], edited[0].permute(1, 2, 0).numpy())


def test_every_attribute_and_both_models_are_offered(panel):
    assert {"faces64", "celeba64"} <= set(with_study_and_judge()) == set(panel.model.options)
    assert [name for _, name in panel.attribute.options] == glowkit.open_study("faces64").attributes
    panel.attribute.value = "Eyeglasses"
    panel.model.value = "celeba64"
    assert len(panel.attribute.options) == 40 and panel.attribute.value == "Eyeglasses"
    assert len(pictures(panel)) == 2  # nobody can draw a sample's counterfactual
    panel.attribute.value = "Goatee"
    panel.model.value = "faces64"
    assert [name for _, name in panel.attribute.options] == glowkit.open_study("faces64").attributes
    assert len(pictures(panel)) == 3


def test_another_face_is_another(panel):
    before = panel.row
    panel.another.click()
    assert panel.row != before and panel.row in glowkit.open_dataset("faces64").subset("test")


def test_a_face_of_one_s_own_is_cropped_by_its_eyes(panel):
    face = glowkit.open_dataset("faces64").images([3])[0].permute(1, 2, 0).numpy()
    upload(panel, "me.png", png(face))
    assert len(pictures(panel)) == 2 and near(pictures(panel)["A face as it is"], face / 255)
    assert panel.pointing.layout.display == ""
    assert 'alt="Your picture, a cross on each eye"' in panel.preview.value
    straight = pictures(panel)["A face as it is"]
    panel.eyes[1].value += 12  # the left eye lower: the face turns
    assert not near(pictures(panel)["A face as it is"], straight)
    panel.another.click()
    assert panel.pointing.layout.display == "none" and len(pictures(panel)) == 3


def test_what_cannot_be_used_is_said_and_changes_nothing(panel):
    before = panel.shown.html
    upload(panel, "notes.txt", b"no picture")
    assert "notes.txt: not an image" in panel.message.value and 'role="alert"' in panel.message.value
    assert panel.shown.html == before
    upload(panel, "me.png", png(np.full((218, 178, 3), 200, np.uint8)))
    assert panel.message.value == ""
    for eye, other in ((0, 2), (1, 3)):
        panel.eyes[eye].value = panel.eyes[other].value
    assert "eye" in panel.message.value


def test_a_file_s_error_does_not_tell_of_a_folder_it_never_lay_in():
    with pytest.raises(GlowkitError, match=r"^me.png: not an image"):
        upright("somewhere/me.png", b"")
