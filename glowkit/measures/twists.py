"""Rows on maps that keep the Gaussian law: does latent arithmetic follow from it?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import classifiers, gaussian_maps
from glowkit.measured import Found, rounded
from glowkit.measures.projections import known
from glowkit.measures.stage import Stage, batches
from glowkit.study import NOISE

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 3.0)
"""Of the twists that are tried; the row compares the last to the first, which leaves latents as they are."""


def b01(stage: Stage) -> Found:
    """AUC of the mean projection less that after the twist; means of half of the people, scores of the others."""
    z, (first, half) = stage.z[NOISE], _halves(stage)
    chosen = common(stage, first, half)
    labels, people = stage.labels[:, chosen], stage.people[half]
    scores = {}
    for strength in tqdm(STRENGTHS, "twists", unit="strength"):
        w = torch.cat([gaussian_maps.twist(z[rows.start : rows.stop], strength) for rows in batches(len(z))])
        scores[strength] = mean_projections(w, labels, first, half)
    rotation = gaussian_maps.Rotation(stage.flow.dim)
    turned = torch.cat([rotation(z[rows.start : rows.stop]) for rows in batches(len(z))])
    turned = mean_projections(turned, labels, first, half)
    areas = {
        strength: [classifiers.auc(score[:, k], labels[half, k], people).estimate for k in range(len(chosen))]
        for strength, score in scores.items()
    }
    losses = {
        strength: classifiers.auc_difference(scores[0.0], score, labels[half], people)
        for strength, score in scores.items()
    }
    rotated = classifiers.auc_difference(scores[0.0], turned, labels[half], people)
    return Found(
        losses[STRENGTHS[-1]],
        f"a twist of strength {STRENGTHS[-1]:g}, mean of {len(chosen)} attributes; AUC before "
        f"{np.mean(areas[0.0]):.3f}, after {np.mean(areas[STRENGTHS[-1]]):.3f}; a rotation takes {rotated.brief} off",
        details={
            "attributes": [stage.attributes[k] for k in chosen],
            "strengths": list(STRENGTHS),
            "areas": rounded(list(areas.values())),
            "losses": rounded([[loss.estimate, *loss.ci] for loss in losses.values()]),
        },
    )


def common(stage: Stage, *halves: np.ndarray) -> list[int]:
    """Attributes that a quarter to three quarters of the faces have; if there are none, all that `halves` tell of."""
    there = [k for k in known(stage) if all(0 < stage.labels[half, k].mean() < 1 for half in halves)]
    return [k for k in there if 0.25 <= stage.labels[:, k].mean() <= 0.75] or there


def mean_projections(z: Tensor, labels: np.ndarray, first: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(n, K): rows `half` of z (m, D) on the lines through class means of rows `first`; labels bool (m, K)."""
    z = z.numpy()
    lines = [classifiers.class_means(z[first], label) for label in labels[first].T]
    return np.stack([classifiers.opposite_projection(z[half], *means) for means in lines], 1)


def _halves(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images of one half of the people, and of the other."""
    place = np.unique(stage.people, return_inverse=True)[1]
    side = np.random.default_rng(0).permutation(place.max() + 1)[place] % 2
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


ROWS = {"B01": b01}
