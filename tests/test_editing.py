"""What `glowkit edit` does with a reader's own picture, and what it says of it."""

import numpy as np
import pytest
import torch
from PIL import Image

import glowkit
from glowkit import celeba, editing, eyes, faces
from glowkit.errors import GlowkitError


@pytest.fixture(scope="module")
def flow():
    return glowkit.load("faces64")


def picture(x: torch.Tensor) -> Image.Image:
    return Image.fromarray(x.permute(1, 2, 0).numpy())


def drawn(index: int = 316, size: int = 64) -> torch.Tensor:
    return faces.render(faces.factors([index], 1), size)[0]


def place(image, given=None):
    said, warnings = [], []
    return editing.placed(image, given, said, warnings), said, warnings


def test_an_aligned_face_is_taken_as_it_is():
    points, said, warnings = place(picture(drawn()))
    assert np.array_equal(points, celeba.frame_eyes((64, 64)))
    assert said == ["eyes seen where an aligned face has them"] and not warnings


@pytest.mark.parametrize("size", [(400, 300), (300, 300)])
def test_a_face_elsewhere_is_cropped_by_the_eyes_found(size):
    """In a picture of another shape, and in a square one that is no crop."""
    wide = Image.new("RGB", size, (120, 120, 130))
    wide.paste(picture(drawn(size=128)), (20, 40))
    points, said, warnings = place(wide)
    truth = np.array(celeba.EYES) * 128 - 0.5 + [20, 40]
    assert np.hypot(*(points - truth).T).max() < 0.15 * (truth[1] - truth[0])[0]
    assert said[0].startswith("eyes found at ") and "--eyes" in said[0] and not warnings
    x = celeba.crop(wide, *points, 64)
    assert (x.float() - drawn().float()).abs().mean() < 20


def test_what_looks_wrong_is_told_and_done_all_the_same(monkeypatch):
    blank = Image.new("RGB", (300, 200), "grey")
    points, said, (warning,) = place(blank)
    assert not said and "no eyes found in 300 x 200 pixels" in warning and "took the middle" in warning
    assert np.array_equal(points, celeba.frame_eyes((300, 200)))
    assert "taken for an aligned face" in place(blank.resize((178, 218)))[2][0]
    monkeypatch.setattr(eyes, "at_hand", lambda: False)
    assert place(picture(drawn()))[1:] == ([], [])
    assert "pip install 'glowkit[eyes]'" in place(blank)[2][0]


def test_given_eyes_are_taken_left_first():
    blank = Image.new("RGB", (300, 200))
    points, _, warnings = place(blank, (10, 20, 50, 22))
    assert points.tolist() == [[10, 20], [50, 22]] and not warnings
    points, _, (warning,) = place(blank, (50, 22, 10, 20))
    assert points.tolist() == [[10, 20], [50, 22]] and "the other way round" in warning
    assert "outside the picture of 300 x 200" in place(blank, (10, 20, 310, 20))[2][0]
    with pytest.raises(GlowkitError, match="two different points"):
        place(blank, (10, 20, 10, 20))


def test_faces_of_the_data_are_on_the_shell_and_others_are_told(flow):
    study = glowkit.open_study("faces64")
    own = faces.render(faces.factors(range(0, 80, 4), 1), 64)
    upside_down = own[:4].flip(2)
    noise = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for x, wanted in ((own, 0), (upside_down, 1), (noise, 1)):
        z = flow.encode(x, torch.Generator().manual_seed(0))
        assert [len(editing.unlikely(study, one)) for one in z] == [wanted] * len(x)
    # The arithmetic of the line, on a latent of a known norm.
    norms = np.linalg.norm(study.norms["noise"].astype(float), axis=1)
    z = torch.zeros(flow.dim)
    z[5] = norms.mean() + 10 * norms.std()
    (line,) = editing.unlikely(study, z)
    assert " 10 standard deviations outside the shell of faces64 " in line


def test_an_attribute_that_is_there_already_is_told(flow):
    smiling = faces.render(faces.counterfactual(faces.factors([316], 1), Smiling=True), 64)[0]
    made = editing.edit("faces64", flow, "Smiling", [0, 1], picture(smiling))
    assert made.seen[0] > 0.5 and any("Smiling is there already" in line for line in made.warnings)
    assert torch.equal(made.original, smiling)
    assert not editing.edit("faces64", flow, "Smiling", [0, 0], picture(smiling)).warnings


def test_the_demo_does_not_smile_and_then_does():
    """Of drawn faces and of photographs: a face of nobody each."""
    for name, what in (("faces64", "a drawn face"), ("celeba64", "a sample of the model")):
        made = editing.edit(name, glowkit.load(name), "Smiling", [0, 1])
        assert made.said[0].startswith(what) and not made.warnings
        assert made.seen[0] < 0.3 and made.seen[1] > 0.9
