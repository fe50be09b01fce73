"""The traits that a specular image should change (figure 17): hair colour, gender and pose, read from pixels."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn.linear_model import RidgeCV
from torch import Tensor

from glowkit import intervals
from glowkit.intervals import Estimate
from glowkit.judge import Judge

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")


class PoseReader:
    """reader(x) -> (B,): which way a face looks, positive to the viewer's right; ridge regression on pixels.

    Fitted on pictures (N, 3, H, W) in [0, 1] and their landmarks (N, 5, 2): the target is how far the nose is
    from the middle of the eyes, in eye distances. Pose changes sign in a mirror, so only the part of a
    picture that does too is read.
    """

    def __init__(self, x: Tensor, landmarks: ArrayLike) -> None:
        self.ridge = RidgeCV(np.logspace(-2, 3, 11), fit_intercept=False)
        self.ridge.fit(self._odd(x), self.turn(landmarks))

    @staticmethod
    def turn(landmarks: ArrayLike) -> np.ndarray:
        """(N,) from landmarks (N, 5, 2): left eye, right eye, nose, two corners of the mouth."""
        left, right, nose = np.moveaxis(np.asarray(landmarks, float)[:, :3, 0], 1, 0)
        return (nose - (left + right) / 2) / (right - left)

    @staticmethod
    def _odd(x: Tensor) -> np.ndarray:
        small = F.interpolate(x.nan_to_num(0.5).mean(1, keepdim=True), size=(32, 32), mode="area")
        return ((small - small.flip(3)) / 2)[..., :16].flatten(1).cpu().numpy()

    def __call__(self, x: Tensor) -> np.ndarray:
        return self.ridge.predict(self._odd(x))


class TraitReader:
    """reader(x) -> (T, B): each of T traits of each picture; two pictures differ in a trait whose values differ.

    The traits are `names`, of those that the judge knows: hair, its most likely of four colours; gender, whether it
    sees *Male*; and, with a `PoseReader`, pose, whether the face looks to the viewer's right.
    """

    def __init__(self, judge: Judge, pose: PoseReader | None = None) -> None:
        self.judge, self.pose = judge, pose
        known = {"hair": set(HAIR) <= set(judge.attributes), "gender": "Male" in judge.attributes, "pose": bool(pose)}
        self.names = [name for name, there in known.items() if there]

    def __call__(self, x: Tensor) -> np.ndarray:
        read = {"hair": self._hair, "gender": self._gender, "pose": self._pose}
        return np.array([read[name](x) for name in self.names], int).reshape(len(self.names), len(x))

    def _hair(self, x: Tensor) -> np.ndarray:
        columns = [self.judge.attributes.index(name) for name in HAIR]
        return self.judge(x.nan_to_num(0.0))[:, columns].argmax(1).cpu().numpy()

    def _gender(self, x: Tensor) -> np.ndarray:
        return self.judge.says(x, "Male")

    def _pose(self, x: Tensor) -> np.ndarray:
        return self.pose(x) > 0


def difference_by_chance(traits: np.ndarray, reach: int = 99) -> float:
    """Share of traits (T, B) in which two people differ: over all pairs of pictures up to `reach` places apart."""
    return np.mean([traits != np.roll(traits, k, axis=1) for k in range(1, reach + 1)])


def beyond_chance(start: ArrayLike, changed: ArrayLike) -> Estimate:
    """The share of people whose trait changed, start (n,) to changed (n,), less the share of pairs of them that differ.

    Over all pairs. What a person adds to the difference is their own change less twice how much they differ from the
    others: the jackknife's values to first order, and Student's interval is theirs.
    """
    start = np.asarray(start)
    from_others = (start[:, None] != start).sum(1) / (len(start) - 1)
    return intervals.mean((start != np.asarray(changed)) - 2 * from_others + from_others.mean())
