"""Any invertible model is an image flow: here a linear one, measured by everything that measures our Glow."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from glowkit import certificate, corruption, study
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.image_flow import BIN_CENTRES, ImageFlow


class Linear(ImageFlow):
    def __init__(self, size: int = 8) -> None:
        super().__init__(image_size=size, bits=5)
        generator = torch.Generator().manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(self.dim, self.dim, generator=generator, dtype=torch.float64))[0]
        self.weight = nn.Parameter(rotation * torch.linspace(0.5, 4, self.dim)[:, None], requires_grad=False)

    def forward(self, v):
        return v.flatten(1) @ self.weight.T, torch.linalg.slogdet(self.weight)[1].expand(len(v))

    def inverse(self, z):
        return torch.linalg.solve(self.weight, z.T).T.view(-1, 3, self.image_size, self.image_size)


def toy_dataset() -> Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
    labels = rng.random((300, 2)) < (0.5, 0.2)
    pixels[labels[:, 0], 0] //= 2
    splits = np.repeat(np.array([0, 2], np.uint8), (200, 100))
    return Dataset("toy", 8, ["Half", "Some"], labels, splits, None, np.arange(300) // 2, lambda i: pixels[i])


def test_images_and_densities_of_a_linear_flow():
    """Against the normal law of z = W v by hand."""
    model, x = Linear(), toy_dataset().images(range(70))
    v = (np.floor(x.numpy() / 8) + 0.5) / 32 - 0.5
    weight = model.weight.numpy()
    z = v.reshape(70, -1) @ weight.T
    assert np.allclose(model.encode(x, noise=BIN_CENTRES), z)
    assert np.allclose(model.decode(torch.from_numpy(z)), v + 0.5)
    nats = -0.5 * (z**2).sum(1) - 96 * math.log(2 * math.pi) + np.linalg.slogdet(weight)[1] - 192 * math.log(32)
    assert np.allclose(model.log_prob(x, noise=BIN_CENTRES), nats)
    noisy = model.log_prob(x, noise=torch.Generator().manual_seed(3))
    assert torch.equal(model.bits_per_dim(x, torch.Generator().manual_seed(3)), -noisy / (192 * math.log(2)))
    assert torch.equal(model.bits_per_dim(x), model.bits_per_dim(x, torch.Generator().manual_seed(0)))
    assert model.sample(5).shape == (5, 3, 8, 8) and model.level_slices == [slice(0, 192)]
    assert certificate.certify(model, x).holds
    with pytest.raises(GlowkitError, match=r"\(B, 3, 8, 8\)"):
        model.encode(x[..., :4], noise=BIN_CENTRES)


@pytest.mark.parametrize("wrong, told", [(lambda x: 255 * x, "from 0 to 255"), (lambda x: 2 * x - 1, "from -1 to 1")])
def test_floats_of_another_range_are_refused(wrong, told):
    """Clipped, they would be black and white; rounding may take them a little beyond."""
    model, x = Linear(), torch.linspace(0, 1, 192).view(1, 3, 8, 8)
    for method in (model.encode, model.quantise, model.log_prob, model.bits_per_dim):
        with pytest.raises(GlowkitError, match=rf"floats {told}: this model takes \[0, 1\]"):
            method(wrong(x))
    assert torch.equal(model.quantise(x * (1 + 1e-6)), model.quantise(x))


def test_a_model_anywhere_takes_noise_of_the_cpu():
    """On the device of shapes, which refuses whatever lies on another."""
    model, x = Linear().to("meta"), toy_dataset().images(range(3))
    generator = torch.Generator().manual_seed(0)
    assert model.sample(2, generator=generator).device.type == "meta"
    assert model.bits_per_dim(x).device.type == model.encode(x, noise=generator).device.type == "meta"
    # All that was drawn was drawn by this generator.
    expected = torch.Generator().manual_seed(0)
    torch.randn(2, model.dim, generator=expected), torch.rand(x.shape, generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_a_linear_flow_is_studied():
    """All three passes, against everything at once in NumPy: z = W v, so class means are W times those of pixels."""
    model, data = Linear().float(), toy_dataset()
    training, held_out = data.subset("train"), data.subset("test")
    half = study.halves(data, held_out)
    sums, _ = study.class_sums(model, data, training)
    found = study.project(model, data, held_out, sums, half, seed=0)
    along = study.sides(model, data, held_out, half, found["half.mean"], seed=0)
    weight, v = model.weight.numpy(), data.images(range(300)).numpy() // 8 / 32 + 1 / 64 - 0.5
    z = v.reshape(300, -1) @ weight.T
    y = data.labels[training]
    means = np.stack([z[training][y[:, i]].mean(0) for i in range(2)])
    assert np.allclose(sums["latent"].class_mean().float(), means, atol=2e-3)  # stored in float16
    direction = means[0] - z[training][~y[:, 0]].mean(0)
    expected = z[held_out] @ direction / np.linalg.norm(direction)
    assert np.allclose(found["projection.latent.opposite"][:, 0], expected, atol=1e-2)
    assert np.allclose(found["norms.centres"][:, 0], np.linalg.norm(z[held_out], axis=1), atol=1e-4)
    noisy = np.linalg.norm(z[held_out], axis=1) - found["norms.noise"][:, 0].numpy()
    assert 0 < np.abs(noisy).max() < 1
    assert along.shape == (100,) and along.abs().max() <= found["norms.noise"].max()


def test_a_linear_flow_is_corrupted():
    """One component set to a value moves the picture along one column of the inverse, by as much as it moved."""
    model = Linear()
    z = model.encode(toy_dataset().images([0]), noise=BIN_CENTRES)[0]
    components = corruption.draw(model, 4)[0]
    pictures = corruption.corrupt(model, z, components)
    columns = np.linalg.inv(model.weight.numpy())[:, components].T * (100 - z[components].numpy())[:, None]
    changes = (pictures - (model.inverse(z[None]) + 0.5)).flatten(1)
    assert np.allclose(changes, columns)
    assert corruption.site(model, 70)[:2] == (1, 1)


def test_a_flow_without_an_inverse_is_none():
    class Half(ImageFlow):
        def forward(self, v):
            return v.flatten(1), v.new_zeros(len(v))

    with pytest.raises(TypeError, match="inverse"):
        Half(8, 5)
