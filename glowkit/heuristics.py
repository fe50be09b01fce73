"""When does adding an attribute work? The thesis's cheat sheet (section 5.3), each rule made a number.

Locality is the share of the picture that an attribute touches, uniqueness how much its look varies within its
class, sampling how many images made the class mean. `outcomes` tries adding and removing; `foretold` asks
what the three numbers of the other attributes would have predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from glowkit import affine, edits
from glowkit.errors import GlowkitError
from glowkit.image_flow import ImageFlow
from glowkit.judge import Judge
from glowkit.study import Study

# ------------------------------------------------------------------------- where an attribute is, and how varied


def partial_differences(differences: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """(A, D): what each attribute changes while the others stay, from the plain differences of class means (A, D).

    A plain difference carries along whatever goes with the attribute: with a mustache come short hair and a
    jaw. Least squares on all attributes at once separates them, and needs no image: the covariance of
    attribute and pixel is p (1 - p) times the difference of class means. labels (n, A) bool, of the images
    that gave the means.
    """
    y = np.asarray(labels, float)
    p = y.mean(0)
    if not ((p > 0) & (p < 1)).all():
        raise GlowkitError("partial differences: every attribute needs images with it and images without it")
    with_pixels = (p * (1 - p))[:, None] * np.asarray(differences, float)
    return np.linalg.lstsq((y - p).T @ (y - p) / len(y), with_pixels, rcond=None)[0]


def support(difference: ArrayLike) -> float:
    """Share of the picture that a pixel difference (3, H, W) is spread over, in (0, 1]: 1 is all of it, evenly.

    The participation ratio of its energy e(p), (sum e)^2 / (HW sum e^2): for a difference of one size on m
    pixels and none elsewhere, m / HW.
    """
    energy = np.square(np.asarray(difference, float)).sum(0)
    if not energy.any():
        raise GlowkitError("support: the difference is zero everywhere")
    return float(energy.sum() ** 2 / (energy.size * np.square(energy).sum()))


def spread(x: ArrayLike, difference: ArrayLike) -> float:
    """How varied a class looks where its attribute is: standard deviation within it, over the difference's size.

    x (n, 3, H, W) images of the class, difference (3, H, W) the attribute's. The variance of each pixel counts
    by the square of the difference there.
    """
    x, weight = np.asarray(x, float), np.square(np.asarray(difference, float))
    if len(x) < 2:
        raise GlowkitError(f"spread: {len(x)} images of the class; at least two are needed")
    return float(np.sqrt((weight * x.var(0, ddof=1)).sum() / np.square(weight).sum()))


# ------------------------------------------------------------------------------------------- does an edit work?


class Outcome(NamedTuple):
    """Edits of the faces in `rows` of a pool, and whether the judge then saw what was wanted, bool of as many."""

    rows: np.ndarray
    success: np.ndarray


def balanced_pool(labels: ArrayLike, each: int, seed: int = 0) -> np.ndarray:
    """Sorted rows such that each attribute has `each` of them with it and without it, or all there are.

    labels (n, A) bool. Rows are taken at random, one attribute after the other, the rarest first: few are needed.
    """
    labels = np.asarray(labels, bool)
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = sorted(np.concatenate([labels.T, ~labels.T]), key=np.sum)
    chosen = np.zeros(len(labels), bool)
    for members in classes:
        missing = each - int((members & chosen).sum())
        chosen[[row for row in order if members[row] and not chosen[row]][: max(missing, 0)]] = True
    return np.flatnonzero(chosen)


def outcomes(
    model: ImageFlow,
    judge: Judge,
    study: Study,
    x: Tensor,
    z: Tensor,
    labels: ArrayLike,
    attributes: Sequence[str],
    n: int,
    alpha: float = 1.0,
) -> dict[tuple[str, bool], Outcome]:
    """Eq. 4.4 (add) and eq. 4.5 (remove) for each attribute, on the first n faces of a pool that call for it.

    x (N, 3, H, W), z (N, D), labels (N, A): the pool's pictures, latents and attributes. An attribute is added
    (key (attribute, True)) to faces without it and removed (False) from faces with it; faces in which
    the judge is wrong before the edit are left out, so that a success is always a change.
    """
    labels, before = np.asarray(labels, bool), judge(x).cpu().numpy() > 0.5
    found = {}
    for attribute in attributes:
        i, j = study.index(attribute), judge.attributes.index(attribute)
        for wanted in (True, False):
            rows = np.flatnonzero((labels[:, i] != wanted) & (before[:, j] != wanted))[:n]
            step = alpha if wanted else -alpha
            edited = model.decode(affine.add(z[rows], study.direction(attribute), step)) if len(rows) else x[:0]
            success = edits.succeeded(judge, edited, attribute, wanted) if len(rows) else np.zeros(0, bool)
            found[attribute, wanted] = Outcome(rows, success)
    return found


def sampled_directions(z: Tensor, n: int, faces: int, mean_not: ArrayLike, seed: int = 0) -> Tensor:
    """(faces, D): for each face another direction, its class mean made of n images drawn from z (N, D).

    mean_not (D,) is subtracted, the well sampled mean of all others. n = 1 is the thesis's eq. 5.11: a single
    person as an attribute.
    """
    if not 1 <= n <= len(z):
        raise GlowkitError(f"class mean of {n} images: there are {len(z)}")
    rng = np.random.default_rng(seed)
    means = [z[rng.choice(len(z), n, replace=False)].mean(0) for _ in range(faces)]
    return torch.stack(means) - torch.as_tensor(mean_not, dtype=z.dtype)


def overlap(change: Tensor, truth: Tensor, share: float = 0.9) -> np.ndarray:
    """(B,): how much of an edit's energy falls on the pixels that hold `share` of the true change's energy.

    change, truth (B, 3, H, W). Compare with the part of the picture that those pixels are, `area`.
    """
    energy = change.double().square().sum(1).flatten(1)
    return ((energy * _area(truth, share)).sum(1) / energy.sum(1)).cpu().numpy()


def area(truth: Tensor, share: float = 0.9) -> np.ndarray:
    """(B,): the part of the picture that the fewest pixels with `share` of a change's energy are."""
    return _area(truth, share).double().mean(1).cpu().numpy()


def _area(truth: Tensor, share: float) -> Tensor:
    """bool (B, HW)"""
    energy = truth.double().square().sum(1).flatten(1)
    ordered, order = energy.sort(1, descending=True)
    # A pixel belongs if those before it do not hold the share yet.
    held = ordered.cumsum(1) - ordered < share * energy.sum(1, keepdim=True)
    return torch.zeros_like(held).scatter(1, order, held)


# --------------------------------------------------------------------------------------------- the cheat sheet


def foretold(features: ArrayLike, success: ArrayLike, groups: ArrayLike) -> np.ndarray:
    """(m,): success as a linear model of standardised features (m, k), fitted on the other groups, predicts it.

    A group holds the rows of one attribute, so that nothing is predicted from itself. GlowkitError of fewer than two.
    """
    if (attributes := len(np.unique(groups))) < 2:
        raise GlowkitError(f"success is foretold from other attributes: two are needed at least, not {attributes}")
    model = make_pipeline(StandardScaler(), LinearRegression())
    return cross_val_predict(model, np.asarray(features), np.asarray(success), groups=groups, cv=LeaveOneGroupOut())


# -------------------------------------------------------------------------------- a slice of latent space (fig. 31)


class Plane(NamedTuple):
    """The plane through the origin, the mean latent and a face: orthonormal axes (D,), and the face in it."""

    along: Tensor
    across: Tensor
    face: tuple[float, float]

    def at(self, a: ArrayLike, b: ArrayLike) -> Tensor:
        """Latents (n, D) of the points with coordinates a along the mean's direction and b across it, (n,) each."""
        a, b = (torch.as_tensor(v, dtype=self.along.dtype)[:, None] for v in (a, b))
        return a * self.along + b * self.across


def plane(mean: ArrayLike, z: Tensor) -> Plane:
    """The plane of the mean direction and a latent z (D,), as figure 31 draws it."""
    along = torch.as_tensor(mean, dtype=z.dtype)
    if not along.norm() > 0:
        raise GlowkitError("plane: the mean is zero and has no direction")
    along = along / along.norm()
    rest = z - (z @ along) * along
    return Plane(along, rest / rest.norm(), (float(z @ along), float(rest.norm())))


def strangeness(x: Tensor, real: Tensor) -> np.ndarray:
    """(n,): how far pictures are from real ones, over the median distance of a real one; 1 is a typical face.

    x (n, 3, H, W), real (m, 3, H, W). The Mahalanobis distance under probabilistic principal components of one
    half of the real pictures, at 32 px; the other half sets the unit. Unlike an attribute judge's features,
    which only know faces, it has an opinion on noise. Infinite where a pixel is not finite.
    """

    def rows(pictures: Tensor) -> np.ndarray:
        small = F.interpolate(pictures.nan_to_num(0.0), size=(32, 32), mode="area")
        return small.flatten(1).double().cpu().numpy()

    pca = PCA(min(64, len(real) // 4), svd_solver="full").fit(rows(real[::2]))
    nearest = pca.score_samples(pca.mean_[None])[0]

    def distance(pictures: Tensor) -> np.ndarray:
        return np.sqrt(2 * (nearest - pca.score_samples(rows(pictures))))

    return np.where(edits.finite(x), distance(x) / np.median(distance(real[1::2])), np.inf)


def along_sphere(z: Tensor, towards: ArrayLike, chord: ArrayLike) -> Tensor:
    """Latents z (B, D) moved on their own spheres about the origin: norms stay what they were.

    towards: direction (D,), or (B, D), of the great circle to move on, whatever its length; chord: straight
    distance between start and end (B,), at most twice the norm. Twice the height over a plane through
    the origin, against its normal, is the mirror image in that plane.
    """
    norm = z.norm(dim=1, keepdim=True)
    half = torch.as_tensor(chord, dtype=z.dtype).expand(len(z))[:, None] / 2
    if not ((half >= 0) & (half <= norm)).all():
        raise GlowkitError("along_sphere: chords must be between 0 and twice the norm of the latents")
    towards = torch.as_tensor(towards, dtype=z.dtype).expand(z.shape)
    tangent = towards - (towards * z).sum(1, keepdim=True) / norm**2 * z
    tangent = tangent / tangent.norm(dim=1, keepdim=True)
    angle = 2 * torch.asin(half / norm)
    return angle.cos() * z + angle.sin() * norm * tangent
