"""Is it still a face, and how far is a set of pictures from real ones? Measures that know no attribute."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from glowkit.edits import finite
from glowkit.intervals import Estimate


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


def frechet_ratio(a: ArrayLike, b: ArrayLike, real: ArrayLike, components: int = 12, blocks: int = 16) -> Estimate:
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
