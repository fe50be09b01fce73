"""The row on the length of a step: one for everybody, or one that knows where the face is?"""

from __future__ import annotations

import numpy as np
from tqdm.auto import tqdm

from glowkit import affine, edits, intervals
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage
from glowkit.study import CENTRES, NOISE

FACES = {NOISE: 40, CENTRES: 20}  # that each attribute is added to
CALIBRATED, FIXED = "calibrated", "fixed"
TARGETS = 1000  # held-out latents with the attribute, at most, that say where its class is


def b05(stage: Stage) -> Found | None:
    """Attributes are resampled, and people within; each attribute counts alike."""
    found = {encoding: _steps(stage, encoding) for encoding in FACES}
    if len(found[CENTRES]) < 5:
        return None
    noise = found[NOISE]
    calibrated, fixed = (np.mean([steps[what][0].mean() for steps in noise.values()]) for what in (CALIBRATED, FIXED))
    spread = np.mean([steps["alpha"].std() for steps in noise.values()])
    control = (
        f"success with the calibrated alpha {calibrated:.2f}, with a fixed one of equal mean step {fixed:.2f}; the "
        f"calibrated ones of an attribute's faces differ by {spread:.2f} (s.d.)"
    )
    details = {
        name: {
            "alpha": np.quantile(steps["alpha"], [0, 0.25, 0.5, 0.75, 1]),
            "mean": np.abs(steps["alpha"]).mean(),
            CALIBRATED: steps[CALIBRATED].mean(1),
            FIXED: steps[FIXED].mean(1),
        }
        for name, steps in noise.items()
    }
    return Found(_gain(noise, 0), control, _gain(noise, 1), _gain(found[CENTRES], 0), rounded(details))


def _steps(stage: Stage, encoding: str) -> dict[str, dict[str, np.ndarray]]:
    """For each attribute that some have and some have not: "alpha" (n,), the calibrated step of each face; bool (2, n),
    each judge sees the attribute after it, and after their mean length for all; "people" (n,)."""
    z, found = stage.z[encoding], {}
    with tqdm(stage.attributes, f"calibrated steps, {encoding}", unit="attribute") as bar:
        for name in bar:
            rows = stage.faces(~stage.has(name), FACES[encoding])
            target = stage.faces(stage.has(name) & ~np.isin(stage.people, stage.people[rows]), TARGETS)
            if len(rows) < 2 or not len(target):
                continue
            direction = stage.study.direction(name, encoding)
            alpha = affine.calibrated_alpha(z[rows], direction, z[target].mean(0))
            sights = {
                what: stage.decode(affine.add(z[rows], direction, step))
                for what, step in ((CALIBRATED, alpha), (FIXED, alpha.abs().mean()))
            }
            found[name] = {"alpha": alpha.numpy(), "people": stage.people[rows]} | {
                what: np.stack([edits.succeeded(judge, x, name) for judge in stage.judges])
                for what, x in sights.items()
            }
    return found


def _gain(found: dict[str, dict[str, np.ndarray]], j: int) -> Estimate:
    gains = [steps[CALIBRATED][j].astype(float) - steps[FIXED][j] for steps in found.values()]
    return intervals.hierarchical(
        lambda gain, weight: float((gain * weight).sum() / weight.sum()),
        np.concatenate(gains),
        np.concatenate([np.full(len(gain), 1 / len(gain)) for gain in gains]),
        outer=np.repeat(np.arange(len(gains)), [len(gain) for gain in gains]),
        inner=np.concatenate([steps["people"] for steps in found.values()]),
    )


ROWS = {"B05": b05}
