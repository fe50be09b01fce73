"""What is kept in the cache is read again, and made again where it is damaged."""

import numpy as np
import torch

from glowkit.measures.stage import kept
from glowkit.measures.sweep import FIELDS, Edits, kept_edits


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_latents_are_made_again(tmp_path):
    made, path = [], tmp_path / "new" / "noise.npy"

    def make():
        made.append(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
        return made[-1]

    first = kept(path, make)
    assert kept(path, make).equal(first) and len(made) == 1
    damage(path)
    assert kept(path, make).equal(first) and len(made) == 2


def test_damaged_edits_are_made_again(tmp_path):
    made, path = [], tmp_path / "new" / "Smiling.npz"

    def make():
        made.append(Edits("Smiling", True, "noise", **{key: np.arange(300.0) for key in FIELDS}))
        return made[-1]

    def check(times):
        found = kept_edits(path, "Smiling", True, "noise", make)
        assert len(made) == times and all((getattr(found, key) == np.arange(300)).all() for key in FIELDS)

    check(1)
    check(1)
    damage(path)
    check(2)
