"""Rows on the Gaussian law as a whole: the length of the mean, the lengths of latents, the side of the origin."""

from __future__ import annotations

import numpy as np

from glowkit import gaussianity
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import ENCODINGS, Stage
from glowkit.study import CENTRES, NOISE

LATENTS = 12_000
"""Of how many latents the mean is, whose norm is read against that of as many Gaussian draws."""


def c07(stage: Stage) -> Found:
    """The norm of the mean of LATENTS over its expectation under the Gaussian law."""
    law, dim = gaussianity.norm_law(stage.flow.dim, LATENTS).mean(), stage.flow.dim
    squares = {kind: gaussianity.squared_bias(stage.z[kind], stage.people) for kind in ENCODINGS}
    ratios = {
        kind: square.through(lambda value: gaussianity.norm_of_mean(value, dim, LATENTS) / law)
        for kind, square in squares.items()
    }
    length = gaussianity.length(squares[NOISE])
    return Found(
        ratios[NOISE],
        f"Gaussian draws 1; length of the true mean with noise {length.brief}",
        centres=ratios[CENTRES],
        details={"squares": {kind: rounded([square.estimate, *square.ci]) for kind, square in squares.items()}},
    )


def c08(stage: Stage) -> Found:
    """The mean norm over sqrt(D), of the whole latent and of each level."""
    levels = stage.flow.level_slices
    dims = [stage.flow.dim, *(level.stop - level.start for level in levels)]
    reports = {
        kind: [
            gaussianity.norm_report(norms, dim, stage.people)
            for norms, dim in zip(gaussianity.level_norms(stage.z[kind], levels).T, dims, strict=True)
        ]
        for kind in ENCODINGS
    }
    ratios = {
        kind: [_over(report.mean, np.sqrt(dim)) for report, dim in zip(found, dims, strict=True)]
        for kind, found in reports.items()
    }
    whole = reports[NOISE][0]
    return Found(
        ratios[NOISE][0],
        f"true Gaussian draws {whole.law_mean / np.sqrt(dims[0]):.5f}; s.d. of the norm {whole.std.brief} against "
        f"{whole.law_std:.2f}; KS distance to the chi law {whole.ks.brief}",
        centres=ratios[CENTRES][0],
        details={
            "dims": dims,
            "ratios": {kind: rounded([[e.estimate, *e.ci] for e in found], 5) for kind, found in ratios.items()},
            "std": {kind: rounded([report.std.estimate for report in found]) for kind, found in reports.items()},
            "ks": {kind: rounded([report.ks.estimate for report in found]) for kind, found in reports.items()},
        },
    )


def c09(stage: Stage) -> Found:
    """The share of latents on the positive side of the line through the mean of the training images."""
    along = {kind: gaussianity.project(stage.z[kind], stage.study.moments(kind)[0]) for kind in ENCODINGS}
    shares = {kind: gaussianity.share_positive(values, stage.people) for kind, values in along.items()}
    draws = np.random.default_rng(0).standard_normal(len(stage.where))
    return Found(
        shares[NOISE],
        f"as many Gaussian draws {gaussianity.share_positive(draws).brief}; mean projection "
        f"{along[NOISE].mean():.2f} with a s.d. of {along[NOISE].std():.2f}, at bin centres "
        f"{along[CENTRES].mean():.2f} and {along[CENTRES].std():.2f}",
        centres=shares[CENTRES],
        details={kind: rounded(np.quantile(values, np.linspace(0, 1, 41))) for kind, values in along.items()},
    )


def _over(estimate: Estimate, root: float) -> Estimate:
    return estimate.through(lambda norm: norm / root)


ROWS = {"C07": c07, "C08": c08, "C09": c09}
