"""Directions that change an attribute and less of what goes with it, from a study alone.

The difference of class means carries along whatever else differs between the classes: whoever wears a mustache is a
man. Each of DIRECTIONS takes a study, an attribute and the slices of the levels of its latents, and returns a
direction (D,); `direction` makes one of such a length that one step of it is as much of the attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glowkit.errors import GlowkitError
from glowkit.heuristics import partial_differences
from glowkit.study import Study


def mean(study: Study, attribute: str, levels: Sequence[slice]) -> np.ndarray:
    """The difference of class means, eq. 4.4."""
    return study.direction(attribute)


def partial(study: Study, attribute: str, levels: Sequence[slice]) -> np.ndarray:
    """What the attribute changes while all others stay: least squares on all attributes at once.

    `partial_differences` is for labels of the images that gave the means. A study keeps none of these, and those of its
    held-out images stand in for them. The difference of means itself where they do not tell, for all or none of them
    have the attribute.
    """
    told = _told(study)
    if attribute not in told:
        return study.direction(attribute)
    columns = [study.index(name) for name in told]
    plain = np.stack([study.direction(name) for name in told])
    return partial_differences(plain, study.labels[:, columns])[told.index(attribute)].astype(np.float32)


def conditional(study: Study, attribute: str, levels: Sequence[slice]) -> np.ndarray:
    """What is left of the difference of means at right angles to those of all other attributes.

    The conditional projection of InterFaceGAN (Shen et al. 2020), whose normals are here differences of means.
    """
    own = study.direction(attribute).astype(float)
    others = [study.direction(name) for name in _told(study) if name != attribute]
    others = np.reshape(others, (len(others), len(own))).astype(float)  # there may be none
    return (own - others.T @ np.linalg.lstsq(others.T, own, rcond=None)[0]).astype(np.float32)


def shrunk(study: Study, attribute: str, levels: Sequence[slice]) -> np.ndarray:
    """The difference of means with each level shrunk to the share of its square that is not sampling noise.

    The positive part of James and Stein's estimator, level by level; 0 where noise is all there is.
    """
    direction = study.direction(attribute).astype(float)
    noise = study.moments()[1].astype(float) * study.noise_factor(attribute)
    for level in levels:
        direction[level] *= max(0.0, 1 - noise[level].sum() / np.square(direction[level]).sum())
    return direction.astype(np.float32)


def _told(study: Study) -> list[str]:
    """Attributes that some of the held-out images have and some have not."""
    varies = study.labels.any(0) & ~study.labels.all(0)
    return [name for name, there in zip(study.attributes, varies, strict=True) if there]


DIRECTIONS = {"mean": mean, "partial": partial, "conditional": conditional, "shrunk": shrunk}


def direction(kind: str, study: Study, attribute: str, levels: Sequence[slice]) -> np.ndarray:
    """One of DIRECTIONS, `scaled`: float32 (D,). Raises GlowkitError for any other kind."""
    if kind not in DIRECTIONS:
        raise GlowkitError(f"direction {kind!r}: want one of {', '.join(DIRECTIONS)}")
    return scaled(DIRECTIONS[kind](study, attribute, levels), study.direction(attribute)).astype(np.float32)


def scaled(line: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Lines (..., D), each with the component of the mean (..., D) along it; where it has none, the mean itself."""
    line, mean = np.asarray(line, float), np.asarray(mean, float)
    along, whole = ((other * mean).sum(-1, keepdims=True) for other in (line, mean))
    return np.where(along > 0, line * np.divide(whole, along, out=np.zeros_like(along), where=along > 0), mean)
