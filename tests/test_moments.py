"""Streaming sums against sums of everything at once, in float64.

`python -m tests.test_moments` compares them at the size of the thesis, for 20,000 vectors of D = 196,608 and 40
attributes; the test does so with 128 vectors.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit import study
from glowkit.dataset import Dataset
from glowkit.moments import ClassSums

ATTRIBUTES, DIM, BLOCK = 40, 196_608, 4096


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), unique=True, max_size=5), seed=st.integers(0, 10))
def test_sums_do_not_depend_on_the_batches(cuts, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(60, 7, generator=generator)
    y = torch.rand(60, 2, generator=generator) < 0.4
    half = torch.arange(60) % 2
    whole, parts = ClassSums(2, 7), ClassSums(2, 7)
    whole.add(z, y, half)
    edges = [0, *sorted(cuts), 60]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        parts.add(z[a:b], y[a:b], half[a:b])
    assert torch.allclose(whole.class_mean(), parts.class_mean(), equal_nan=True)
    assert torch.allclose(whole.variance(), parts.variance())
    assert torch.allclose(whole.mean(), z.double().mean(0))
    assert torch.allclose(whole.half_means()[1], z[1::2].double().mean(0))


@pytest.mark.parametrize("offset", [0, 1, 1000])
def test_the_variance_is_right_far_from_the_origin(offset):
    z = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)) + offset
    sums = ClassSums(0, 16)
    for part in z.split(64):
        sums.add(part, torch.zeros(len(part), 0), torch.zeros(len(part), dtype=torch.int64))
    np.testing.assert_allclose(sums.variance().numpy(), z.double().numpy().var(0), rtol=1e-8)


def test_equal_vectors_vary_nowhere():
    """Rounding would leave some variances just below 0, and a study with such is refused."""
    sums = ClassSums(0, 1000)
    sums.add(torch.randn(1, 1000).expand(3, -1), torch.zeros(3, 0), torch.tensor([0, 1, 0]))
    assert (sums.variance() >= 0).all() and sums.variance().max() < 1e-14


class Vectors:
    """In place of a model: image i "encodes" to normal noise about a mean and a shift for each of its attributes.

    Noise is drawn by blocks of coordinates, so that the reference can have all vectors of a block at a time.
    """

    dim, level_slices = DIM, [slice(0, DIM // 2), slice(DIM // 2, DIM)]

    def __init__(self, labels: np.ndarray) -> None:
        generator = torch.Generator().manual_seed(0)
        self.mean = 2 * torch.randn(DIM, generator=generator)
        self.shifts = 0.1 * torch.randn(ATTRIBUTES, DIM, generator=generator)
        self.labels = torch.from_numpy(labels).float()

    def block(self, images: range, columns: slice) -> torch.Tensor:
        noise = torch.stack([self._noise(i, columns.start) for i in images])
        return noise + self.mean[columns] + self.labels[images.start : images.stop] @ self.shifts[:, columns]

    def _noise(self, i: int, start: int) -> torch.Tensor:
        return torch.randn(BLOCK, generator=torch.Generator().manual_seed(i * DIM + start))

    def parameters(self):
        yield self.mean

    def encode(self, x: torch.Tensor, noise: torch.Generator | None = None) -> torch.Tensor:
        images = range(int(x[0]), int(x[-1]) + 1)
        return torch.cat([self.block(images, slice(a, a + BLOCK)) for a in range(0, DIM, BLOCK)], 1)

    def quantise(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().expand(-1, DIM)


def streamed(n: int, m: int) -> tuple[float, float, float]:
    """What a study keeps of n training and m held-out vectors: greatest deviation from float64, peak memory in bytes,
    seconds."""
    since = time.perf_counter()
    labels = np.random.default_rng(0).random((n + m, ATTRIBUTES)) < np.linspace(0.2, 0.8, ATTRIBUTES)
    images, held_out = np.arange(n), np.arange(n, n + m)
    data = Dataset(
        "vectors", 256, [f"a{i}" for i in range(ATTRIBUTES)], labels, np.zeros(n + m, np.uint8), None, None,
        lambda indices: indices[:, None],
    )  # fmt: skip
    model = Vectors(labels)
    sums, _ = study.class_sums(model, data, images)
    found = study.project(model, data, held_out, sums, torch.arange(m) % 2, seed=0)
    reliability = sums["latent"].reliability()
    peak, seconds = peak_memory(), time.perf_counter() - since

    moments = {"mean": sums["latent"].mean(), "variance": sums["latent"].variance()}
    moments |= {"class sums": sums["latent"].sum[:, 1:].sum(0), "halves": sums["latent"].half_means()}
    worst, products, squares = 0.0, torch.zeros(3, ATTRIBUTES), torch.zeros(m, DIM // BLOCK)
    y = torch.from_numpy(labels[:n]).double()
    for k, start in enumerate(range(0, DIM, BLOCK)):
        here = slice(start, start + BLOCK)
        z = model.block(range(n), here).double()
        squares[:, k] = model.block(range(n, n + m), here).double().square().sum(1)
        expected = {"mean": z.mean(0), "variance": (z - z.mean(0)).square().mean(0), "class sums": y.T @ z}
        expected["halves"] = torch.stack([z[h::2].mean(0) for h in (0, 1)])
        for key, value in expected.items():
            # of the scale that the quantity has: a mean may be zero
            deviation = (moments[key][..., here] - value).abs().max() / value.abs().mean()
            worst = max(worst, float(deviation))
        a, b = (_directions(z[h::2], y[h::2]) for h in (0, 1))
        products += torch.stack([(a * b).sum(1), (a * a).sum(1), (b * b).sum(1)])
    norms = torch.stack([part.sum(1).sqrt() for part in squares.chunk(2, 1)], 1)
    worst = max(worst, float((found["norms.centres"] / norms - 1).abs().max()))
    worst = max(worst, float((reliability - products[0] / (products[1] * products[2]).sqrt()).abs().max()))
    return worst, peak, seconds


def _directions(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(A, D), mean+ - mean- of vectors (n, D)."""
    return y.T @ z / y.sum(0)[:, None] - (1 - y).T @ z / (1 - y).sum(0)[:, None]


def peak_memory() -> int:
    """Bytes that this process has had at most. (What getrusage tells begins with the memory of its parent.)"""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_at_the_size_of_the_thesis():
    run = [sys.executable, "-m", "tests.test_moments", "128"]
    result = subprocess.run(run, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    worst, peak, seconds = streamed(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, 10)
    print(f"greatest deviation {worst:.1e}, peak memory {peak / 1e6:.0f} MB, {seconds:.0f} s")
    assert worst < 1e-5 and peak < 1.5e9
