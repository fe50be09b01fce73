"""The row on the crop: where do the eyes go? Of drawn faces in the wild, whose eyes are known."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from glowkit import celeba, faces, intervals
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage
from glowkit.registration import displacement, rms_distance

PICTURES = 400  # four of each person
SIZE = 128  # of the crops that are compared
WILD_SEED = 2  # chapter 2 has shown some of seed 1


def c06(stage: Stage) -> Found | None:
    """Root mean square distance of an eye from its place after the crop, over that when pictures are only resized."""
    if not stage.drawn:
        return None
    after, before, people = eyes(PICTURES)

    def ratio(after: np.ndarray, before: np.ndarray) -> float:
        return rms_distance(after) / rms_distance(before - before.mean(0))

    distances = {
        name: intervals.bootstrap(rms_distance, offsets, groups=people)
        for name, offsets in (("cropped", after), ("resized", before - before.mean(0)))
    }
    return Found(
        intervals.bootstrap(ratio, after, before, groups=people),
        f"in pixels at 256: cropped {distances['cropped'].brief}, only resized {distances['resized'].brief}",
        details={name: rounded(found) for name, found in distances.items()},
    )


def eyes(n: int, seed: int = WILD_SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In pixels of 256, of n faces in the wild: how far both eyes (n, 2, 2) are from their places after the crop, by
    the pixels alone; where they are in pictures squeezed to a square; and whose they are (n,)."""
    with tempfile.TemporaryDirectory() as folder:
        tree = celeba.read(faces.write_tree(Path(folder) / "tree", n, size=64, seed=seed))
        sides = np.array([file.image().size for file in tree.files])[:, None]
        crops = torch.stack([tree.crop(i, SIZE) for i in tqdm(range(n), "crops", unit="picture")])
        before = (tree.eyes + 0.5) / sides * 256
    drawn = faces.factors(range(n), seed)
    spots = np.broadcast_to(SIZE * np.array(celeba.EYES) - 0.5, (n, 2, 2))
    exact = torch.cat(
        [faces.render(faces.factors(part, seed), SIZE) for part in np.array_split(np.arange(n), n // 20 or 1)]
    )
    after = 256 / SIZE * displacement(crops, exact, spots, radius=6)
    return after, before, drawn.identities


ROWS = {"C06": c06}
