"""A stage small enough for a test: toy pictures of 16 pixels, a flow of them with its study, judges by construction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glowkit import checkpoint, randomness, study
from glowkit.dataset import Dataset
from glowkit.flow import Glow, GlowConfig
from glowkit.measures.stage import ENCODINGS, Stage, batches

TRAINING, VALIDATION, TEST = 300, 60, 160


ATTRIBUTES = ["Left", "Right", "Top", "Bottom", "Red", "Nothing"]
SHARES = (0.5, 0.4, 0.5, 0.3, 0.1, 0.5)


def places(size: int) -> list[tuple]:
    """Which pixels each attribute but the last makes brighter."""
    half, all_ = size // 2, slice(None)
    return [
        (all_, all_, slice(half)), (all_, all_, slice(half, size)), (all_, slice(half), all_),
        (all_, slice(half, size), all_), (slice(1), all_, all_),
    ]  # fmt: skip


def toy_dataset(size: int = 16) -> Dataset:
    """Grey noise, brighter where an attribute says; "Nothing" is a coin. Two pictures of each person."""
    rng = np.random.default_rng(0)
    n = TRAINING + VALIDATION + TEST
    pixels = rng.integers(60, 130, (n, 3, size, size)).astype(np.int16)
    labels = rng.random((n, len(ATTRIBUTES))) < SHARES
    for label, place in zip(labels.T, places(size), strict=False):
        pixels[(label, *place)] += 30
    splits = np.repeat(np.arange(3, dtype=np.uint8), (TRAINING, VALIDATION, TEST))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    return Dataset("toy", size, ATTRIBUTES, labels, splits, None, np.arange(n) // 2, lambda i: pixels[i])


class Rule:
    """A judge that is right by construction: it sees an attribute where its place is bright, and never "Nothing"."""

    attributes = ATTRIBUTES[::-1]

    def __init__(self, threshold: float = 0.45) -> None:
        self.threshold = threshold

    def logits(self, x):
        x = (x / 255 if x.dtype == torch.uint8 else x).nan_to_num(0.0)
        seen = [x[:, place[0]][..., place[1], place[2]].mean((1, 2, 3)) for place in places(x.shape[-1])]
        return 40 * (torch.stack([*seen, torch.zeros(len(x))], 1).flip(1) - self.threshold)

    def __call__(self, x):
        return self.logits(x).sigmoid()

    def says(self, x, attribute):
        return (self.logits(x)[:, self.attributes.index(attribute)] > 0).numpy()


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("model"), toy_dataset()
    torch.manual_seed(0)
    flow = Glow(GlowConfig(16, 2, 1, 8, "additive"))
    flow.initialise(data.images(range(64)))
    checkpoint.save(flow, folder, "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "open_dataset", lambda name, size: data)
        study.write_study(folder, n=TRAINING, held_out=50)
    where = data.subset("test")
    made = Stage(
        "toy", checkpoint.load(folder), study.open_study(folder), (Rule(), Rule(0.47)), data, where, data.attributes,
        data.labels[where], data.identities[where], data.images(where), {}, tmp_path_factory.mktemp("stage"),
    )  # fmt: skip
    for encoding in ENCODINGS:
        x = [made.pixels(rows, encoding) - 0.5 for rows in batches(len(where))]
        made.z[encoding] = torch.cat([made.flow(part)[0] for part in x]).detach()
    return made


@pytest.fixture(scope="session")
def pure(stage):
    """The same stage with latents that are Gaussian draws and know nothing."""
    shape = stage.z["noise"].shape
    return replace(stage, z={k: torch.randn(shape, generator=randomness.stream(7, i)) for i, k in enumerate(ENCODINGS)})
