"""Data sets: the procedural one and its cache on disk, and CelebA trees cropped on the fly."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from glowkit import celeba, dataset, faces
from glowkit.errors import GlowkitError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with blocks of 8 faces so that a test renders little."""
    monkeypatch.setenv("GLOWKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset, "block_length", lambda size: 8)
    return tmp_path / "cache"


@pytest.fixture
def rendered(monkeypatch):
    """The faces that the renderer was asked for."""
    asked, render = [], faces.render
    monkeypatch.setattr(faces, "render", lambda f, size: (asked.extend(f.indices.tolist()), render(f, size))[1])
    return asked


# ------------------------------------------------------------------------------------------ procedural faces


def test_procedural_faces_are_those_of_the_renderer(cache):
    d = dataset.open_dataset("faces32")
    assert (len(d), d.name, d.size) == (60_000, "faces32", 32)
    drawn = faces.factors(np.arange(60_000), seed=0)
    assert d.attributes == list(faces.ATTRIBUTES) and (d.labels == drawn.attributes).all()
    assert np.allclose(d.landmarks[:50], faces.landmarks(drawn[:50], 32))
    for split, first, last in (("train", 0, 49_999), ("valid", 50_000, 54_999), ("test", 55_000, 59_999)):
        indices = d.subset(split)
        assert (indices == np.arange(first, last + 1)).all()
    people = [set(d.identities[d.subset(split)]) for split in ("train", "valid", "test")]
    assert not (people[0] & people[1] or people[1] & people[2] or people[0] & people[2])
    where = np.array([59_999, 3, 17, 3])  # the last block, two others, out of order and twice
    x = d.images(where)
    assert x.shape == (4, 3, 32, 32) and x.dtype == torch.uint8
    assert (x.short() - faces.render(drawn[where], 32).short()).abs().max() <= 1
    assert torch.equal(d.images(range(2, 5))[1], x[1]) and torch.equal(d.images(slice(3, 4)), x[1:2])


def test_the_name_says_the_size(cache):
    assert dataset.open_dataset("faces64", size=64).size == 64
    with pytest.raises(GlowkitError, match="open faces32 instead"):
        dataset.open_dataset("faces64", size=32)
    with pytest.raises(GlowkitError, match="32 to 256 pixels"):
        dataset.open_dataset("faces16")


def test_blocks_are_rendered_once_and_read_ever_after(cache, rendered):
    first = dataset.open_dataset("faces32").images([1, 9])
    assert rendered == list(range(16))
    assert torch.equal(dataset.open_dataset("faces32").images([1, 9]), first)
    assert len(rendered) == 16
    assert not list(cache.rglob("*.part*"))


@pytest.mark.parametrize("damage", ["cut short", "empty", "a flipped bit", "other shape", "a pickle", "a long header"])
def test_a_damaged_block_is_rendered_again(cache, rendered, damage):
    first = dataset.open_dataset("faces32").images(range(8))
    (block,) = cache.rglob("*.npy")
    good = block.read_bytes()
    if damage == "cut short":
        block.write_bytes(good[:-100])
    if damage == "empty":
        block.write_bytes(b"")
    if damage == "a flipped bit":
        block.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    if damage == "other shape":
        np.save(block, np.zeros((8, 3, 16, 16), np.uint8))
    if damage == "a long header":
        block.write_bytes(good[:8] + b"\xff\xff" + 2**16 * b"-" + good[128:])
    if damage == "a pickle":
        np.save(block, np.array([{}], dtype=object), allow_pickle=True)
    assert torch.equal(dataset.open_dataset("faces32").images(range(8)), first)
    assert len(rendered) == 16 and block.read_bytes() == good


def test_another_renderer_has_another_cache(cache, monkeypatch, tmp_path):
    one = dataset.open_dataset("faces32")._pixels.folder
    source = tmp_path / "rendering.py"
    source.write_text("another renderer")
    monkeypatch.setattr(faces, "__file__", str(source))
    assert dataset.open_dataset("faces32")._pixels.folder != one
    assert one.parent == cache


def test_a_block_is_about_twelve_megabytes_at_any_size():
    for size in (32, 64, 128, 256):
        assert 3 <= dataset.block_length(size) * 3 * size**2 / 1e6 <= 13
        assert 60_000 / dataset.block_length(size) <= 1000
    assert dataset.block_length(64) == 1000


def test_indices_out_of_range_are_refused(cache):
    d = dataset.open_dataset("faces32")
    for indices in ([-1], [60_000]):
        with pytest.raises(GlowkitError, match="images 0 to 59999"):
            d.images(indices)
    assert d.images([]).shape == (0, 3, 32, 32)
    with pytest.raises(GlowkitError, match="train, valid, test"):
        d.subset("holdout")


def test_procedural_faces_can_be_drawn_again_with_a_factor_changed(cache):
    d = dataset.open_dataset("faces32")
    where = [55_000, 3]
    assert d.kind == dataset.PROCEDURAL and (d.factors(where)["Smiling"] == d.has("Smiling")[where]).all()
    smiling = d.counterfactual(where, Smiling=True)
    expected = faces.render(faces.counterfactual(faces.factors(where, seed=0), Smiling=True), 32)
    assert torch.equal(smiling, expected) and smiling.dtype == torch.uint8
    same = d.counterfactual(slice(3, 4), Smiling=d.has("Smiling")[3])
    assert (same.short() - d.images([3]).short()).abs().max() <= 1
    with pytest.raises(GlowkitError, match="images 0 to 59999"):
        d.counterfactual([60_000], Smiling=True)
    with pytest.raises(GlowkitError, match="unknown factor 'Smirking'"):
        d.counterfactual([0], Smirking=True)
    with pytest.raises(GlowkitError, match="attribute 'Smirking': faces32 has 5_o_Clock_Shadow"):
        d.has("Smirking")


def test_faces_are_drawn_on_a_device_without_the_cache(cache):
    d = dataset.open_dataset("faces32")
    where = np.array([59_999, 3, 3])
    assert torch.equal(d.draw(where, "cpu"), faces.render(d.factors(where), 32))
    # Of another seed, and beyond the set.
    expected = faces.render(faces.factors([70_000, 3], seed=9), 32)
    assert torch.equal(d.draw([70_000, 3], torch.device("cpu"), seed=9), expected)
    assert not torch.equal(d.draw([3], "cpu", seed=9), d.draw([3], "cpu"))
    # The device of shapes alone refuses whatever lies on another.
    drawn = d.draw(range(5), "meta")
    assert (drawn.device.type, drawn.shape, drawn.dtype) == ("meta", (5, 3, 32, 32), torch.uint8)
    assert not cache.exists()


# ----------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize("name", ["faces_mine", "faces", "faces64x", "./faces64"])
def test_a_tree_in_a_folder_called_faces_holds_photographs(tree, name, monkeypatch):
    (tree.parent / "elsewhere").mkdir()
    monkeypatch.chdir(tree.parent / "elsewhere")
    tree.rename(name)
    assert dataset.kind_of(name) == dataset.PHOTOGRAPHS
    d = dataset.open_dataset(name, 32)
    assert d.kind == dataset.PHOTOGRAPHS and len(d) == 10
    assert (d.has("Male") == d.labels[:, 0]).all()
    for ask in (lambda: d.counterfactual([0], Smiling=True), lambda: d.factors([0]), lambda: d.draw([0], "cpu")):
        with pytest.raises(GlowkitError, match=f"^{d.name}: photographs have no known factors"):
            ask()
    assert dataset.kind_of("faces64") == dataset.PROCEDURAL


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 11)]
    rng = np.random.default_rng(0)
    for name in names:
        noise = Image.fromarray(rng.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        noise.resize((178, 218), Image.Resampling.BICUBIC).save(folder / "img_align_celeba" / name)
    labels = rng.random((10, 2)) < 0.5
    celeba.write_annotations(folder, names, ["Male", "Smiling"], labels, splits=[0] * 6 + [1] * 2 + [2] * 2)
    return folder


def test_a_tree_is_cropped_on_the_fly_and_kept(tree, monkeypatch):
    d = dataset.open_dataset(tree, size=48)
    t = celeba.read(tree)
    assert (len(d), d.size, d.attributes) == (10, 48, ["Male", "Smiling"])
    assert (d.labels == t.labels).all() and d.landmarks is None and d.identities is None
    assert d.subset("valid").tolist() == [6, 7]
    x = d.images([7, 2, 7])
    expected = torch.stack([t.crop(i, 48) for i in (7, 2, 7)])
    assert torch.equal(x, expected)
    x[0] = 0  # what a caller does with the images is no matter of the cache
    monkeypatch.setattr(celeba.Tree, "crop", None)
    assert torch.equal(d.images([7, 2, 7]), expected)


def test_crops_are_made_once_while_they_fit_the_memory(tree, monkeypatch):
    crops, crop = [], celeba.Tree.crop
    monkeypatch.setattr(celeba.Tree, "crop", lambda self, i, size: (crops.append(i), crop(self, i, size))[1])
    d = dataset.open_dataset(tree)
    assert d.size == 64
    kept = d.images([1, 2, 1]), d.images([2, 1])
    assert sorted(crops) == [1, 2] and torch.equal(kept[0][1], kept[1][0])
    monkeypatch.setattr(dataset, "MEMORY_LIMIT", 1000)
    small = dataset.open_dataset(tree)
    assert torch.equal(small.images([2, 1]), kept[1]) and torch.equal(small.images([2, 1]), kept[1])
    assert len(crops) == 6


def test_without_a_partition_people_are_split(tree):
    (tree / "list_eval_partition.txt").unlink()
    many = replace(celeba.read(tree), identities=np.random.default_rng(0).integers(0, 10_177, 20_000))
    splits = celeba.own_splits(many)
    assert all(len(set(splits[many.identities == person])) <= 1 for person in range(0, 10_177, 10))
    assert np.allclose(np.bincount(splits) / 20_000, (0.8, 0.1, 0.1), atol=0.02)
    # The draw is a person's own: it is the same in any part of the set.
    part = replace(many, identities=many.identities[5000:6000])
    assert (celeba.own_splits(part) == splits[5000:6000]).all()


def test_celeba_is_the_tree_of_the_environment(tree, monkeypatch):
    monkeypatch.delenv("GLOWKIT_CELEBA", raising=False)
    with pytest.raises(GlowkitError, match="set GLOWKIT_CELEBA"):
        dataset.open_dataset("celeba")
    monkeypatch.setenv("GLOWKIT_CELEBA", str(tree))
    assert torch.equal(dataset.open_dataset("celeba", 32).images([2]), dataset.open_dataset(tree, 32).images([2]))


def test_a_folder_called_celeba_is_taken_unless_another_is_named(tree, monkeypatch):
    monkeypatch.delenv("GLOWKIT_CELEBA", raising=False)
    monkeypatch.chdir(tree.rename(tree.parent / "celeba").parent)
    assert dataset.open_dataset("celeba", 32).images([2]).any()
    monkeypatch.setenv("GLOWKIT_CELEBA", str(tree.parent / "celeba"))
    assert len(dataset.open_dataset("celeba")) == 10
    monkeypatch.setenv("GLOWKIT_CELEBA", "/elsewhere")
    with pytest.raises(GlowkitError, match="GLOWKIT_CELEBA, /elsewhere; give ./celeba or that path"):
        dataset.open_dataset("celeba")
    assert len(dataset.open_dataset("./celeba")) == 10


def test_a_tree_in_a_folder_called_faces64_is_asked_for_as_such(tree, cache, monkeypatch):
    monkeypatch.chdir(tree.parent)
    (tree.parent / "faces32").mkdir()  # of a model, say
    assert dataset.open_dataset("faces32").kind == dataset.PROCEDURAL
    tree.rename("faces64")
    with pytest.raises(GlowkitError, match="faces64: means procedural faces, .* give ./faces64 for that"):
        dataset.open_dataset("faces64")
    assert dataset.open_dataset("./faces64").name == "./faces64"


def test_the_home_folder_may_be_written_short(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(dataset.open_dataset("~/tree")) == 10
    monkeypatch.setenv("GLOWKIT_CELEBA", "~/tree")
    monkeypatch.setenv("GLOWKIT_CACHE", "~/cache")
    assert len(dataset.open_dataset("celeba")) == 10 and dataset.cache_folder() == tmp_path / "cache"
    faces.write_tree("~/faces", 1, 32)
    assert (tmp_path / "faces" / "img_celeba").is_dir()


def test_without_partition_and_people_file_order_splits(tree):
    (tree / "list_eval_partition.txt").unlink()
    d = dataset.open_dataset(tree)
    assert [d.subset(split).tolist() for split in ("train", "valid", "test")] == [[*range(8)], [8], [9]]


def test_errors_of_a_tree_name_the_file(tree, tmp_path):
    image = tree / "img_align_celeba" / "000003.jpg"
    image.write_bytes(b"hello")
    d = dataset.open_dataset(tree)
    d.images([0, 1])
    with pytest.raises(GlowkitError, match=f"{image}: not an image"):
        d.images([1, 2])
    with pytest.raises(GlowkitError, match="no such file or folder"):
        dataset.open_dataset(tmp_path / "nowhere")
    with pytest.raises(GlowkitError, match="size 0"):
        dataset.open_dataset(tree, size=0)


def test_a_procedural_tree_opens_like_any_other(tmp_path):
    d = dataset.open_dataset(faces.write_tree(tmp_path / "tree", 5, size=32), size=32)
    assert d.images(range(5)).shape == (5, 3, 32, 32) and d.landmarks.shape == (5, 5, 2)
    assert (d.labels == faces.factors(range(5)).attributes).all() and len(d.identities) == 5


# --------------------------------------------------------------------------------------- the package's names


def test_importing_the_package_is_light_and_its_names_are_there():
    code = (
        "import sys, glowkit; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules);"
        "glowkit.open_dataset, glowkit.load, glowkit.Glow, glowkit.GlowConfig, glowkit.open_study;"
        "glowkit.training.make_step, glowkit.celeba.crop; assert 'load' in dir(glowkit);"
        "assert not hasattr(glowkit, 'nothing') and not hasattr(glowkit, '_nothing')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
