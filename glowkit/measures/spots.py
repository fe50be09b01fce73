"""Rows on component corruption: how far does a single number of the latent reach, and do many add up?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from glowkit import corruption, intervals
from glowkit.corruption import visible_change
from glowkit.errors import GlowkitError
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage, once
from glowkit.study import NOISE

FACES, AT_ONCE = 100, 10
PAIRED = 50
"""Faces on which, in each level, two components are corrupted together."""


class Corruptions(NamedTuple):
    """n faces of as many people (n, 3, H, W), AT_ONCE random components of each, and pictures, none of them clipped:
    each component corrupted alone (n, AT_ONCE, 3, H, W), and all of them together (n, 3, H, W)."""

    rows: np.ndarray
    components: np.ndarray
    faces: torch.Tensor
    singles: torch.Tensor
    together: torch.Tensor


def c25(stage: Stage) -> Found:
    """The share of components whose change is a spot, less that of the differences of two people."""
    made = corrupted(stage)
    radii = np.stack([
        corruption.radius(visible_change(singles, face)).numpy()
        for face, singles in zip(made.faces, made.singles, strict=True)
    ])  # fmt: skip
    between = corruption.radius(
        torch.stack([visible_change(b, a) for a, b in zip(made.faces[::2], made.faces[1::2], strict=False)])
    ).numpy()
    people = np.repeat(np.arange(len(radii)), AT_ONCE)
    spots = intervals.share(radii.ravel() <= corruption.LOCAL, people)
    others = intervals.share(between <= corruption.LOCAL)
    level = np.vectorize(lambda component: corruption.site(stage.flow, int(component)).level)(made.components)
    by_level = {k: np.sort(radii[level == k]) for k in np.unique(level).tolist()}
    return Found(
        intervals.share_difference(spots, others)._replace(n=len(radii)),
        f"spots {spots.brief}; differences of two people {others.brief}, their median radius "
        f"{np.median(between):.2f} against {np.median(radii):.2f} picture widths",
        details={
            "between": rounded(np.sort(between), 3),
            "radii": {f"{k}": rounded(np.quantile(found, np.linspace(0, 1, 41)), 3) for k, found in by_level.items()},
            "n": {f"{k}": len(found) for k, found in by_level.items()},
            "spots": {f"{k}": rounded((found <= corruption.LOCAL).mean()) for k, found in by_level.items()},
        },
    )


def c26(stage: Stage) -> Found:
    """The share of the change under ten random corruptions that the sum of the single changes foresees."""
    made = corrupted(stage)
    foreseen = torch.stack([
        corruption.predicted(face, singles) for face, singles in zip(made.faces, made.singles, strict=True)
    ])  # fmt: skip
    changes = (foreseen - made.faces).roll(1, 0)  # another face's ten
    r2, control = (_r2(made.together, sums, made.faces) for sums in (foreseen, made.faces + changes))
    pairs = _pairs(stage, made)
    missed = {level: [1 - r2 for k, _, r2 in pairs if k == level] for level in sorted({k for k, _, _ in pairs})}
    try:
        order = intervals.spearman([1 - r2 for _, _, r2 in pairs], [distance for _, distance, _ in pairs]).brief
    except GlowkitError:  # sums that miss nothing, wherever the pairs are
        order = "none"
    return Found(
        intervals.bootstrap(np.mean, r2),
        f"the sum of ten other changes {control.mean():.2f}; of pairs within one level the sum misses "
        + ", ".join(f"{np.mean(found):.3f} (level {level})" for level, found in missed.items())
        + f"; its rank correlation with their distance {order}",
        details={"r2": rounded(np.sort(r2)), "pairs": rounded(pairs)},
    )


@once
def corrupted(stage: Stage) -> Corruptions:
    """The pictures behind both rows."""
    rows, rng = stage.faces(n=FACES), np.random.default_rng(0)
    components = np.stack([rng.choice(stage.flow.dim, AT_ONCE, replace=False) for _ in rows])
    faces, singles, together = [], [], []
    for z, chosen in tqdm(zip(stage.z[NOISE][rows], components, strict=True), "corruptions", len(rows), unit="face"):
        pictures = corruption.corrupt(stage.flow, z, [[], chosen, *chosen.tolist()])
        faces.append(pictures[0])
        together.append(pictures[1])
        singles.append(pictures[2:])
    return Corruptions(rows, components, torch.stack(faces), torch.stack(singles), torch.stack(together))


def _pairs(stage: Stage, made: Corruptions) -> list[tuple[int, float, float]]:
    """Level, distance in picture widths and R2 of two components of one level, on PAIRED faces in each level."""
    found = []
    drawn = [corruption.draw(stage.flow, 2, seed=k) for k in range(min(PAIRED, len(made.rows)))]
    for row, face, sites in tqdm(zip(made.rows, made.faces, drawn, strict=False), "pairs", len(drawn), unit="face"):
        pictures = corruption.corrupt(stage.flow, stage.z[NOISE][row], [*sites, *sites.ravel().tolist()])
        singles = pictures[len(sites) :].unflatten(0, (-1, 2))
        sums = torch.stack([corruption.predicted(face, two) for two in singles])
        r2 = _r2(pictures[: len(sites)], sums, face.expand_as(sums))
        distances = [corruption.distance(stage.flow, *two) for two in sites]
        found += zip(range(1, len(sites) + 1), distances, r2.tolist(), strict=True)
    return found


def _r2(actual: torch.Tensor, foreseen: torch.Tensor, faces: torch.Tensor) -> np.ndarray:
    """(n,): of each picture, as one sees it."""
    clipped = zip(actual.clamp(0, 1), foreseen.clamp(0, 1), faces.clamp(0, 1), strict=True)
    return np.array([corruption.r2(*pictures) for pictures in clipped])


ROWS = {"C25": c25, "C26": c26}
