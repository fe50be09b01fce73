"""Is it still a face, and how far is a set of pictures from real ones? Measures that know no attribute."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm.auto import trange

from glowkit.edits import finite
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.judge import Judge, worn

FACES = 32  # real pictures in a step of a `LooksReader`'s training, beside as many that are none


class FaceReader:
    """reader(x) -> bool (B,): does the picture still show a face, eyes over mouth, where a face should be?

    Logistic regression on contrast-normalised pixels of real pictures (N, 3, H, W) in [0, 1] against what is
    no face but has a face's colours: the same upside down, cut into tiles and shuffled, and noise. One in a
    hundred of those still passes. A picture with a pixel that is not finite shows none.
    """

    def __init__(self, real: Tensor) -> None:
        g = torch.Generator().manual_seed(0)
        rows = np.concatenate([self._rows(part) for part in (real, *_ruined(real, g))])
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


class LooksReader:
    """reader(x) -> (B,): log-odds that a picture x (B, 3, H, W), uint8 or float in [0, 1], shows one face, in nats.

    `FaceReader` asks whether eyes are over a mouth, and a double exposure has those. This is a small convolutional
    network that has learnt, in `steps` steps, to tell real pictures (N, 3, H, W) from blends of two of them
    (cross-fades, patchworks along soft borders, parts that are half another face's) and from what is no face. Both
    sides are mirrored, blurred, made noisy and changed in contrast alike, so that neither sharpness nor grain nor
    paleness gives the answer away. It knows no attribute.

    `passes(x)` is bool (B,): do the log-odds reach `threshold`, which one in twenty of `others` does not? These are
    real pictures of other people than the first, so that 95% of unknown faces pass. A picture with a pixel that is not
    finite has log-odds of -inf. The same pictures and seed make the same reader.
    """

    def __init__(self, real: Tensor, others: Tensor, steps: int = 1500, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Judge(["one face"], width=12)
            self._fit(real, steps)
        self.network.eval().requires_grad_(False)
        self.threshold = float(self(others).quantile(0.05))

    def _fit(self, real: Tensor, steps: int) -> None:
        if len(real) < FACES:
            raise GlowkitError(f"a reader of looks needs {FACES} real pictures at least, not {len(real)}")
        optimiser = torch.optim.AdamW(self.network.parameters(), 3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in trange(steps, desc="looks", unit="step"):
            x = real[torch.randperm(len(real))[:FACES]]
            x = x / 255 if x.dtype == torch.uint8 else x
            ruined = torch.cat(_ruined(x[: FACES // 16]))
            wrong = torch.cat([_blended(x, x.roll(1, 0))[len(ruined) :], ruined])
            both = torch.cat([x, wrong])
            contrast = torch.empty(len(both), 1, 1, 1).uniform_(0.6, 1.4)
            both = torch.lerp(both.mean((1, 2, 3), keepdim=True), both, contrast)
            odds = self.network.logits(worn(both))[:, 0]
            loss = F.binary_cross_entropy_with_logits(odds, (torch.arange(2 * FACES) < FACES).float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        odds = torch.cat([self.network.logits(part)[:, 0] for part in x.split(256)]).cpu()
        return torch.where(torch.from_numpy(finite(x)), odds, -torch.inf)

    def passes(self, x: Tensor) -> np.ndarray:
        return (self(x) >= self.threshold).numpy()


def _blended(x: Tensor, other: Tensor) -> Tensor:
    """Each picture x blended with another: half of them all over, the rest along a soft mask, wholly or in part."""
    share = torch.empty(len(x), 1, 1, 1).uniform_(0.25, 0.75)
    hills = sum(F.interpolate(torch.randn(len(x), 1, k, k), size=x.shape[2:], mode="bicubic") for k in (2, 4))
    steepness = torch.empty(len(x), 1, 1, 1).uniform_(2, 20)
    mask = (steepness * (hills - hills.mean((2, 3), keepdim=True))).sigmoid()
    way = torch.randint(4, (len(x), 1, 1, 1))
    return torch.lerp(x, other, torch.where(way < 2, share, torch.where(way < 3, mask, share * mask)))


def _ruined(x: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
    """What is no face but has a face's colours: the same upside down, cut into tiles and shuffled, and noise."""
    noise = x.mean((2, 3), keepdim=True) + torch.rand(x.shape, generator=generator) - 0.5
    return [x.flip(2), _shuffled(x, 4, generator), _shuffled(x, 8, generator), noise]


def _shuffled(x: Tensor, tiles: int, generator: torch.Generator | None) -> Tensor:
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
