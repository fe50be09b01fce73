"""Pictures for a chapter: a model's own samples, or a tree whose attributes are put in the study's order."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glowkit import checkpoint, faces, judge, study
from glowkit.book import pictures
from glowkit.dataset import PHOTOGRAPHS, PROCEDURAL, SAMPLES
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an untrained model of "photographs", a study and a judge of five attributes, and a tree."""
    tree = faces.write_tree(tmp_path_factory.mktemp("data") / "tree", 30, size=32)
    partition = tree / "list_eval_partition.txt"
    names = [line.split()[0] for line in partition.read_text().splitlines()]
    partition.write_text("".join(f"{name} {2 * (k >= 20)}\n" for k, name in enumerate(names)))
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    checkpoint.save(Glow(GlowConfig(32, 2, 1, 4)), folder, "celeba")
    study.write_study(folder, data=tree, n=20, held_out=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_fit", lambda *_: None)  # what it says does not matter here, only that it is asked
        patch.setattr(judge, "BATCH", 20)
        judge.train_judge(folder, data=tree)
    return folder, tree


def test_samples_stand_in_for_photographs(made):
    folder, _ = made
    album = pictures.open_pictures(folder)
    centres = torch.from_numpy(pictures.expected_latents(study.open_study(folder), pictures.COUNT))
    noise = torch.randn(centres.shape, generator=torch.Generator().manual_seed(0))
    x = checkpoint.load(folder).decode(centres + pictures.TEMPERATURE * noise)
    assert len(album) == pictures.COUNT and album.subset("test").tolist() == list(range(pictures.COUNT))
    assert (album.images([7, 3]).float() / 255 - x[[7, 3]]).abs().max() <= 0.5 / 255 + 1e-6
    referee = judge.open_judge(folder)
    assert album.attributes == study.open_study(folder).attributes
    said = referee(album.images(range(50))).numpy()[:, [referee.attributes.index(name) for name in album.attributes]]
    assert np.array_equal(album.labels[:50], said > 0.5)
    assert album.identities is None and album.landmarks is None
    assert album.kind == SAMPLES
    with pytest.raises(GlowkitError, match="samples of .*: samples have no known factors"):
        album.counterfactual([0], Smiling=True)


def test_a_model_of_photographs_in_a_folder_called_faces_shows_samples(made, tmp_path, monkeypatch):
    folder, tree = made
    shutil.copytree(tree, tmp_path / "faces_mine")
    shutil.copytree(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "COUNT", 20)
    checkpoint.save(checkpoint.load(folder), tmp_path / "model", "faces_mine")
    assert pictures.open_pictures(tmp_path / "model").kind == SAMPLES
    monkeypatch.setattr(pictures, "ENOUGH", 10)
    assert pictures.open_pictures(tmp_path / "model", "faces_mine").kind == PHOTOGRAPHS


def test_expected_latents_are_the_regression_on_attributes():
    """On planted latents, linear in correlated attributes, against least squares on the latents themselves."""
    rng = np.random.default_rng(0)
    labels = rng.random((4000, 3)) < 0.4
    labels[:, 1] |= labels[:, 0] & (rng.random(4000) < 0.5)
    z = labels @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(4000, 8))
    planted = SimpleNamespace(
        n=len(labels),
        counts=labels.sum(0),
        labels=labels,
        attributes=["a", "b", "c"],
        half_means=np.stack([z[::2].mean(0), z[1::2].mean(0)]),
        direction=lambda name: z[labels[:, "abc".index(name)]].mean(0) - z[~labels[:, "abc".index(name)]].mean(0),
    )
    design = np.column_stack([np.ones(4000), labels])
    fitted = design @ np.linalg.lstsq(design, z, rcond=None)[0]
    assert np.allclose(pictures.expected_latents(planted, 4000), fitted, atol=1e-4)
    assert np.allclose(pictures.expected_latents(planted, 4001)[-1], fitted[0], atol=1e-4)


def test_a_tree_is_read_in_the_order_of_the_study(made, monkeypatch):
    folder, tree = made
    with pytest.raises(GlowkitError, match="10 images in the test split; a chapter needs 1,000"):
        pictures.open_pictures(folder, str(tree))
    monkeypatch.setattr(pictures, "ENOUGH", 10)
    path = tree / "list_attr_celeba.txt"
    count, header, *rows = path.read_text().splitlines()
    name, *signs = zip(*(row.split() for row in rows), strict=True)
    turned = [" ".join(row) for row in zip(name, *signs[::-1], strict=True)]
    path.write_text("\n".join([count, " ".join(header.split()[::-1]), *turned]) + "\n")
    album = pictures.open_pictures(folder, str(tree))
    studied = study.open_study(folder).attributes
    assert album.attributes == studied == [name for name in header.split() if name in studied]
    columns = [header.split().index(name) for name in studied]
    assert np.array_equal(album.labels, np.array(signs).T[:, columns] == "1")
    last, *others = header.split()[::-1]
    shorter = [" ".join(row.split()[:1] + row.split()[2:]) for row in turned]
    path.write_text("\n".join([count, " ".join(others), *shorter]) + "\n")
    with pytest.raises(GlowkitError, match=f"no labels for {last}"):
        pictures.open_pictures(folder, str(tree))


def test_procedural_models_keep_their_faces():
    album = pictures.open_pictures("faces64")
    assert album.name == "faces64" and album.kind == PROCEDURAL
