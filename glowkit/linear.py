"""The linear flow: probabilistic principal components (Tipping and Bishop 1999), the best that a linear map can do.

Images are a normal distribution with the mean m and a covariance C that has the k largest axes of the data's own, and
one variance s^2 on all directions beyond. Its flow whitens: z = C^(-1/2) (v - m), the symmetric root. Any rotation of z
has the same likelihood and the same projections on differences of class means, for C^(-1/2) enters both only through
C^(-1); the symmetric root needs no basis beyond the k axes, keeps the order of the pixels, so that z is of an image's
shape, and changes an image least (Kessy, Lewin and Strimmer 2018). Latent arithmetic in it is pixel arithmetic:
whatever a Glow does better than this control, it does by not being linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch import Tensor, nn

from glowkit import fields
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.image_flow import BIN_CENTRES, ImageFlow

CONFIG = {"image_size": fields.Whole(8, 256), "rank": fields.Whole(1, 4096), "bits": fields.Whole(1, 8)}
# In the file, axes are whole numbers, for only where they point counts: FINE in 8 bits, and in 4 those with so little
# variance that it does not matter. A rank of 1,100 in 12,288 dimensions takes 8 MB.
FINE = 200
RANKS = (10, 30, 100, 200, 300, 450, 600, 800, 1000, 1100)
BATCH = 500  # images read at a time


@dataclass(frozen=True)
class LinearConfig:
    """The shape of a linear flow: how many axes, `rank`, have a variance of their own. `bits` as in a `GlowConfig`.

    Raises GlowkitError for a shape that cannot be.
    """

    image_size: int = 64
    rank: int = 300
    bits: int = 5

    levels = 1  # all of z is one
    kinds: ClassVar[Mapping[str, fields.Kind]] = CONFIG

    def __post_init__(self) -> None:
        fields.check(vars(self), self.kinds, "model.")
        if self.rank >= self.dim:
            raise GlowkitError(f"model.rank = {self.rank}: want fewer axes than the {self.dim:,} numbers of an image")

    @property
    def dim(self) -> int:
        return 3 * self.image_size**2

    @property
    def parameters(self) -> int:
        """How many numbers such a flow learns."""
        return self.fine * self.dim + self.coarse * self.bytes + self.dim + self.rank + 1

    @property
    def fine(self) -> int:
        return min(self.rank, FINE)

    @property
    def coarse(self) -> int:
        return self.rank - self.fine

    @property
    def bytes(self) -> int:
        """Of an axis in 4 bits."""
        return (self.dim + 1) // 2

    def as_dict(self) -> dict:
        return asdict(self)


class LinearFlow(ImageFlow):
    """z = (I - U U^T) (v - m) / s + U l^(-1/2) U^T (v - m), with U (D, k) orthonormal: an `ImageFlow` in closed form.

    mean m (D,); the k rows of fine, from -127 to 127, and then of coarse, two numbers from -8 to 7 a byte, span what U
    does; variances l (k,) along U's columns; rest s^2 (), the variance beyond.

    >>> flow = glowkit.load("linear64")
    >>> x = glowkit.open_dataset("faces64").images([0, 1])
    >>> bool((flow.decode(flow.encode(x)) - flow.quantise(x)).abs().max() < 1e-4)
    True
    """

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config.image_size, config.bits)
        self.config = config
        self.mean = nn.Parameter(torch.zeros(self.dim))
        self.register_buffer("fine", torch.eye(config.fine, self.dim).to(torch.int8))
        self.register_buffer("coarse", torch.zeros(config.coarse, config.bytes, dtype=torch.uint8))
        self.variances = nn.Parameter(torch.ones(config.rank))
        self.rest = nn.Parameter(torch.ones(()))
        self._basis: Tensor | None = None

    def basis(self) -> Tensor:
        """U (D, k): the axes made orthonormal, each in turn, so that the inverse is exact however they were rounded."""
        if self._basis is None or self._basis.device != self.mean.device or self._basis.dtype != self.mean.dtype:
            coarse = torch.stack([self.coarse >> 4, self.coarse & 15], 2).flatten(1)[:, : self.dim]
            axes = torch.cat([_unit(self.fine.to(self.mean)), _unit(coarse.to(self.mean) - 8)])
            self._basis = torch.linalg.qr(axes.T).Q
        return self._basis

    def load_state_dict(self, *arguments, **options):
        self._basis = None
        return super().load_state_dict(*arguments, **options)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        along, beyond = self._split(v.flatten(1) - self.mean)
        z = beyond * self.rest.rsqrt() + (along * self.variances.rsqrt()) @ self.basis().T
        ladj = -0.5 * (self.variances.log().sum() + (self.dim - len(self.variances)) * self.rest.log())
        return z, ladj.expand(len(v))

    def inverse(self, z: Tensor) -> Tensor:
        along, beyond = self._split(z)
        d = beyond * self.rest.sqrt() + (along * self.variances.sqrt()) @ self.basis().T
        return (d + self.mean).unflatten(1, (3, self.image_size, self.image_size))

    def _split(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """U^T d (B, k) and (I - U U^T) d (B, D), of d (B, D)."""
        basis = self.basis()
        first = d @ basis
        beyond = d - first @ basis.T
        # Once more, for what rounding leaves of it along U, the inverse would scale up by the roots of the variances.
        second = beyond @ basis
        return first + second, beyond - second @ basis.T


def fit(
    dataset: Dataset, n: int = 12_000, ranks: Sequence[int] = RANKS, bits: int = 5, held_out: int = 1000
) -> tuple[LinearFlow, dict[int, float]]:
    """The linear flow of most likelihood, of n training images, and bits/dim at each rank on `held_out` of validation.

    The rank is the best there of those `ranks` that so many images allow; no attribute is looked at. Dequantisation
    noise is uniform and independent of the image, so its variance is added to that of every direction instead of
    being drawn.
    """
    from sklearn.utils.extmath import randomized_svd  # takes a second, and who loads a model needs none

    training, validation = dataset.subset("train")[:n], dataset.subset("valid")[:held_out]
    if not len(validation):
        raise GlowkitError(f"{dataset.name}: no images in the validation split, by which the rank is chosen")
    dim = 3 * dataset.size**2
    least, ranks = min(ranks) + 1, [rank for rank in sorted(ranks) if rank < min(len(training), dim)]
    if not ranks:
        raise GlowkitError(f"{dataset.name}: {len(training)} training images; a linear flow takes at least {least}")
    whole = LinearFlow(LinearConfig(dataset.size, ranks[-1], bits))
    points = _centred(dataset, training, whole)
    mean = points.mean(0, dtype=np.float64).astype(np.float32)
    points -= mean
    # Orthonormal between passes: their variances span more than float32 has digits for.
    found = randomized_svd(points, ranks[-1], n_iter=2, power_iteration_normalizer="QR", random_state=0)
    axes = rounded(torch.from_numpy(found[2]))
    noise = 2.0 ** (-2 * bits) / 12  # variance of a uniform number in a bin
    total = sum(float(np.square(part).sum(dtype=np.float64)) for part in np.array_split(points, 100)) / len(points)
    whole.load_state_dict(axes, strict=False)
    variances = torch.from_numpy(np.square(points @ whole.basis().detach().numpy()).mean(0, dtype=np.float64))

    def of(rank: int) -> LinearFlow:
        flow = LinearFlow(LinearConfig(dataset.size, rank, bits))
        rest = (total - float(variances[:rank].sum())) / (dim - rank) + noise
        flow.load_state_dict({
            "mean": torch.from_numpy(mean),
            "fine": axes["fine"][:rank], "coarse": axes["coarse"][: max(0, rank - FINE)],
            "variances": (variances[:rank] + noise).float(), "rest": torch.tensor(rest),
        })  # fmt: skip
        return flow.eval().requires_grad_(False)

    x = dataset.images(validation)
    scores = {rank: float(of(rank).bits_per_dim(x).mean()) for rank in ranks}
    return of(min(scores, key=scores.get)), scores


@dataclass(frozen=True)
class Whole:
    """The linear flow of most likelihood, with axes as they are and of any rank: its mean (D,), axes U (D, k), their
    variances l (k,), the variance s^2 beyond. A file of one would hold more than that of a `LinearFlow`.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float

    def lines(self, differences: np.ndarray) -> np.ndarray:
        """C^(-1) d (A, D) of differences of pixels d (A, D): where an image v projects to in latent space, on what d
        becomes there, (W v) . (W d) = v . C^(-1) d."""
        along = differences @ self.axes
        return ((1 / self.variances - 1 / self.rest) * along) @ self.axes.T + differences / self.rest

    def truncated(self, rank: int) -> Whole:
        """The same of a lower rank: the variances of the axes left out go into the one beyond."""
        beyond = self.variances[rank:].sum() + self.rest * (len(self.mean) - len(self.variances))
        rest = float(beyond / (len(self.mean) - rank))
        return Whole(self.mean, self.axes[:, :rank], self.variances[:rank], rest)


def fit_whole(dataset: Dataset, n: int, bits: int, held_out: int = 1000) -> tuple[Whole, np.ndarray]:
    """The `Whole` linear flow of n training images, and bits/dim on `held_out` of validation at every rank from 0.

    The rank is the best there; no attribute is looked at. Takes all eigenvectors of the covariance at once: minutes,
    and a few gigabytes, for D = 12,288.
    """
    training, validation = dataset.subset("train")[:n], dataset.subset("valid")[:held_out]
    flow = LinearFlow(LinearConfig(dataset.size, 1, bits))
    points, dim = _centred(dataset, training, flow), flow.dim
    mean = points.mean(0, dtype=np.float64).astype(np.float32)
    points -= mean
    variances, axes = eigh(points.T @ points / np.float32(len(points)), overwrite_a=True, check_finite=False)
    del points
    noise = 2.0 ** (-2 * bits) / 12
    variances = variances[::-1].astype(np.float64).clip(min=0) + noise
    axes = axes[:, ::-1]
    held = np.square((_centred(dataset, validation, flow) - mean) @ axes, dtype=np.float64).mean(0) + noise
    ranks = np.arange(dim - 1)
    first, held_first = (np.concatenate([[0], np.cumsum(values)])[ranks] for values in (variances, held))
    rest = (variances.sum() - first) / (dim - ranks)
    within = np.concatenate([[0], np.cumsum(held / variances + np.log(variances))])[ranks]
    beyond = (held.sum() - held_first) / rest + (dim - ranks) * np.log(rest)
    nats = 0.5 * (within + beyond + dim * np.log(2 * np.pi))
    bits_per_dim = nats / (dim * np.log(2)) + bits
    rank = int(bits_per_dim.argmin())
    kept = slice(max(rank, 1))
    return Whole(mean, np.ascontiguousarray(axes[:, kept]), variances[kept], float(rest[rank])), bits_per_dim


def rounded(axes: Tensor) -> dict[str, Tensor]:
    """Orthonormal axes (k, D) as a `LinearFlow` holds them: each scaled to the whole numbers of its tensor."""
    fine, coarse = axes[:FINE], F.pad(axes[FINE:], (0, axes.shape[1] % 2))
    fine = (127 * fine / fine.abs().amax(1, keepdim=True)).round().to(torch.int8)
    # A step of 0.4 s.d. is near the best that 15 steps can do for normal numbers; what is beyond them is cut.
    scale = 0.4 / axes.shape[1] ** 0.5
    digits = ((coarse / scale).round().clamp(-8, 7) + 8).to(torch.uint8)
    return {"fine": fine, "coarse": digits[:, ::2] << 4 | digits[:, 1::2]}


def _unit(axes: Tensor) -> Tensor:
    return F.normalize(axes, dim=1)


def _centred(dataset: Dataset, indices: np.ndarray, flow: LinearFlow) -> np.ndarray:
    """Bin centres, less 1/2, of the images at `indices`: float32 (n, D)."""
    points = np.empty((len(indices), flow.dim), np.float32)
    for start in range(0, len(indices), BATCH):
        here = slice(start, start + BATCH)
        points[here] = flow.dequantise(dataset.images(indices[here]), BIN_CENTRES).flatten(1).detach().numpy()
    return points
