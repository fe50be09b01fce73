"""Rows on paths between two faces: are their midpoints faces, and which path is better?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import affine, gaussianity, intervals
from glowkit.edits import finite
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage, once, pairs
from glowkit.study import CENTRES, NOISE

PAIRS = 250
DENSITY = 100  # of these, for the model's density
BATCH = 50
BLIND = 0.2
"""If more pixel cross-fades than this pass as one face, the reader does not see what it should: undecided."""
STRAIGHT, ORIGIN, MEAN = "straight", "norm-preserving, about the origin", "norm-preserving, about the mean"
FADE, ENDS = "pixel cross-fade", "the ends, encoded and decoded"


@dataclass(frozen=True)
class Halfway:
    """Half way between the faces of n pairs. passes[kind] bool (n,), and of ENDS (n, 2): it passes as one face.

    bits[kind]: mean bits/dim of the pictures under the model. norms[kind]: mean norm of the latents, of all levels and
    of each.
    """

    passes: dict[str, np.ndarray]
    bits: dict[str, float]
    norms: dict[str, list[float]]

    @property
    def blind(self) -> bool:
        """Whether the reader lets too many cross-fades pass to be asked."""
        return bool(self.passes[FADE].mean() > BLIND)


@once
def halfway(stage: Stage, encoding: str) -> Halfway:
    """Half way between the faces of PAIRS pairs of two people each, decoded."""
    ends = np.array(list(pairs(stage, PAIRS)))
    z, centre = stage.z[encoding], stage.study.moments(encoding)[0]
    passes: dict[str, list] = {}
    bits: dict[str, list] = {}
    norms: dict[str, list] = {}
    for start in tqdm(range(0, len(ends), BATCH), f"midpoints, {encoding}", unit="batch"):
        part = ends[start : start + BATCH]
        a, b = z[part[:, 0]], z[part[:, 1]]
        latents = {
            STRAIGHT: affine.straight(a, b, 0.5),
            ORIGIN: affine.norm_preserving(a, b, 0.5),
            MEAN: affine.norm_preserving(a, b, 0.5, centre),
            ENDS: torch.cat([a, b]),
        }
        sights = {kind: stage.decode(points) for kind, points in latents.items()}
        sights[FADE] = torch.lerp(stage.pixels(part[:, 0], encoding), stage.pixels(part[:, 1], encoding), 0.5)
        for kind, x in sights.items():
            # of the ends, those of a pair beside each other
            passes.setdefault(kind, []).append(stage.looks.passes(x).reshape(-1, len(part)).T)
            if start < DENSITY:
                bits.setdefault(kind, []).append(_bits(stage, x[: len(part)]))
        for kind, points in latents.items():
            norms.setdefault(kind, []).append(gaussianity.level_norms(points, stage.flow.level_slices))
    joined = {kind: np.concatenate(parts) for kind, parts in passes.items()}
    return Halfway(
        {kind: found if kind == ENDS else found[:, 0] for kind, found in joined.items()},
        {kind: float(np.concatenate(parts).mean()) for kind, parts in bits.items()},
        {kind: np.concatenate(parts).mean(0).tolist() for kind, parts in norms.items()},
    )


def _bits(stage: Stage, x: Tensor) -> np.ndarray:
    return stage.flow.bits_per_dim(x[torch.from_numpy(finite(x))]).numpy()


def c11(stage: Stage) -> Found | None:
    """Units are pairs, each with its midpoint and its two ends."""
    return _found(
        stage,
        realistic,
        lambda found: (
            f"as faces pass pixel cross-fades {share(found, FADE).brief}, the same faces encoded and decoded "
            f"{share(found, ENDS).brief}, straight midpoints {share(found, STRAIGHT).brief}"
        ),
    )


def c12(stage: Stage) -> Found | None:
    """Units are pairs, each with both midpoints."""
    return _found(
        stage,
        straighter,
        lambda found: (
            "with norms about the mean instead "
            f"{intervals.paired_difference(found.passes[STRAIGHT], found.passes[MEAN]).brief}; as faces pass pixel "
            f"cross-fades {share(found, FADE).brief}, straight midpoints {share(found, STRAIGHT).brief}"
        ),
    )


def realistic(found: Halfway) -> Estimate:
    """Midpoints that pass over ends that do, pairs being the units (C11)."""
    ends = found.passes[ENDS]
    pair = np.repeat(np.arange(len(ends)), 2)
    ratio = intervals.paired_ratio(np.repeat(found.passes[STRAIGHT], 2), ends.ravel(), pair)
    return ratio._replace(ci=(0.0, max(1.0, ratio.estimate))) if found.blind else ratio


def straighter(found: Halfway) -> Estimate:
    """Straight midpoints that pass less norm-preserving ones that do (C12)."""
    difference = intervals.paired_difference(found.passes[STRAIGHT], found.passes[ORIGIN])
    return difference._replace(ci=(-1.0, 1.0)) if found.blind else difference


def share(found: Halfway, kind: str) -> Estimate:
    """Pictures of the kind that pass as one face, pairs being the units."""
    passes = found.passes[kind]
    return intervals.share(passes.ravel(), np.repeat(np.arange(len(passes)), passes[:1].size))


def _found(stage: Stage, number: Callable[[Halfway], Estimate], control: Callable[[Halfway], str]) -> Found | None:
    if len(stage.faces()) < 4:
        return None
    noise, centres = (halfway(stage, encoding) for encoding in (NOISE, CENTRES))
    details = {
        "passes": {kind: rounded(share(noise, kind)) for kind in noise.passes},
        "passes_centres": {kind: rounded(share(centres, kind)) for kind in centres.passes},
        "bits_per_dim": rounded(noise.bits),
        "norms": rounded(noise.norms),
    }
    return Found(number(noise), control(noise), centres=number(centres), details=details)


ROWS = {"C11": c11, "C12": c12}
