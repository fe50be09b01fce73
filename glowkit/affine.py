"""Arithmetic on latents (section 4.2): paths between faces, adding a feature, reflecting a face, judging it.

Latents z are float tensors (B, D) or (D,), as `model.encode` gives them; directions and means are what a
`Study` holds, arrays (D,). Nothing here decodes: `model.decode(add(z, delta, 2))` reads as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import Tensor

from glowkit.errors import GlowkitError
from glowkit.flow import Glow
from glowkit.intervals import Estimate
from glowkit.judge import Judge
from glowkit.kernels import FoldedSteps
from glowkit.layers import SplitPrior
from glowkit.study import Study

# ------------------------------------------------------------------------------------------------------ paths


def straight(a: Tensor, b: Tensor, t: ArrayLike) -> Tensor:
    """(1 - t) a + t b, eq. 4.1. a, b (..., D); t a number or (T,): with a, b (D,) the path is (T, D)."""
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    return (1 - t) * a + t * b


def norm_preserving(a: Tensor, b: Tensor, t: ArrayLike, centre: ArrayLike | None = None) -> Tensor:
    """The straight path, each point moved along its ray to norm (1 - t)|a| + t|b|, eq. 4.2. Shapes as there.

    Norms and rays are from the origin, as printed, or from `centre` (D,). GlowkitError where the straight
    path meets that point: it has no ray there.
    """
    middle = torch.zeros_like(a) if centre is None else _like(centre, a)
    a, b = a - middle, b - middle
    x = straight(a, b, t)
    wanted = straight(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), t)
    norm = x.norm(dim=-1, keepdim=True)
    if not (norm > 0).all():
        raise GlowkitError("norm-preserving path: the straight path meets the centre, which has no direction")
    return middle + wanted / norm * x


def slerp(a: Tensor, b: Tensor, t: ArrayLike) -> Tensor:
    """Spherical interpolation: the arc from a to b at constant angular speed (White 2016). Shapes as above.

    Where a and b are parallel the arc is the straight path; GlowkitError where they are opposite.
    """
    cosine = F.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[..., None]
    angle = torch.acos(cosine)
    if (cosine <= -1).any():
        raise GlowkitError("slerp: the end points are opposite; no arc between them is the shortest")
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    sine = torch.where(angle > 1e-4, angle.sin(), 1)
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine
    return torch.where(angle > 1e-4, arc, (1 - t) * a + t * b)


# ------------------------------------------------------------------------------------------------- arithmetic


def add(z: Tensor, direction: ArrayLike, alpha: ArrayLike = 1.0) -> Tensor:
    """z + alpha (mu_feature - mu_not_feature), eq. 4.6: eq. 4.4 at alpha = 1, its removal, eq. 4.5, at -1.

    z (..., D); direction (D,), as `study.direction(attribute)`; alpha one number, or one for each latent.
    """
    alpha = torch.as_tensor(alpha, dtype=z.dtype, device=z.device)[..., None]
    return z + alpha * _like(direction, z)


def add_to_pixels(x: Tensor, direction: ArrayLike, alpha: float = 1.0) -> Tensor:
    """The control: the same arithmetic on the picture itself. x (B, 3, H, W) in [0, 1]; direction (D,)."""
    return (x + alpha * _like(direction, x).view(x.shape[1:])).clamp(0, 1)


def calibrated_alpha(z: Tensor, direction: ArrayLike, mean: ArrayLike) -> Tensor:
    """(B,): the alpha that takes each latent's projection on the direction to that of a class mean (D,).

    One step for everyone (eq. 4.6) overshoots some faces and leaves others short; this one knows where z is.
    """
    direction = _like(direction, z)
    return (_like(mean, z) - z) @ direction / direction.square().sum()


def reflect(z: Tensor, alpha: float = 0.5, centre: ArrayLike | None = None) -> Tensor:
    """-alpha z, the specular image of fig. 17; about `centre` (D,) it is centre - alpha (z - centre)."""
    middle = torch.zeros_like(z) if centre is None else _like(centre, z)
    return middle - alpha * (z - middle)


def _like(vector: ArrayLike, z: Tensor) -> Tensor:
    vector = torch.as_tensor(vector, dtype=z.dtype, device=z.device)
    if vector.ndim != 1:
        raise GlowkitError(f"a direction or mean of shape {tuple(vector.shape)}: one vector (D,) is wanted")
    return vector


# ----------------------------------------------------------------------------------------------- did it work?


def finite(x: Tensor) -> np.ndarray:
    """bool (B,): is every pixel of the picture a number?"""
    return x.flatten(1).isfinite().all(1).cpu().numpy()


def succeeded(judge: Judge, x: Tensor, attribute: str, wanted: bool = True) -> np.ndarray:
    """bool (B,): the picture is finite and the judge sees the attribute in it (`wanted=False`: sees none)."""
    return (judge.says(x, attribute) == wanted) & finite(x)


def cross_fitted(success: ArrayLike) -> np.ndarray:
    """(n,): the outcome for each face with the row (the alpha) that did best on the *other* half of faces.

    success (rows, n). Choosing and scoring on the same faces would flatter the choice. Of equally good rows
    the first is taken.
    """
    success = np.asarray(success, float)
    half = np.arange(success.shape[1]) % 2 == 0
    chosen = np.where(half, success[:, ~half].mean(1).argmax(), success[:, half].mean(1).argmax())
    return success[chosen, np.arange(success.shape[1])]


class FaceReader:
    """reader(x) -> bool (B,): does the picture still show a face, eyes over mouth, where a face should be?

    Logistic regression on contrast-normalised pixels of real pictures (N, 3, H, W) in [0, 1] against what is
    no face but has a face's colours: the same upside down, cut into tiles and shuffled, and noise. One in a
    hundred of those still passes. A picture with a pixel that is not finite shows none.
    """

    def __init__(self, real: Tensor) -> None:
        g = torch.Generator().manual_seed(0)
        noise = real.mean((2, 3), keepdim=True) + torch.rand(real.shape, generator=g) - 0.5
        wrong = [real.flip(2), _shuffled(real, 4, g), _shuffled(real, 8, g), noise]
        rows = np.concatenate([self._rows(part) for part in (real, *wrong)])
        self.classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=300)
        self.classifier.fit(rows, np.arange(len(rows)) < len(real))
        self.threshold = np.quantile(self.classifier.decision_function(rows[len(real) :]), 0.99)

    @staticmethod
    def _rows(x: Tensor) -> np.ndarray:
        grey = F.interpolate(x.nan_to_num(0.0).mean(1, keepdim=True), size=(32, 32), mode="area")
        away = grey - F.avg_pool2d(grey, 7, 1, 3, count_include_pad=False)
        contrast = F.avg_pool2d(away.square(), 7, 1, 3, count_include_pad=False).sqrt()
        return (away / (contrast + 0.02)).flatten(1).cpu().numpy()

    def __call__(self, x: Tensor) -> np.ndarray:
        return finite(x) & (self.classifier.decision_function(self._rows(x)) > self.threshold)


def _shuffled(x: Tensor, tiles: int, generator: torch.Generator) -> Tensor:
    """Each picture cut into tiles x tiles squares, in random order."""
    parts = x.unfold(2, x.shape[2] // tiles, x.shape[2] // tiles)
    parts = parts.unfold(3, x.shape[3] // tiles, x.shape[3] // tiles).flatten(2, 3)
    order = torch.rand(len(x), tiles * tiles, generator=generator).argsort(1)
    parts = torch.stack([part[:, where] for part, where in zip(parts, order, strict=True)])
    return parts.unflatten(2, (tiles, tiles)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)


def frechet(a: ArrayLike, b: ArrayLike) -> float:
    """Frechet distance of the normals fitted to features (n, k) and (m, k):
    |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). Zero for equal moments."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The product of two positive matrices has real, non-negative eigenvalues; round-off says otherwise.
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def frechet_ratio(
    a: ArrayLike, b: ArrayLike, real: ArrayLike, components: int = 12, blocks: int = 16
) -> Estimate:
    """frechet(a, real) / frechet(b, real), features (n, k), (n, k), (m, k); a and b paired row by row.

    In the real features' first principal components: with many more dimensions the distance mostly measures
    n. The interval is a jackknife over blocks of rows (of the logarithm): a bootstrap repeats rows, which
    biases a Frechet distance upward.
    """
    a, b, real = (np.asarray(part, float) for part in (a, b, real))
    axes = np.linalg.svd(real - real.mean(0), full_matrices=False)[2][:components].T
    a, b, real = a @ axes, b @ axes, real @ axes

    def log_ratio(rows: np.ndarray) -> float:
        return float(np.log(frechet(a[rows], real) / frechet(b[rows], real)))

    rows = np.arange(len(a))
    whole = log_ratio(rows)
    left_out = np.array([log_ratio(np.delete(rows, block)) for block in np.array_split(rows, blocks)])
    spread = np.sqrt((blocks - 1) * np.square(left_out - left_out.mean()).mean())
    margin = stats.t.ppf(0.975, blocks - 1) * spread
    low, middle, high = np.exp([whole - margin, whole, whole + margin])
    return Estimate(float(middle), (float(low), float(high)), len(a))


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


# ------------------------------------------------------------------------- means and directions are estimates


def noise_floor(study: Study, attribute: str) -> float:
    """E |noise|^2 in the squared norm of a direction: the latents' variance, summed, times (1/n+ + 1/n-)."""
    positives = study.count(attribute)
    return float(study.variance.sum(dtype=float)) * (1 / positives + 1 / (study.n - positives))


def noise_share(study: Study, attribute: str) -> Estimate:
    """The noise floor's share of |direction|^2; the interval is for the noise of |direction|^2 itself."""
    positives = study.count(attribute)
    variance = study.variance.astype(float) * (1 / positives + 1 / (study.n - positives))
    square = study.direction(attribute).astype(float) ** 2
    whole, floor = square.sum(), noise_floor(study, attribute)
    # |s + e|^2 has variance 4 sum(v s^2) + 2 sum(v^2); seen is (s + e)^2, so its excess over v is s^2.
    signal = (square - variance).clip(min=0)
    spread = np.sqrt(4 * (variance * signal).sum() + 2 * np.square(variance).sum())
    low, high = floor / (whole + 1.96 * spread), floor / max(whole - 1.96 * spread, floor / 2)
    return Estimate(float(floor / whole), (float(low), float(high)), positives)


def noise_share_of_halves(cosine: float) -> float:
    """What the cosine between two half-sample directions says of the same share.

    Halving the images doubles the noise F: the cosine is S / (S + 2F), so F / (S + F) = (1 - cosine) /
    (1 + cosine).
    """
    return (1 - cosine) / (1 + cosine)


def spread_of_means(
    study: Study, attributes: Sequence[str], positive: bool = True, draws: int = 0
) -> np.ndarray:
    """Mean distance between the class means of several attributes (`positive=False`: of their complements).

    Sampling noise lengthens every distance; its expected square is subtracted. Returns (1 + draws,): the
    estimate, and what it becomes when that noise is added once more, independent draws (for an interval).
    """
    rng = np.random.default_rng(0)
    means = np.stack([study.class_mean(attribute, positive) for attribute in attributes]).astype(float)
    n = np.array([study.count(attribute) for attribute in attributes])
    first, second = np.triu_indices(len(attributes), 1)
    # Complements are mostly the same images and share most of their noise: what differs is who is left out.
    share = 1 / n if positive else 1 / (study.n - n) - 1 / study.n
    total, scale = study.variance.sum(dtype=float), np.sqrt(study.variance.astype(float))
    floor = total * (share[first] + share[second])

    def spread(points: np.ndarray, floors: float) -> float:
        square = np.square(points[first] - points[second]).sum(1) - floors * floor
        return float(np.sqrt(square.clip(min=0)).mean())

    noisy = (means + rng.standard_normal(means.shape) * scale * np.sqrt(share)[:, None] for _ in range(draws))
    return np.array([spread(means, 1), *(spread(points, 2) for points in noisy)])


# ------------------------------------------------------------------------------ where an edit lands (fig. 24)


def displace(x: Tensor, dx: int, dy: int) -> Tensor:
    """Pictures (B, 3, H, W) moved by whole pixels, dx to the right and dy down; the border is repeated."""
    size = x.shape[-1]
    if max(abs(dx), abs(dy)) >= size:
        raise GlowkitError(f"displacement ({dx}, {dy}): it must be smaller than the picture's {size} pixels")
    rows = (torch.arange(size) - dy).clamp(0, size - 1)
    columns = (torch.arange(size) - dx).clamp(0, size - 1)
    return x[:, :, rows][..., columns]


def stay_and_follow(change: Tensor, displaced: Tensor, dx: int, dy: int) -> np.ndarray:
    """(B, 2): how much of an edit's change stays in the image and how much follows the face.

    change (B, 3, H, W) is what the edit did to each face where it was, displaced what it did to the same faces moved
    by (dx, dy). Least squares: displaced = stay * change + follow * (change, moved). An edit in image coordinates
    gives (1, 0), one in face coordinates (0, 1), one that no longer takes place (0, 0). NaN if a decode exploded.
    """
    if not (dx or dy):
        raise GlowkitError("stay_and_follow: a face that has not moved cannot tell staying from following")
    still, moved, seen = (t.flatten(1).double() for t in (change, displace(change, dx, dy), displaced))
    inner = torch.stack([torch.stack([(a * b).sum(1) for b in (still, moved)], 1) for a in (still, moved)], 1)
    outer = torch.stack([(a * seen).sum(1) for a in (still, moved)], 1)
    broken = ~(inner.flatten(1).isfinite().all(1) & outer.isfinite().all(1))
    inner[broken], outer[broken] = torch.eye(2, dtype=inner.dtype), torch.nan
    return torch.linalg.solve(inner, outer).cpu().numpy()


# ----------------------------------------------------------------------------------------- inside the inverse


@torch.no_grad()
def inverse_ranges(model: Glow, z: Tensor) -> tuple[list[int], np.ndarray]:
    """Largest absolute value after each layer of the inverse, in the order it runs: deepest level to pixels.

    z (B, D) -> the level (1 is the shallowest) of each of the M layers, and (B, M). Compare an edit's row
    with those of real faces: the first layer beyond them is where the decoder leaves the ground it knows.
    """
    h: Tensor | None = None
    levels, ranges = [], []
    for depth in reversed(range(model.config.levels)):
        level = model.levels[depth]
        eps = z[:, model.level_slices[depth]].unflatten(1, model.level_shapes[depth])
        h = level.prior.inverse(h, eps) if isinstance(level.prior, SplitPrior) else level.prior.inverse(eps)
        for layer in (None, *reversed(level.steps)):
            h = h if layer is None else FoldedSteps([layer], h.shape[-2:]).inverse(h)
            levels.append(depth + 1)
            ranges.append(h.abs().flatten(1).amax(1))
        h = F.pixel_shuffle(h, 2)
    return levels, torch.stack(ranges, 1).cpu().numpy()
