"""Rows on projections: do lines through class means tell faces apart, where best, and are projections normal?"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from tqdm.auto import tqdm

from glowkit import classifiers, intervals
from glowkit.intervals import Estimate
from glowkit.linear import Whole, fit_whole
from glowkit.measured import Found, rounded
from glowkit.measures.stage import ENCODINGS, Stage, batches, once
from glowkit.study import CENTRES, NOISE

LATENT, PIXEL, LINEAR = "latent", "image", "linear flow"
OPPOSITE, ZERO = "opposite", "zero"
RANKS = (10, 30, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 4000)
"""Of the linear flow, at which its AUC stands beside that at the rank of most likelihood."""


def c21(stage: Stage) -> Found:
    """AUC of the opposite projection, latents less image space."""
    labels, people = told(stage)
    gains = {kind: _gain(stage, LATENT, PIXEL, kind) for kind in ENCODINGS}
    areas = {kind: _areas(stage, kind) for kind in ENCODINGS}
    mean = {key: np.mean([area.estimate for area in found]) for key, found in areas[NOISE].items()}
    shuffled = classifiers.auc_difference(
        *(projections(stage, NOISE)[space, OPPOSITE][:, known(stage)] for space in (LATENT, PIXEL)),
        np.random.default_rng(0).permutation(labels), people,
    )  # fmt: skip
    return Found(
        gains[NOISE],
        f"mean AUC, opposite: latent {mean[LATENT, OPPOSITE]:.3f}, image {mean[PIXEL, OPPOSITE]:.3f}; zero: latent "
        f"{mean[LATENT, ZERO]:.3f}, image {mean[PIXEL, ZERO]:.3f}; the same difference with shuffled labels "
        f"{shuffled.brief}",
        centres=gains[CENTRES],
        details={
            "attributes": [stage.attributes[k] for k in known(stage)],
            "faces": len(labels),
            "positives": labels.sum(0).tolist(),
            # estimate, low, high of each attribute; at bin centres the estimates alone
            NOISE: {
                " ".join(key): rounded([[e.estimate, *e.ci] for e in found]) for key, found in areas[NOISE].items()
            },
            CENTRES: {" ".join(key): rounded([e.estimate for e in found]) for key, found in areas[CENTRES].items()},
        },
    )


def b11(stage: Stage) -> Found:
    """AUC of the opposite projection, Glow's latents less those of the linear flow."""
    gains = {kind: _gain(stage, LATENT, LINEAR, kind) for kind in ENCODINGS}
    control, bits = linear_control(stage)
    mean = {
        space: np.mean([area.estimate for area in _areas(stage, NOISE)[space, OPPOSITE]])
        for space in (LATENT, LINEAR, PIXEL)
    }
    return Found(
        gains[NOISE],
        f"mean AUC: Glow {mean[LATENT]:.3f}, the linear flow {mean[LINEAR]:.3f} (rank {len(control.variances):,}, "
        f"{bits.min():.3f} bits/dim on validation), pixels {mean[PIXEL]:.3f}",
        centres=gains[CENTRES],
        details={
            "rank": len(control.variances),
            "bits_per_dim": rounded(bits[:: max(1, len(bits) // 60)]),
            "by_rank": rounded(_by_rank(stage)),
        },
    )


def _by_rank(stage: Stage) -> dict[int, list[float]]:
    """Of the linear flow at other ranks: bits/dim on validation; mean AUC of the opposite projection with noise; and
    the same where what is beyond the rank is dropped, which is no flow any more, but a linear map."""
    control, bits = linear_control(stage)
    plain = np.stack([stage.study.pixel_direction(name) for name in stage.attributes])[known(stage)]
    ranks = [rank for rank in RANKS if rank < len(control.variances)] + [len(control.variances)]
    whole = [control.truncated(rank) for rank in ranks]
    dropped = [(plain @ flow.axes / flow.variances) @ flow.axes.T for flow in whole]
    lines = np.stack([*(flow.lines(plain) for flow in whole), *dropped])  # (2R, K, D)
    scores = [stage.pixels(rows, NOISE).flatten(1).numpy() @ lines.swapaxes(1, 2) for rows in batches(len(stage.where))]
    labels, _ = told(stage)
    areas = [
        np.mean([classifiers.auc(s, y).estimate for s, y in zip(each.T, labels.T, strict=True)])
        for each in np.concatenate(scores, 1)
    ]
    return {rank: [bits[rank], areas[k], areas[k + len(ranks)]] for k, rank in enumerate(ranks)}


def c24(stage: Stage) -> Found:
    """Kolmogorov-Smirnov distance between opposite projections and the normal, less that of Gaussian draws."""
    parts = {kind: _departures(projections(stage, kind)[LATENT, OPPOSITE]) for kind in ENCODINGS}
    draws = _departures(np.random.default_rng(0).standard_normal(parts[NOISE].shape))
    m, attributes = draws.shape
    outer, inner = np.tile(np.arange(attributes), m), np.repeat(stage.people, attributes)
    excess = {
        kind: intervals.hierarchical(np.mean, (part - draws).ravel(), outer=outer, inner=inner)
        for kind, part in parts.items()
    }
    scores = {kind: projections(stage, kind)[LATENT, OPPOSITE] for kind in ENCODINGS}
    return Found(
        excess[NOISE],
        f"the distance itself {parts[NOISE].mean():.3f}, of as many Gaussian draws {draws.mean():.3f}",
        centres=excess[CENTRES],
        details={"attributes": stage.attributes, "draws": rounded(draws.mean(0))}
        | {
            kind: {
                "distance": rounded(parts[kind].mean(0)),
                "mean": rounded(scores[kind].mean(0)),
                "std": rounded(scores[kind].std(0)),
            }
            for kind in ENCODINGS
        },
    )


@once
def projections(stage: Stage, encoding: str) -> dict[tuple[str, str], np.ndarray]:
    """(m, A) signed lengths of all faces along each attribute's lines, by space and kind.

    In image space and in the linear flow's the faces have the same noise as their latents.
    """
    study = stage.study
    lines = {
        (LATENT, OPPOSITE): [study.direction(name, encoding) for name in stage.attributes],
        (LATENT, ZERO): [study.class_mean(name, encoding=encoding) for name in stage.attributes],
        (PIXEL, OPPOSITE): [study.pixel_direction(name) for name in stage.attributes],
        (PIXEL, ZERO): [study.pixel_class_mean(name) for name in stage.attributes],
    }
    lines = {key: torch.from_numpy(np.stack(line)) for key, line in lines.items()}
    with torch.no_grad():
        plain = lines[PIXEL, OPPOSITE].numpy()
        lines[LINEAR, OPPOSITE] = torch.from_numpy(linear_control(stage)[0].lines(plain).astype(np.float32))
        lines = {key: F.normalize(line, dim=1).T for key, line in lines.items()}
        found = {key: np.empty((len(stage.where), len(stage.attributes)), np.float32) for key in lines}
        for rows in tqdm(batches(len(stage.where)), f"projections, {encoding}", unit="batch"):
            x = stage.pixels(rows, encoding).flatten(1)
            for key, line in lines.items():
                points = stage.z[encoding][rows.start : rows.stop] if key[0] == LATENT else x
                found[key][rows.start : rows.stop] = points @ line
    return found


def linear_control(stage: Stage) -> tuple[Whole, np.ndarray]:
    """The linear flow of most likelihood, of the images that the study's class means are of."""
    return _whole(stage.seen, stage.study.n, stage.flow.bits)


_whole = cache(fit_whole)


def known(stage: Stage) -> np.ndarray:
    """Which attributes some of the faces have and some have not."""
    return np.flatnonzero(stage.labels.any(0) & ~stage.labels.all(0))


def told(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Labels (m, K) of the `known` attributes, and people (m,)."""
    return stage.labels[:, known(stage)], stage.people


def _gain(stage: Stage, space: str, other: str, encoding: str) -> Estimate:
    found = projections(stage, encoding)
    scores, others = (found[name, OPPOSITE][:, known(stage)] for name in (space, other))
    return classifiers.auc_difference(scores, others, *told(stage))


def _areas(stage: Stage, encoding: str) -> dict[tuple[str, str], list[Estimate]]:
    return {
        key: [classifiers.auc(scores[:, k], stage.labels[:, k], stage.people) for k in known(stage)]
        for key, scores in projections(stage, encoding).items()
    }


def _departures(scores: np.ndarray) -> np.ndarray:
    """(m, A), each column's mean its Kolmogorov-Smirnov distance to the normal.

    That is the largest gap between two distribution functions; where it is, a face adds to it what its own step adds.
    So the distance is a mean over faces, and has the intervals of one.
    """
    parts = np.empty(scores.shape)
    for column, part in zip(scores.T, parts.T, strict=True):
        found = stats.kstest(column, stats.norm.cdf)
        below = column <= found.statistic_location if found.statistic_sign > 0 else column < found.statistic_location
        part[:] = found.statistic_sign * (below - stats.norm.cdf(found.statistic_location))
    return parts


ROWS = {"C21": c21, "C24": c24, "B11": b11}
