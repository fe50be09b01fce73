"""Procedural faces: determinism, statistics, counterfactuals, geometry, trees, each checked independently."""

import errno
import resource
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from glowkit import faces
from glowkit.errors import GlowkitError
from glowkit.faces.rendering import paint

# CelebA's own shares of positives over its 202,599 images, in percent (Liu et al., 2015)
CELEBA = {
    "5_o_Clock_Shadow": 11.11, "Arched_Eyebrows": 26.70, "Bags_Under_Eyes": 20.46, "Bald": 2.24,
    "Bangs": 15.16, "Big_Lips": 24.08, "Big_Nose": 23.45, "Black_Hair": 23.93, "Blond_Hair": 14.80,
    "Brown_Hair": 20.52, "Bushy_Eyebrows": 14.22, "Chubby": 5.76, "Double_Chin": 4.67, "Eyeglasses": 6.51,
    "Goatee": 6.28, "Gray_Hair": 4.20, "Heavy_Makeup": 38.69, "High_Cheekbones": 45.50, "Male": 41.68,
    "Mouth_Slightly_Open": 48.34, "Mustache": 4.15, "Narrow_Eyes": 11.51, "No_Beard": 83.49,
    "Oval_Face": 28.41, "Pale_Skin": 4.29, "Pointy_Nose": 27.74, "Receding_Hairline": 7.98,
    "Rosy_Cheeks": 6.57, "Sideburns": 5.65, "Smiling": 48.21, "Straight_Hair": 20.84, "Wavy_Hair": 31.96,
    "Wearing_Earrings": 18.89, "Wearing_Hat": 4.85, "Wearing_Lipstick": 47.24, "Wearing_Necktie": 7.27,
    "Young": 77.36,
}  # fmt: skip


@pytest.fixture(scope="module")
def many():
    return faces.factors(np.arange(20_000))


def same(a: faces.Factors, b: faces.Factors) -> bool:
    return np.array_equal(a.attributes, b.attributes) and np.array_equal(a.continuous, b.continuous)


def test_access_is_random():
    assert same(faces.factors([7]), faces.factors(range(10))[7])
    assert same(faces.factors([9, 2]), faces.factors(range(10))[np.array([9, 2])])
    assert not same(faces.factors([7], seed=1), faces.factors([7], seed=0))


def test_hash_is_the_same_everywhere():
    # splitmix64 in plain Python integers
    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    expected = (mix((mix(mix(3) + 12_345) + zlib.crc32(b"light_x")) % 2**64) >> 11) / 2**53
    assert faces.factors([12_345], seed=3)["light_x"][0] == expected


def test_marginals_are_celebas(many):
    assert set(CELEBA) == set(faces.ATTRIBUTES)
    for name in faces.ATTRIBUTES:
        assert abs(100 * many[name].mean() - CELEBA[name]) < 2, name


def test_impossible_faces_are_not_drawn(many):
    beards = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
    for name in (*beards, "Bald", "Wearing_Necktie"):
        assert not (many[name] & ~many["Male"]).any(), name
    assert np.array_equal(np.any([many[name] for name in beards], 0), ~many["No_Beard"])
    assert (
        np.sum([many[name] for name in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald")], 0).max() == 1
    )
    assert np.sum([many[name] for name in ("Bald", "Bangs", "Receding_Hairline", "Wearing_Hat")], 0).max() == 1
    assert not (many["Straight_Hair"] & many["Wavy_Hair"]).any()
    assert not (many["Gray_Hair"] & many["Young"]).any()
    assert many["Wearing_Lipstick"][many["Male"]].mean() < 0.02
    assert (
        many["Mouth_Slightly_Open"][many["Smiling"]].mean() > 2 * many["Mouth_Slightly_Open"][~many["Smiling"]].mean()
    )


def test_identities_share_bones_not_pose(many):
    one = many[many.identities == 5]
    assert len(one) == 4
    assert len(np.unique(one["Male"])) == len(np.unique(one["face_width"])) == 1
    assert len(np.unique(one["yaw"])) == 4
    bounds = many.identities[[49, 50]]  # numbers rise with the index, so cuts at multiples of 4 separate people
    assert bounds[0] <= bounds[1] and 50_000 % 4 == 55_000 % 4 == 0


def test_pixels_do_not_depend_on_the_batch():
    f = faces.factors(range(40))
    together = faces.render(f, 64).int()
    alone = torch.cat([faces.render(f[i], 64) for i in (0, 17, 39)]).int()
    assert (together[[0, 17, 39]] - alone).abs().max() <= 1


def test_a_picture_is_painted_on_its_device_alone():
    """On the device of shapes, which refuses whatever lies on another."""
    f = faces.factors(range(3))
    x = faces.render(f, 48, device="meta")
    assert (x.device.type, x.shape, x.dtype) == ("meta", (3, 3, 48, 48), torch.uint8)
    grid = torch.rand(3, 1, 5, 5, device="meta")
    assert paint(f, grid, grid, torch.rand(3, 1, 1, 1, device="meta")).shape == (3, 3, 5, 5)
    with pytest.raises(RuntimeError, match="device"):
        paint(f, grid, grid, torch.rand(3, 1, 1, 1))
    with torch.device("meta"):  # wherever the caller puts its own tensors
        assert faces.render(f[:1], 32).device.type == "cpu"
    assert torch.empty(0).device.type == "cpu"


def test_resolutions_agree():
    f = faces.factors(range(0, 64, 4))
    small = faces.render(f, 64).float()
    pooled = torch.nn.functional.avg_pool2d(faces.render(f, 128).float(), 2)
    assert (small - pooled).abs().mean() < 2  # grey levels
    assert ((small - pooled) ** 2).mean().sqrt() < 6


@pytest.mark.parametrize("size", [32, 256])
def test_sizes(size):
    x = faces.render(faces.factors([0, 1]), size)
    assert x.shape == (2, 3, size, size) and x.dtype == torch.uint8


def test_smiling_changes_the_mouth_alone():
    f = faces.factors(range(0, 80, 4))
    off, on = (faces.render(faces.counterfactual(f, Smiling=value), 64).int() for value in (False, True))
    change = (on - off).abs().amax(1).float().mean(0)  # (64, 64)
    assert change[:20].max() == 0 and change[:, :6].max() == 0 and change[:, -6:].max() == 0
    assert change[44:56, 22:42].mean() > 8


def test_every_attribute_shows():
    f = faces.factors(range(0, 160, 4))
    f = faces.counterfactual(f, Male=True, Bald=False, Wearing_Hat=False, Eyeglasses=False)
    for name in faces.ATTRIBUTES:
        off, on = (faces.render(faces.counterfactual(f, **{name: value})[:12], 64).int() for value in (False, True))
        assert (on - off).abs().flatten(1).max(1).values.float().median() >= 12, name


def test_counterfactuals_are_consistent(many):
    f = many[:2000]
    women = faces.counterfactual(f, Male=False)
    assert not women["Male"].any() and not women["Mustache"].any() and women["No_Beard"].all()
    black = faces.counterfactual(f, Black_Hair=True)
    assert black["Black_Hair"].all() and not (black["Blond_Hair"] | black["Gray_Hair"] | black["Bald"]).any()
    assert np.array_equal(black.continuous, f.continuous)
    assert faces.counterfactual(f, No_Beard=False)["5_o_Clock_Shadow"].sum() >= f["No_Beard"].sum()
    turned = faces.counterfactual(f, yaw=0.3)
    assert (turned["yaw"] == 0.3).all() and np.array_equal(turned.attributes, f.attributes)
    mixed = faces.counterfactual(f[:2], Smiling=np.array([True, False]))
    assert mixed["Smiling"].tolist() == [True, False]
    assert same(faces.counterfactual(f), f)


def test_bad_input_is_one_line():
    f = faces.factors([0])
    with pytest.raises(GlowkitError, match="Smirking.*Smiling.*yaw"):
        faces.counterfactual(f, Smirking=True)
    with pytest.raises(GlowkitError, match="yaw"):
        faces.counterfactual(f, yaw=2.0)
    with pytest.raises(GlowkitError, match="32 .. 256"):
        faces.render(f, 16)
    with pytest.raises(GlowkitError, match="non-negative"):
        faces.factors([-1])
    for seed in (10**20, 2**64, -(2**63) - 1):
        with pytest.raises(GlowkitError, match=f"seed {seed}: give a whole number of up to 64 bits"):
            faces.factors([0], seed)
    for n in (0, 1_000_001, 10**20):
        with pytest.raises(GlowkitError, match=f"n = {n}: a tree has 1 to 1,000,000 faces"):
            faces.write_tree("nowhere", n)


def dark_spots(picture: torch.Tensor, points: np.ndarray, reach: float) -> np.ndarray:
    """Centre of darkness near each of two points: (2, 2)."""
    grey = picture.float().mean(0).numpy()
    yy, xx = np.mgrid[: grey.shape[0], : grey.shape[1]]
    out = []
    for x, y in points:
        near = (xx - x) ** 2 + (yy - y) ** 2 < reach**2
        weight = np.where(near, np.clip(70 - grey, 0, None), 0)
        out.append(((weight * xx).sum() / weight.sum(), (weight * yy).sum() / weight.sum()))
    return np.array(out)


def clear_eyed(n: int) -> faces.Factors:
    f = faces.counterfactual(
        faces.factors(range(0, 4 * n, 4)),
        Eyeglasses=False,
        Narrow_Eyes=False,
        Heavy_Makeup=False,
        Male=True,
        skin_tone=0.1,
    )
    return faces.counterfactual(f, eye_colour=0.8, gaze=0.5)


def test_landmarks_are_where_the_pupils_are():
    f = clear_eyed(12)
    points = faces.landmarks(f, 256)
    assert points.shape == (12, 5, 2)
    assert np.allclose((points[:, 0] + 0.5) / 256, (0.371, 0.480)) and np.allclose(
        (points[:, 1] + 0.5) / 256, (0.629, 0.480)
    )
    for picture, truth in zip(faces.render(f, 256), points, strict=True):
        assert np.abs(dark_spots(picture, truth[:2], 5) - truth[:2]).max() < 4  # of 256 pixels


def test_mouth_corners_frame_the_change_of_lipstick():
    f = faces.counterfactual(faces.factors(range(0, 40, 4)), Male=False, Smiling=True)
    off, on = (
        faces.render(faces.counterfactual(f, Wearing_Lipstick=v, Heavy_Makeup=False), 256).int() for v in (False, True)
    )
    for change, (left, right) in zip((on - off).abs().amax(1) > 2, faces.landmarks(f, 256)[:, 3:], strict=True):
        columns = np.flatnonzero(change.any(0).numpy())
        assert abs(columns[0] - left[0]) < 8 and abs(columns[-1] - right[0]) < 8


def test_similarity_moves_the_landmarks_with_the_picture():
    f = clear_eyed(3)
    for i in range(3):
        picture, points = faces.render_similar(f[i], 220, 0.3, (190.0, 150.0), 400, 360)
        assert picture.shape == (3, 360, 400)
        assert np.abs(dark_spots(picture, points[:2], 5) - points[:2]).max() < 4


def read_list(path, header: bool):
    """An independent reader of CelebA's lists."""
    lines = path.read_text().splitlines()
    columns = lines[1].split() if header else None
    rows = [line.split() for line in lines[2 if header else 0 :]]
    assert not header or int(lines[0]) == len(rows)
    return columns, [row[0] for row in rows], np.array([[int(v) for v in row[1:]] for row in rows])


def test_tree_is_a_celeba_tree(tmp_path):
    out = faces.write_tree(tmp_path / "tree", 12, 64, 0)
    names = [f"{i:06d}.jpg" for i in range(1, 13)]
    f = faces.factors(range(12))
    columns, files, values = read_list(out / "list_attr_celeba.txt", True)
    assert tuple(columns) == faces.ATTRIBUTES and files == names
    assert np.array_equal(values == 1, f.attributes) and set(np.unique(values)) == {-1, 1}
    assert np.array_equal(read_list(out / "identity_CelebA.txt", False)[2][:, 0], np.repeat([1, 2, 3], 4))
    partition = read_list(out / "list_eval_partition.txt", False)[2][:, 0]
    assert set(partition) <= {0, 1, 2} and all(len(set(partition[k : k + 4])) == 1 for k in (0, 4, 8))
    _, _, aligned = read_list(out / "list_landmarks_align_celeba.txt", True)
    assert np.abs(aligned[:, :4] - (69.5, 111.5, 108.5, 111.5)).max() <= 1
    _, _, wild = read_list(out / "list_landmarks_celeba.txt", True)
    columns, _, boxes = read_list(out / "list_bbox_celeba.txt", True)
    assert columns == ["image_id", "x_1", "y_1", "width", "height"]
    for name, points, (x, y, w, h) in zip(names, wild.reshape(-1, 5, 2), boxes, strict=True):
        assert Image.open(out / "img_align_celeba" / name).size == (178, 218)
        width, height = Image.open(out / "img_celeba" / name).size
        assert (points > 0).all() and (points < (width, height)).all()
        assert (points > (x, y)).all() and (points < (x + w, y + h)).all()


def test_tree_never_overwrites(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(GlowkitError, match="not an empty folder"):
        faces.write_tree(tmp_path / "full", 2, 64, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_failed_tree_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(faces.tree, "_in_the_wild", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        faces.write_tree(tmp_path / "tree", 2, 64, 0)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_tree_left_goes_with_the_next(tmp_path):
    script = (
        "import os, sys; from glowkit.faces import tree; count = iter(range(9)); save = tree._save;"
        "tree._save = lambda *a: save(*a) if next(count) < 3 else os.kill(os.getpid(), 9);"
        "tree.write_tree(sys.argv[1], 4, 32)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "tree")], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    (unfinished,) = tmp_path.iterdir()
    assert len(list(unfinished.rglob("*.jpg"))) == 3
    faces.write_tree(tmp_path / "tree", 1, 32)
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


def test_a_full_disk_is_told_with_the_tree(tmp_path):
    """The system itself refuses to write on."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            faces.write_tree(tmp_path / "tree", 1, 32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert caught.value.filename.startswith(str(tmp_path)) and caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_face_detector_finds_them():
    pytest.importorskip("cv2")
    from haar import found

    assert found(np.arange(150)).mean() >= 0.95
