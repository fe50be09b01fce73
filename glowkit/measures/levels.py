"""Rows on the levels of the flow: which of them holds an attribute?"""

from __future__ import annotations

import numpy as np
from tqdm.auto import tqdm

from glowkit import affine, edits, intervals
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.projections import known
from glowkit.measures.stage import Stage
from glowkit.measures.sweep import judged
from glowkit.study import NOISE

FACES = 40
"""How many faces each attribute is added to, in each level alone and in all."""


def b07(stage: Stage) -> Found | None:
    """Success in the attribute's best level alone over success in all levels; None where nothing succeeds."""
    flow, seen = stage.flow, _seen(stage)
    parts = [*flow.level_slices, slice(0, flow.dim)]
    success, names, shares = ([], []), [], []
    for k in tqdm(known(stage), "levels", unit="attribute"):
        # Faces that neither label nor judge gives it, so that what is seen afterwards is the edit's.
        rows = stage.faces(~stage.labels[:, k] & ~seen[:, :, k].any(0), FACES)
        if len(rows) < 2:
            continue
        name = stage.attributes[k]
        direction, found = stage.study.direction(name, NOISE), ([], [])
        for part in parts:
            step = np.zeros_like(direction)
            step[part] = direction[part]
            x = stage.decode(affine.add(stage.z[NOISE][rows], step))
            for judge, outcomes in zip(stage.judges, found, strict=True):
                outcomes.append(edits.succeeded(judge, x, name))
        names.append(name)
        shares.append([np.mean(outcomes, 1) for outcomes in found])
        for outcomes, kept in zip(found, success, strict=True):
            kept.append(np.stack([edits.cross_fitted(outcomes[:-1]), outcomes[-1]]))
    if not names or not all(np.concatenate(kept, 1)[1].any() for kept in success):
        return None
    first, second = (_kept_share(kept) for kept in success)
    alone, together = np.concatenate(success[0], 1).mean(1)
    return Found(
        first,
        f"success in all levels {together:.3f}, in the best level {alone:.3f}; {len(names)} attributes, at most "
        f"{FACES} faces each",
        second=second,
        # share of edits that succeed, by attribute, judge and part: each level alone, then all
        details={"attributes": names, "success": rounded(shares, 3)},
    )


def _kept_share(success: list[np.ndarray]) -> Estimate:
    """Of success (2, n) of each attribute, alone and together; each attribute counts alike."""
    attribute = np.repeat(np.arange(len(success)), [outcomes.shape[1] for outcomes in success])
    weight = 1 / np.bincount(attribute)[attribute]
    alone, together = np.concatenate(success, 1) * weight

    def ratio(alone: np.ndarray, together: np.ndarray) -> float:
        return float(alone.sum() / max(together.sum(), weight.min()))

    return intervals.hierarchical(ratio, alone, together, outer=attribute)


def _seen(stage: Stage) -> np.ndarray:
    """bool (2, m, A): what each judge sees in the faces."""
    return np.stack([
        np.concatenate([judged(judge, stage.flow.quantise(part)) > 0 for part in stage.x.split(256)])[
            :, [judge.attributes.index(name) for name in stage.attributes]
        ]
        for judge in stage.judges
    ])  # fmt: skip


ROWS = {"B07": b07}
