"""The published numbers: complete, coherent, and told from a part or a stand-in."""

import hashlib

import numpy as np

from glowkit import celeba, faces
from glowkit.celeba import facts


def test_forty_attributes_in_order():
    assert len(facts.SHARES) == facts.COUNTS["attributes"] == 40
    assert list(facts.SHARES) == sorted(facts.SHARES)  # CelebA's own order
    assert set(faces.ATTRIBUTES) < set(facts.SHARES)
    assert all(0 < share < 100 for share in facts.SHARES.values())


def test_correlations_are_some():
    attributes, matrix, n = facts.correlations()
    assert attributes == list(facts.SHARES) and matrix.shape == (40, 40) and n == 21_164
    assert np.array_equal(matrix, matrix.T) and np.all(matrix.diagonal() == 1)
    assert np.linalg.eigvalsh(matrix).min() > -0.05  # two decimals from a positive matrix
    # what any face set must have
    at = {(a, b): matrix[attributes.index(a), attributes.index(b)] for a in attributes for b in attributes}
    assert at["Goatee", "No_Beard"] < -0.4 < 0.4 < at["Heavy_Makeup", "Wearing_Lipstick"]
    # two shares bound the correlation of what excludes each other: they cannot be less
    p, q = (facts.SHARES[name] / 100 for name in ("Straight_Hair", "Wavy_Hair"))
    assert at["Straight_Hair", "Wavy_Hair"] > -np.sqrt(p * q / ((1 - p) * (1 - q))) - 0.02


def test_counts_of_a_tree(tmp_path):
    tree = celeba.read(faces.write_tree(tmp_path / "tree", 8, 32))
    assert facts.counts(tree) == {"images": 8, "identities": 2, "landmarks": 5, "attributes": 37}


def test_official_files_are_known_by_their_sums(tmp_path, monkeypatch):
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno" / "identity_CelebA.txt").write_bytes(b"000001.jpg 1\n")
    (tmp_path / "list_attr_celeba.txt").write_bytes(b"1\n")
    monkeypatch.setitem(facts.MD5, "list_attr_celeba.txt", hashlib.md5(b"1\n").hexdigest())
    assert facts.official(tmp_path) == {"list_attr_celeba.txt": True, "identity_CelebA.txt": False}
