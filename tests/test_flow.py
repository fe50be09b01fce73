"""Each layer and a whole small Glow against autograd; images, latents and their order against brute force."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit import layers, load
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig, Level
from glowkit.image_flow import BIN_CENTRES
from glowkit.kernels import FoldedSteps


def scrambled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """In float64, with every parameter moved off its special starting value."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def log_det(f, x: torch.Tensor) -> torch.Tensor:
    """log |det df/dx| of f at one input x, by autograd."""
    jacobian = torch.autograd.functional.jacobian(f, x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))[1]


def small(coupling: str, size: int = 8, levels: int = 2, activation: str = "relu") -> Glow:
    torch.manual_seed(0)
    return scrambled(Glow(GlowConfig(size, levels, 2, 8, coupling, activation=activation)))


LAYERS = {
    "actnorm": lambda: layers.ActNorm(6),
    "conv": lambda: layers.InvertibleConv(6),
    "additive": lambda: layers.Coupling(6, 8, "additive"),
    "affine": lambda: layers.Coupling(6, 8, "affine"),
    "capped": lambda: layers.Coupling(6, 8, "affine", "capped"),
    "odd channels": lambda: layers.Coupling(5, 8, "affine"),
    "step": lambda: layers.Step(6, 8, "affine"),
    "top prior": lambda: layers.TopPrior(6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_against_autograd(name):
    torch.manual_seed(1)
    layer = scrambled(LAYERS[name]())
    channels = 5 if name == "odd channels" else 6
    x = torch.randn(3, channels, 4, 4, dtype=torch.float64)
    y, ladj = layer(x)
    assert ladj.shape == (3,)
    assert (layer.inverse(y) - x).abs().max() < 1e-8
    for i in range(3):
        forward = log_det(lambda x_: layer(x_[None])[0], x[i])
        backward = log_det(lambda y_: layer.inverse(y_[None]), y[i].detach())
        assert abs(forward - ladj[i]) < 1e-8
        assert abs(backward + ladj[i]) < 1e-8


def test_split_prior_against_autograd():
    torch.manual_seed(1)
    prior = scrambled(layers.SplitPrior(6))
    h = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    kept, eps, ladj = prior(h)
    assert (prior.inverse(kept, eps) - h).abs().max() < 1e-8
    for i in range(2):
        assert abs(log_det(lambda x: torch.cat(prior(x[None])[:2], 1), h[i]) - ladj[i]) < 1e-8


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("coupling", layers.COUPLINGS)
def test_whole_glow_against_autograd(coupling, activation):
    model = small(coupling, activation=activation)
    v = torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    z, ladj = model(v)
    assert z.shape == (2, 192) and ladj.shape == (2,)
    assert (model.inverse(z) - v).abs().max() < 1e-8
    for i in range(2):
        assert abs(log_det(lambda x: model(x[None])[0], v[i]) - ladj[i]) < 1e-8
        assert abs(log_det(lambda e: model.inverse(e[None]), z[i].detach()) + ladj[i]) < 1e-8


def test_bounded_nets_answer_a_far_latent_in_proportion():
    """The reason for the cap: beyond the data an additive flow is then linear, where rectifiers compound."""
    z = torch.randn(4, 192, dtype=torch.float64)
    growth = {}
    for activation in layers.ACTIVATIONS:
        model = small("additive", activation=activation)
        far, farther = model.inverse(1e6 * z), model.inverse(1e7 * z)
        growth[activation] = (farther.norm() / far.norm()).item()
    assert growth["capped"] == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("coupling", layers.COUPLINGS)
def test_a_folded_step_is_its_three_layers_one_after_the_other(coupling, activation):
    """What runs against what is written, output, log-determinant, inverse and every gradient."""
    step = scrambled(layers.Step(6, 8, coupling, activation))
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    h, ladj = x, 0
    for layer in (step.norm, step.conv, step.coupling):
        h, part = layer(h)
        ladj = ladj + part
    folded = FoldedSteps([step], (5, 4))
    y, total = folded.forward(x)
    assert torch.allclose(y, h, atol=1e-12) and torch.allclose(total, ladj, atol=1e-12)
    assert torch.allclose(folded.inverse(h), x, atol=1e-10)
    of = (x, *step.parameters())
    written = torch.autograd.grad(h.square().sum() + ladj.sum(), of)
    run = torch.autograd.grad(y.square().sum() + total.sum(), of)
    for one, other in zip(written, run, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def test_the_invertible_convolution_is_permutation_lower_and_upper():
    """W again by LAPACK's own product, its determinant by log s alone."""
    torch.manual_seed(3)
    conv = scrambled(layers.InvertibleConv(6))
    lower, upper = conv.lu.tril(-1) + torch.eye(6), conv.lu.triu(1) + (conv.sign * conv.log_s.exp()).diag()
    permutation = torch.zeros(6, 6, dtype=torch.float64)
    permutation[torch.arange(6), conv.permutation] = 1
    assert torch.allclose(conv.weight(), torch.linalg.multi_dot([permutation, lower, upper]), atol=1e-12)
    assert torch.allclose(torch.linalg.slogdet(conv.weight())[1], conv.log_s.sum())
    fresh = layers.InvertibleConv(6).weight()
    assert torch.allclose(fresh @ fresh.T, torch.eye(6), atol=1e-5)  # it starts as a rotation


def test_edge_conv_is_a_convolution_with_one_more_channel():
    conv = scrambled(layers.EdgeConv(2, 7, std=0.1))
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    assert torch.allclose(conv(x), with_ones(conv.weight, x), atol=1e-12)


def test_the_prior_scales_its_convolution_and_bias_as_the_coupling_net_does():
    prior = scrambled(layers.SplitPrior(6))
    kept = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    scale = (3 * prior.log_scale[:, None, None]).exp()
    mean, log_s = ((with_ones(prior.conv.weight, kept) + prior.bias[:, None, None]) * scale).chunk(2, 1)
    h = prior.inverse(kept, torch.ones(2, 3, 5, 5, dtype=torch.float64))
    assert torch.allclose(h[:, 3:], mean + layers.bounded(log_s, layers.PRIOR_BOUND).exp(), atol=1e-12)


def with_ones(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(torch.cat([x, torch.ones_like(x[:, :1])], 1), weight, padding=1)


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
def test_coupling_net_is_its_plain_layers_one_after_the_other(activation):
    net = scrambled(layers.CouplingNet(3, 8, 6, activation))
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    h = net.activation(net.norm1(with_ones(net.conv1.weight, x))[0])
    h = net.activation(net.norm2(F.conv2d(h, net.conv2))[0])
    expected = (with_ones(net.conv3.weight, h) + net.bias3[:, None, None]) * (3 * net.log_scale3[:, None, None]).exp()
    assert torch.allclose(net(x), expected, atol=1e-12)


@pytest.mark.parametrize("compute", [None, torch.float32])
def test_a_level_folded_at_once_is_its_steps_one_by_one(compute):
    model = small("affine", levels=1)
    level, v = model.levels[0], torch.rand(2, 3, 8, 8, dtype=torch.float64)
    level.compute_dtype = compute
    one_by_one = [FoldedSteps([step], (4, 4), compute) for step in level.steps]
    h, total = layers.squeeze(v), 0
    for step in one_by_one:
        h, ladj = step.forward(h)
        total = total + ladj
    back = h
    for step in reversed(one_by_one):
        back = step.inverse(back)
    gradients = torch.autograd.grad(h.square().sum() + total.sum(), list(level.steps.parameters()))

    y, y_total = level.strategy(level.steps, layers.squeeze(v), compute)
    at_once = torch.autograd.grad(y.square().sum() + y_total.sum(), list(level.steps.parameters()))
    near = 1e-12 if compute is None else 1e-5
    assert torch.allclose(y, h, atol=near) and torch.allclose(y_total, total, atol=near)
    for one, other in zip(gradients, at_once, strict=True):
        assert torch.allclose(one, other, rtol=near, atol=near * one.abs().max())
    _, eps, _ = level(v)
    kept, kept_eps = level.inverse(None, eps), no_gradients(level, eps)
    assert torch.allclose(kept, layers.unsqueeze(back), atol=near) and torch.allclose(kept, kept_eps, atol=near)


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("coupling", layers.COUPLINGS)
def test_a_glow_is_what_its_layers_say(coupling, activation):
    """The whole model as it runs against the whole model layer by layer: both directions, gradients, densities."""
    model = small(coupling, activation=activation)
    v = torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    found = {}
    for way in ("folded", "written"):
        with model.layer_by_layer() if way == "written" else nullcontext():
            z, ladj = model(v)
            gradients = torch.autograd.grad(model.log_prob_of(z, ladj).sum(), tuple(model.parameters()))
            images = model.decode(1.5 * z), model.encode(v + 0.5, noise=BIN_CENTRES), model.log_prob(v + 0.5)
            found[way] = [z, ladj, model.inverse(1.5 * z), *images, *gradients]
    for one, other in zip(*found.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert not all(map(torch.equal, *found.values()))  # or one way was taken twice


def test_a_fast_decode_is_near_and_leaves_no_trace():
    model = small("affine").float()
    z = 0.1 * torch.randn(4, model.dim)
    exact = model.decode(z)
    with model.computing_in(torch.bfloat16):
        fast = model.decode(z)
    assert 0 < (fast - exact).abs().max() < 0.01
    assert torch.equal(model.decode(z), exact)


def in_tf32(x: torch.Tensor) -> torch.Tensor:
    """float32 rounded to the 10 bits that TF32 keeps, ties to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def test_convolutions_in_tf32_would_not_be_inverted(monkeypatch):
    """Why the flow asks CUDA for float32 proper: on a trained model, with the rounding of TF32 emulated."""
    model = load("faces64")
    z = 0.7 * torch.randn(4, model.dim, generator=torch.Generator().manual_seed(0))
    x = model.quantise(model.decode(z))

    def error() -> float:
        return (model.decode(model.encode(x, noise=BIN_CENTRES)) - x).abs().max().item()

    assert error() < 1e-5
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, weight, *a, **k: conv2d(in_tf32(x), in_tf32(weight), *a, **k))
    assert error() > 1e-3


def test_float32_is_exact_within_the_flow_alone():
    asked = []
    model = small("affine")
    model.levels[0].register_forward_hook(lambda *_: asked.append(torch.backends.cudnn.conv.fp32_precision))
    before = torch.backends.cudnn.conv.fp32_precision
    model(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    assert asked == ["ieee"] and torch.backends.cudnn.conv.fp32_precision == before != "ieee"


@torch.no_grad()
def no_gradients(level: Level, eps: torch.Tensor) -> torch.Tensor:
    return level.inverse(None, eps)


@pytest.mark.parametrize(("size", "levels"), [(8, 1), (8, 3), (24, 3), (64, 4), (256, 6)])
def test_any_size_and_the_order_of_the_latent(size, levels):
    torch.manual_seed(0)
    model = Glow(GlowConfig(size, levels, 1, 4, "additive"))
    shapes = model.level_shapes
    assert sum(math.prod(s) for s in shapes) == model.dim == 3 * size * size
    assert [s.stop - s.start for s in model.level_slices] == [math.prod(s) for s in shapes]
    if size == 256:  # the shapes of the original's 256 px model
        assert shapes == [
            (6, 128, 128), (12, 64, 64), (24, 32, 32), (48, 16, 16), (96, 8, 8), (384, 4, 4),
        ]  # fmt: skip
    x = torch.rand(1, 3, size, size)
    assert (model.decode(model.encode(x, noise=BIN_CENTRES)) - model.quantise(x)).abs().max() < 1e-4


def test_deeper_levels_do_not_reach_shallower_latents_of_the_prior():
    """Changing the deepest level's eps keeps the shallow eps of a re-encoding: one flat vector is the whole image."""
    model = small("affine")
    z = torch.randn(1, model.dim, dtype=torch.float64)
    moved = z.clone()
    moved[:, model.level_slices[-1]] += 1
    back = model(model.inverse(moved))[0]
    assert torch.allclose(back, moved, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 8), seed=st.integers(0, 100))
def test_quantisation(bits, seed):
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 1, 1, 4, "additive", bits)).double()
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    before = grey.clone()
    centres = model.quantise(grey)
    expected = (np.floor(np.arange(256) / 2 ** (8 - bits)) + 0.5) / 2**bits
    assert np.allclose(centres[0, 0].flatten().numpy(), expected)
    # The same picture as floats, and the bin centres themselves, fall into the same bins.
    assert torch.equal(model.quantise(grey.double() / 255), centres)
    assert torch.equal(model.quantise(centres), centres)
    noisy = model.dequantise(grey, torch.Generator().manual_seed(seed)) + 0.5
    assert torch.equal(model.quantise(noisy), centres)
    assert (noisy - centres).abs().max() <= 0.5 / 2**bits
    assert torch.equal(grey, before)


def test_log_prob_is_a_probability():
    """With a flow that is a known affine map, log p is the normal density of v times the bin's volume."""
    torch.manual_seed(0)
    model = Glow(GlowConfig(8, 1, 1, 4, "additive", 5)).double()
    with torch.no_grad():
        model.levels[0].steps[0].norm.log_scale.fill_(math.log(2.0))
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    v = model.dequantise(x, noise=BIN_CENTRES)
    # The 1x1 convolution starts as a rotation, so v ~ N(0, 1/4) in each pixel.
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 0.5)
    expected = (normal.log_prob(v) - 5 * math.log(2)).flatten(1).sum(1)
    assert torch.allclose(model.log_prob(x, noise=BIN_CENTRES), expected, atol=1e-9)
    bits = model.bits_per_dim(x)
    assert torch.equal(bits, model.bits_per_dim(x))
    assert bits.shape == (4,) and not torch.allclose(bits, -expected / (192 * math.log(2)))


@pytest.mark.parametrize("coupling", layers.COUPLINGS)
def test_initialise_gives_each_actnorm_zero_mean_and_unit_deviation(coupling):
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 2, 2, 8, coupling)).double()
    x = torch.rand(16, 3, 16, 16)
    model.initialise(x)
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, layers.Step):
            module.coupling.register_forward_hook(lambda m, inputs, o, n=name: seen.__setitem__(n, inputs[0]))
    with model.layer_by_layer():
        model(model.dequantise(x, noise=BIN_CENTRES))
    assert len(seen) == 4
    for name, h in seen.items():
        # After actnorm the batch is standard, so after the rotation its mean is still 0 and its total variance c.
        assert h.mean((0, 2, 3)).abs().max() < 1e-6, name
        assert abs(h.var((0, 2, 3), correction=0).sum() - h.shape[1]) < 1e-4, name


def test_inverse_follows_a_changed_parameter():
    model = small("affine")
    with torch.no_grad():
        z = torch.randn(1, model.dim, dtype=torch.float64)
        model.inverse(z)
        model.levels[0].steps[0].norm.bias += 0.5
        model.levels[1].steps[1].conv.log_s -= 0.2
        assert (model(model.inverse(z))[0] - z).abs().max() < 1e-9
        model.levels[0].steps[1].coupling.net.conv2 *= 1.5
        fresh = small("affine")
        fresh.load_state_dict(model.state_dict())
        v = model.inverse(z)
        assert torch.equal(v, fresh.inverse(z)) and torch.equal(model(v)[0], fresh(v)[0])


def test_samples_scale_with_temperature():
    model = small("additive")
    cold = model.encode(model.sample(4, 0.0)[:1])
    assert torch.equal(model.sample(2, 0.0)[0], model.sample(2, 0.0)[1]) and cold.shape == (1, 192)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(model.sample(2, generator=generator), model.sample(2, generator=generator.manual_seed(3)))


def test_an_exploded_decode_is_not_white():
    model = small("additive")
    z = torch.zeros(2, model.dim)
    z[1, 5] = torch.inf
    x = model.decode(z)
    assert x[0].isfinite().all() and x[1].isnan().any() and not (x == torch.inf).any()


def test_the_first_nonfinite_layer_is_named():
    model = small("affine")
    v = torch.rand(1, 3, 8, 8, dtype=torch.float64) - 0.5
    assert model.first_nonfinite(v) is None
    with torch.no_grad():
        model.levels[1].steps[0].coupling.net.conv2[0, 0] = torch.nan
    # The first module after conv2, which is a bare parameter.
    assert model.first_nonfinite(v) == "levels.1.steps.0.coupling.net.norm2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": 60}, "multiple of 16"),
        ({"image_size": 512}, "from 8 to 256"),
        ({"coupling": "spline"}, "additive, affine"),
        ({"bits": 9}, "from 1 to 8"),
        ({"steps": 0}, "from 1 to 256"),
        ({"width": 1.5}, "whole number"),
        ({"width": 10**9}, "from 1 to 4096"),
        ({"levels": 10**12}, "from 1 to 8"),
        ({"steps": 10**9}, "from 1 to 256"),
        ({"image_size": 256, "levels": 6, "steps": 256, "width": 2048}, "parameters; there may be 1,000,000,000"),
        ({"coupling": ["additive"]}, "one of additive, affine"),
    ],
)
def test_an_impossible_config_says_what_would_do(change, says):
    with pytest.raises(GlowkitError, match=says):
        GlowConfig(**change)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.sampled_from(layers.COUPLINGS))
@settings(max_examples=12, deadline=None)
def test_a_config_knows_how_many_parameters_its_glow_has(levels, steps, width, coupling):
    config = GlowConfig(8, levels, steps, width, coupling)
    assert config.parameters == sum(p.numel() for p in Glow(config).parameters())


def test_the_model_of_the_thesis_is_not_too_large():
    # 169.8 M as configs/celeba256.toml counts them.
    assert GlowConfig(256, 6, 32, 512, "additive").parameters == pytest.approx(169.8e6, abs=0.05e6)


def test_wrong_shapes_and_types_say_what_the_model_takes():
    model = small("additive")
    with pytest.raises(GlowkitError, match=r"\(B, 3, 8, 8\)"):
        model.encode(torch.rand(1, 3, 16, 16))
    with pytest.raises(GlowkitError, match="uint8, or floats"):
        model.encode(torch.zeros(1, 3, 8, 8, dtype=torch.int64))
    with pytest.raises(GlowkitError, match=r"\(B, 192\)"):
        model.decode(torch.zeros(1, 10))


def test_weights_that_have_no_inverse_decode_to_what_is_not_finite():
    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 2, 2, 8, "affine"))
    with torch.no_grad():
        model.levels[0].steps[1].conv.log_s[0] = -1e30  # a column of zeros
    assert model.decode(torch.randn(2, model.dim)).isnan().any()
