"""The streaming study against everything held in memory at once, in float64 NumPy."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from celeba_trees import picture
from safetensors.torch import save_file

from glowkit import checkpoint, randomness, study
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.flow import Glow, GlowConfig


def toy_dataset(size: int = 16) -> Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 3, size, size), dtype=np.uint8)
    splits = np.repeat(np.arange(3, dtype=np.uint8), (200, 30, 70))
    labels = rng.random((300, 3)) < (0.5, 0.2, 0.05)
    pixels[labels[:, 0], 0] //= 2  # something to find
    people = np.arange(300) // 2
    return Dataset("toy", size, ["Half", "Some", "Rare"], labels, splits, None, people, lambda i: pixels[i])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 2, 2, 8, "additive"))
    model.initialise(toy_dataset().images(range(32)))
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    checkpoint.save(model, folder, "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "open_dataset", lambda name, size: toy_dataset(size))
        study.write_study(folder, n=180, held_out=50)
    return checkpoint.load(folder), study.open_study(folder), folder


def test_means_and_class_means(made):
    model, found, _ = made
    data = toy_dataset()
    x = data.images(range(180))
    z, y = model.encode(x).double().numpy(), data.labels[:180]
    assert found.n == 180 and found.attributes == data.attributes
    assert np.allclose(found.mean, z.mean(0), atol=1e-5)
    assert np.allclose(found.variance, z.var(0), atol=1e-4)
    pixels = model.quantise(x).flatten(1).double().numpy()
    for i, attribute in enumerate(data.attributes):
        assert found.count(attribute) == y[:, i].sum()
        for positive in (True, False):
            here = y[:, i] == positive
            assert np.allclose(found.class_mean(attribute, positive, "centres"), z[here].mean(0), atol=2e-3)
            assert np.allclose(found.pixel_class_mean(attribute, positive), pixels[here].mean(0), atol=5e-4)
        direction = z[y[:, i]].mean(0) - z[~y[:, i]].mean(0)
        assert np.allclose(found.direction(attribute, "centres"), direction, atol=4e-3)
        halves = []
        for half in (0, 1):
            a, b = z[half::2], y[half::2, i]
            halves.append(a[b].mean(0) - a[~b].mean(0))
        cosine = halves[0] @ halves[1] / np.linalg.norm(halves[0]) / np.linalg.norm(halves[1])
        assert found.reliability(attribute, "centres") == pytest.approx(cosine, abs=1e-4)


def test_noisy_means_are_those_of_averaged_draws(made):
    """By hand: the draws' latents, image by image, from the same streams, batch by batch."""
    model, found, _ = made
    data = toy_dataset()
    x, y = data.images(range(180)), data.labels[:180]
    draws = [
        np.concatenate([
            model.encode(x[start : start + study.BATCH], randomness.stream(1 + k, start)).double().numpy()
            for start in range(0, 180, study.BATCH)
        ])
        for k in range(2)
    ]  # fmt: skip
    z = np.mean(draws, axis=0)
    assert found.draws == 2 and found.encoding == "noise"
    mean, variance = found.moments()
    assert np.allclose(mean, z.mean(0), atol=1e-5) and np.allclose(variance, z.var(0), atol=1e-4)
    within = np.square(draws[0] - draws[1]).mean(0) / 2
    for attribute, has in zip(data.attributes, y.T, strict=True):
        direction = z[has].mean(0) - z[~has].mean(0)
        assert np.allclose(found.direction(attribute), direction, atol=4e-3)
        floor = within.sum() / 2 * (1 / has.sum() + 1 / (~has).sum())
        assert found.noise_part(attribute) == pytest.approx(floor / np.square(direction).sum(), rel=1e-2)
    kept = np.arange(180) // 2 % 4 == 0
    a, b = (z[kept][h::2][y[kept][h::2, 0]].mean(0) - z[kept][h::2][~y[kept][h::2, 0]].mean(0) for h in (0, 1))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.reliability_curve("Half")[int(y[kept][:, 0].sum())] == pytest.approx(cosine, abs=1e-4)


def test_without_draws_only_bin_centres_are_known(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made[2], tmp_path / "model")
    monkeypatch.setattr(study, "open_dataset", lambda name, size: toy_dataset(size))
    study.write_study(folder, n=180, held_out=50, draws=0)
    found = study.open_study(folder)
    assert found.encoding == "centres"
    assert np.array_equal(found.direction("Half"), made[1].direction("Half", "centres"))
    with pytest.raises(GlowkitError, match="'noise'.*was studied with centres"):
        found.direction("Half", "noise")
    with pytest.raises(GlowkitError, match="draws = 1"):
        study.write_study(folder, draws=1)


def test_projections_and_norms_of_held_out_images(made):
    model, found, _ = made
    data = toy_dataset()
    assert found.held_out.tolist() == data.subset("test")[:50].tolist()
    assert np.array_equal(found.labels, data.labels[found.held_out])
    x = data.images(found.held_out)
    spaces = {"latent": model.encode(x).numpy(), "pixel": model.quantise(x).flatten(1).numpy()}
    for space, vectors in spaces.items():
        for i, attribute in enumerate(data.attributes):
            if space == "latent":
                means = found.class_mean(attribute, encoding="centres")
                lines = {"opposite": found.direction(attribute, "centres"), "zero": means}
            else:
                lines = {"opposite": found.pixel_direction(attribute), "zero": found.pixel_class_mean(attribute)}
            for kind, line in lines.items():
                expected = vectors @ (line / np.linalg.norm(line))
                assert np.allclose(found.projections[space][kind][:, i], expected, atol=1e-3, rtol=1e-3)
    for i, where in enumerate(model.level_slices):
        assert np.allclose(found.norms["centres"][:, i], np.linalg.norm(spaces["latent"][:, where], axis=1), atol=1e-3)
    whole = {key: np.sqrt((norms**2).sum(1)) for key, norms in found.norms.items()}
    assert not np.allclose(whole["noise"], whole["centres"])
    assert np.allclose(whole["noise"], whole["centres"], rtol=0.2)


def test_sides_are_read_on_the_other_half_of_the_people(made):
    model, found, _ = made
    data = toy_dataset()
    assert np.array_equal(found.identities, data.identities[found.held_out])
    z = model.encode(data.images(found.held_out), torch.Generator().manual_seed(0)).double().numpy()
    assert all(len(set(found.halves[found.identities == person])) == 1 for person in set(found.identities))
    for half in (0, 1):
        here = found.halves == half
        assert 20 <= here.sum() <= 30
        assert np.allclose(found.half_means[half], z[here].mean(0), atol=1e-5)
        other = z[~here].mean(0)
        assert np.allclose(found.along_mean[here], z[here] @ other / np.linalg.norm(other), atol=1e-3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """220 pictures as a CelebA tree, 140 for training and 80 held out: three batches and two. Beside it, a model."""
    tree = tmp_path_factory.mktemp("data") / "tree"
    (tree / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 221)]
    for i, name in enumerate(names):
        picture(seed=i).save(tree / "img_align_celeba" / name)
    rows = [f"{name} {1 - 2 * (k % 5 > 1)} {1 - 2 * (k % 3 > 0)}" for k, name in enumerate(names)]
    (tree / "list_attr_celeba.txt").write_text("\n".join(["220", "Male Smiling", *rows]) + "\n")
    splits = [f"{name} {2 * (k >= 140)}\n" for k, name in enumerate(names)]
    (tree / "list_eval_partition.txt").write_text("".join(splits))
    torch.manual_seed(0)
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4)), tree.parent / "model", str(tree))
    return tree


def torchrun(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "glowkit"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[1]
    return subprocess.run([*command, *map(str, arguments)], cwd=root, env=environment, capture_output=True, text=True)


def test_two_processes_find_what_one_does(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shutil.copytree(tree.parent / "model", tmp_path / "two")
    alone, _ = checkpoint.read_tensors(study.write_study(tree.parent / "model"))
    done = torchrun("study", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two" / study.FILE)]
    together, _ = checkpoint.read_tensors(tmp_path / "two" / study.FILE)
    assert alone.keys() == together.keys()
    # Added up in another order, float64 sums differ by some 1e-16: not after rounding to what is stored.
    assert [key for key in alone if not torch.equal(alone[key], together[key])] == []


def test_what_fails_in_one_process_ends_both_with_one_line(tree, tmp_path):
    folder = shutil.copytree(tree, tmp_path / "tree")
    (folder / "img_align_celeba" / "000140.jpg").write_bytes(b"not a picture")  # the second process reads it
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4)), tmp_path / "model", str(folder))
    done = torchrun("study", tmp_path / "model")
    told = [line.split("glowkit: ")[1] for line in done.stderr.splitlines() if "glowkit: " in line]
    assert done.returncode != 0 and len(told) == 1 and "000140.jpg: not an image" in told[0], done.stderr
    assert not (tmp_path / "model" / study.FILE).exists()


def test_an_unknown_attribute_lists_those_there_are(made):
    with pytest.raises(GlowkitError, match="Half, Some, Rare"):
        made[1].direction("Smirking")


def test_a_missing_or_foreign_study_says_how_to_make_one(made, tmp_path):
    model, _, folder = made
    checkpoint.save(model, tmp_path, "toy")
    with pytest.raises(GlowkitError, match="glowkit study"):
        study.open_study(tmp_path)
    (tmp_path / study.FILE).write_bytes((folder / checkpoint.WEIGHTS).read_bytes())
    with pytest.raises(GlowkitError, match="not a study"):
        study.open_study(tmp_path)


def copy_of(folder: Path, to: Path, change) -> Path:
    """A model and its study, which change(tensors, about) has spoiled."""
    shutil.copytree(folder, to)
    tensors, metadata = checkpoint.read_tensors(to / study.FILE)
    about = json.loads(metadata["study"])
    change(tensors, about)
    save_file(tensors, to / study.FILE, {"study": json.dumps(about)})
    return to


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, a: t.pop("variance"), "variance is missing"),
        (lambda t, a: t.update(more=torch.zeros(1)), "'more' is none of its tensors"),
        (lambda t, a: t.update({"latent.mean": torch.zeros(3)}), r"latent.mean has the shape \(3,\), not \(768,\)"),
        (lambda t, a: t.update(labels=t["labels"][:, :2].clone()), r"labels has the shape \(50, 2\), not \(50, 3\)"),
        (lambda t, a: t.update(half=t["half"][:9].clone()), r"half has the shape \(9,\), not \(50,\)"),
        (lambda t, a: t["pixel.class_mean"].fill_(torch.nan), "pixel.class_mean is not finite"),
        (lambda t, a: t["counts"].fill_(181), "counts must be counts from 0 to 180"),
        (lambda t, a: t["counts"].fill_(0.5), "counts must be counts"),
        (lambda t, a: t["variance"].fill_(-1), "variance must be nowhere negative"),
        (lambda t, a: t["latent.mean"].fill_(1e30), r"latent\.mean must be between -1e6 and 1e6 everywhere"),
        (lambda t, a: t["half"].fill_(2), "half must be 0 or 1"),
        (lambda t, a: t.update(counts=t["counts"].double()), "counts is of torch.float64"),
        (lambda t, a: a.update(attributes=["Half", "Some"]), r"not \(2,\)"),
        (lambda t, a: a.update(attributes="Half"), "attributes = 'Half': it must be a list"),
        (lambda t, a: a.update(n="many"), "n = 'many': it must be a whole number"),
        (lambda t, a: a.pop("weights"), "study.weights is missing"),
        (lambda t, a: a.update(weights="0" * 64), "made from other weights"),
    ],
)
def test_a_study_that_is_not_one_of_this_model_is_refused(made, tmp_path, change, says):
    folder = copy_of(made[2], tmp_path / "model", change)
    with pytest.raises(GlowkitError, match=says) as error:
        study.open_study(folder)
    told = str(error.value)
    assert told.startswith(f"{folder / study.FILE}: not a study of this model") and told.count("\n") == 0
    assert told.endswith(f"`glowkit study {folder}`")


def test_a_study_beside_other_weights_is_refused(made, tmp_path):
    folder = copy_of(made[2], tmp_path / "model", lambda t, a: None)
    assert study.open_study(folder).n == 180
    with torch.no_grad():
        other = checkpoint.load(folder)
        next(other.parameters()).add_(1e-3)
    checkpoint.save(other, folder, "toy")
    with pytest.raises(GlowkitError, match="made from other weights than model.safetensors holds"):
        study.open_study(folder)


def test_attributes_that_do_not_vary_are_left_out_and_counted(made, tmp_path, monkeypatch, capsys):
    data = toy_dataset()
    one = np.zeros((300, 1), bool)
    one[6] = True  # in one half of the training images only
    labels = np.concatenate([data.labels, np.ones((300, 1), bool), np.zeros((300, 1), bool), one], 1)
    data = replace(data, attributes=[*data.attributes, "All", "None", "One"], labels=labels)
    monkeypatch.setattr(study, "open_dataset", lambda name, size: data)
    checkpoint.save(made[0], tmp_path, "toy")
    found = study.open_study(study.write_study(tmp_path, n=180, held_out=50).parent)
    assert found.attributes == ["Half", "Some", "Rare"]
    assert np.array_equal(found.direction("Some"), made[1].direction("Some"))
    assert "180 training images" in (said := capsys.readouterr().out) and "All (180), None (0), One (1)" in said
    monkeypatch.setattr(study, "open_dataset", lambda name, size: replace(data, labels=np.ones((300, 6), bool)))
    with pytest.raises(GlowkitError, match=r"needs an attribute .* of the 200 there are, Half \(200\)"):
        study.write_study(tmp_path)
    monkeypatch.setattr(study, "open_dataset", lambda name, size: replace(data, attributes=[], labels=labels[:, :0]))
    with pytest.raises(GlowkitError, match="toy: no list of attributes"):
        study.write_study(tmp_path)


@pytest.mark.parametrize("count", [0, 180])
def test_a_direction_takes_images_with_and_without(made, count):
    found = replace(made[1], counts=np.array([90, count, 9]))
    with pytest.raises(GlowkitError, match=f"'Some': {count} of the 180 images"):
        found.direction("Some")
    assert np.isfinite(found.direction("Half")).all()


def test_no_study_where_another_process_works(made, tmp_path):
    checkpoint.save(made[0], tmp_path, "toy")
    with alone_in(tmp_path), pytest.raises(GlowkitError, match=f"in use by process {os.getpid()}"):
        study.write_study(tmp_path)


@pytest.mark.parametrize("name", ["faces64", "faces128", "celeba64", "linear64"])
def test_the_bundled_studies_are_of_the_bundled_weights_and_vary(name):
    found = study.open_study(name)
    assert ((found.counts > 0) & (found.counts < found.n)).all()
