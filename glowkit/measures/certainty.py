"""Rows on how certain a direction is, from the study alone."""

from __future__ import annotations

from glowkit import directions
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage
from glowkit.study import CENTRES, NOISE

SHOWN = 8
"""Attributes whose curve is kept: from the rarest to the most common."""


def b03(stage: Stage) -> Found:
    """The noise floor's share of the squared norm of the rarest attribute's direction."""
    study = stage.study
    order = sorted(study.attributes, key=study.count)
    rarest, commonest = order[0], order[-1]
    shown = order[:: max(1, len(order) // SHOWN)]
    halves = directions.noise_share_of_halves(study.reliability(rarest, NOISE))
    return Found(
        directions.noise_share(study, rarest, NOISE),
        f"{rarest}, {study.count(rarest):,} of {study.n:,} images; from the cosine of two halves {halves:.3f}; "
        f"{commonest}, the most common: {directions.noise_share(study, commonest, NOISE).brief}",
        centres=directions.noise_share(study, rarest, CENTRES),
        details={
            "shares": {
                name: rounded([study.count(name), directions.noise_share(study, name, NOISE).estimate])
                for name in order
            },
            # positives in a part of the training images, and the share there, from the cosine of two halves
            "curves": {
                name: rounded([
                    [positives, directions.noise_share_of_halves(cosine)]
                    for positives, cosine in study.reliability_curve(name).items()
                    if positives > 1 and cosine > 0
                ])
                for name in shown
            },
        },
    )  # fmt: skip


ROWS = {"B03": b03}
