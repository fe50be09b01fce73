"""The judge learns what is there, reports what it reaches, and knows no face in a broken picture."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glowkit import checkpoint, faces, judge
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig


def toy_dataset(size: int = 32) -> Dataset:
    """Grey noise with a bright square in the upper half, the lower half, both or neither."""
    rng = np.random.default_rng(0)
    n = 900
    labels = rng.random((n, 2)) < 0.5
    pixels = rng.integers(90, 130, (n, 3, size, size), dtype=np.uint8)
    for i in range(2):
        pixels[labels[:, i], :, 4 + 14 * i : 12 + 14 * i, 8:20] = 220
    splits = np.repeat(np.arange(3, dtype=np.uint8), (600, 100, 200))
    return Dataset("toy", size, ["Up", "Down"], labels, splits, None, None, lambda i: pixels[i])


KINDS = pytest.mark.parametrize("second", [False, True], ids=["first", "second"])


@pytest.fixture(scope="module", params=[False, True], ids=["first", "second"])
def second(request):
    return request.param


@pytest.fixture(scope="module")
def made(tmp_path_factory, second):
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4, "additive")), folder, "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "open_dataset", lambda name, size: toy_dataset(size))
        file = judge.train_judge(folder, n=600, epochs=12 if second else 6, second=second)
    assert file == folder / ("second-judge.safetensors" if second else "judge.safetensors")
    return judge.open_judge(folder, second), folder


def test_it_sees_held_out_squares_and_its_scores_are_true(made):
    found, data = made[0], toy_dataset()
    test = data.subset("test")
    x, y = data.images(test), data.labels[test]
    for i, attribute in enumerate(data.attributes):
        said, score = found.says(x, attribute), found.scores[attribute]
        assert score["accuracy"] > 0.95 and score["auc"] > 0.98
        assert score["n"] == 200 and score["positives"] == y[:, i].sum()
        # The scores were measured before the kernels were rounded to float16.
        assert (said == y[:, i]).mean() == pytest.approx(score["accuracy"], abs=0.011)
        assert said[y[:, i]].mean() == pytest.approx(score["sensitivity"], abs=0.02)
    assert found(x).shape == (200, 2) and found.features(x[:5]).shape == (5, 64)


@KINDS
def test_it_works_on_its_own_device_alone(second):
    """On the device of shapes, which refuses whatever lies on another."""
    kind = judge.SECOND if second else judge.FIRST
    elsewhere, x = judge.Judge(["Up", "Down"], kind=kind).to("meta").eval(), torch.rand(3, 3, 32, 32)
    assert elsewhere(x).device.type == elsewhere.features((255 * x).byte()).device.type == "meta"
    assert judge.worn(x.to("meta")).device.type == "meta"


def test_a_picture_that_exploded_has_no_attribute(made):
    found, data = made[0], toy_dataset()
    where = data.subset("test")[data.labels[data.subset("test"), 0]][:20]
    x = data.images(where).float() / 255
    x[:10, 0, 0, 0] = torch.nan
    says = found.says(x, "Up")
    assert not says[:10].any() and says[10:].mean() > 0.8


def test_unknown_attributes_and_missing_or_foreign_files(made, second, tmp_path):
    found, folder = made
    file = (judge.SECOND if second else judge.FIRST).file
    with pytest.raises(GlowkitError, match="the judge knows Up, Down"):
        found.says(torch.rand(1, 3, 32, 32), "Smiling")
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4, "additive")), tmp_path, "toy")
    with pytest.raises(GlowkitError, match=f"no {'second ' * second}judge there yet; make it with `glowkit judge"):
        judge.open_judge(tmp_path, second)
    (tmp_path / file).write_bytes((folder / checkpoint.WEIGHTS).read_bytes())
    with pytest.raises(GlowkitError, match=f"not a {'second ' * second}judge"):
        judge.open_judge(tmp_path, second)
    shutil.copy(folder / file, tmp_path / (judge.FIRST if second else judge.SECOND).file)
    shutil.copy(folder / checkpoint.WEIGHTS, tmp_path)
    with pytest.raises(GlowkitError, match="is missing|shape"):  # one judge in the place of the other
        judge.open_judge(tmp_path, not second)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, a: t.pop("head.bias"), "head.bias is missing"),
        (lambda t, a: t.update({"head.bias": torch.zeros(3)}), r"head.bias has the shape \(3,\), not \(2,\)"),
        (lambda t, a: t["head.weight"].fill_(torch.nan), "head.weight is not finite"),
        (lambda t, a: t["body.1.running_var"].fill_(-1), "running_var must be nowhere negative"),
        (lambda t, a: a.update(width=10**6), "width = 1000000: it must be a whole number from 1 to 256"),
        (lambda t, a: a.update(width=12), "has the shape"),
        (lambda t, a: a.update(attributes=["Up", "Up"]), "a list of different names"),
        (lambda t, a: a.update(scores=3), "scores = 3: it must be a table"),
        (lambda t, a: a["scores"].update(Left={}), "scores.Left: no such setting"),
        (lambda t, a: a["scores"]["Up"].update(auc="high"), "scores.Up.auc = 'high'"),
        (lambda t, a: a.pop("weights"), "judge.weights is missing"),
        (lambda t, a: a.update(weights="0" * 64), "made from other weights"),
    ],
)
def test_a_judge_that_is_not_one_of_this_model_is_refused(made, second, tmp_path, change, says):
    if second and "running_var" in says:
        pytest.skip("the second judge keeps no running variances")
    folder = shutil.copytree(made[1], tmp_path / "model")
    file = folder / (judge.SECOND if second else judge.FIRST).file
    tensors, metadata = checkpoint.read_tensors(file)
    about = json.loads(metadata["judge"])
    change(tensors, about)
    save_file(tensors, file, {"judge": json.dumps(about)})
    with pytest.raises(GlowkitError, match=says) as error:
        judge.open_judge(folder, second)
    told = str(error.value)
    assert told.startswith(f"{file}: not a {'second ' * second}judge of this model") and told.count("\n") == 0
    assert told.endswith(f"`glowkit judge {folder}`")


def test_the_two_learn_from_the_two_ends_of_the_training_images(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(judge, "open_dataset", lambda name, size: toy_dataset(size))
    monkeypatch.setattr(judge, "_fit", lambda found, data, indices, *_: seen.update({len(seen): (found, indices)}))
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4, "additive")), tmp_path, "toy")
    for second in (False, True):
        judge.train_judge(tmp_path, n=200, second=second)
    assert seen[0][1].tolist() == [*range(400, 600)] and seen[1][1].tolist() == [*range(200)]
    layers = [{type(layer) for layer in found.modules()} for found, _ in seen.values()]
    assert torch.nn.Conv2d in layers[0] and torch.nn.Conv2d not in layers[1]


def test_too_few_images_are_told_in_a_line(made, monkeypatch):
    monkeypatch.setattr(judge, "open_dataset", lambda name, size: toy_dataset(size))
    with pytest.raises(GlowkitError, match="toy: 100 training images, a judge needs 128"):
        judge.train_judge(made[1], n=100)
    no_test = replace(toy_dataset(), splits=np.zeros(900, np.uint8))
    monkeypatch.setattr(judge, "open_dataset", lambda name, size: no_test)
    with pytest.raises(GlowkitError, match="toy: no images in the test split"):
        judge.train_judge(made[1])


@KINDS
def test_attributes_that_do_not_vary_are_left_out_and_counted(tmp_path, monkeypatch, capsys, second):
    data = toy_dataset()
    labels = np.concatenate([np.zeros((900, 1), bool), data.labels, np.ones((900, 1), bool)], 1)
    labels[650, 0] = True  # a validation image
    data = replace(data, attributes=["None", *data.attributes, "All"], labels=labels)
    monkeypatch.setattr(judge, "open_dataset", lambda name, size: data)
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4, "additive")), tmp_path, "toy")
    judge.train_judge(tmp_path, epochs=1, second=second)
    found = judge.open_judge(tmp_path, second)
    assert found.attributes == ["Up", "Down"] == list(found.scores)
    assert "600 training images" in (said := capsys.readouterr().out) and "None (0), All (600)" in said
    monkeypatch.setattr(judge, "_fit", None)  # before any work
    for attributes, told in (([], "toy: no list of attributes"), (["All"], r"a (second )?judge needs an attribute")):
        part = replace(data, attributes=attributes, labels=labels[:, 4 - len(attributes) :])
        monkeypatch.setattr(judge, "open_dataset", lambda name, size, part=part: part)
        with pytest.raises(GlowkitError, match=told):
            judge.train_judge(tmp_path, second=second)


@KINDS
def test_the_bundled_judge_agrees_with_the_renderer(second):
    """On true counterfactuals, which it never saw: the same face with and without a smile or glasses."""
    found = judge.open_judge("faces64", second)
    drawn = faces.factors(range(58_000, 58_060))
    for attribute in ("Smiling", "Eyeglasses"):
        for value in (True, False):
            said = found.says(faces.render(faces.counterfactual(drawn, **{attribute: value}), 64), attribute)
            assert (said == value).mean() >= 0.9, (attribute, value)
