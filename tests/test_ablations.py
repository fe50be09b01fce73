"""Each exchanged part against autograd, and against what was exchanged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowkit import checkpoint, memory, training
from glowkit.ablations import Ablation, AblationConfig
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig
from glowkit.trainer import Settings, Trainer

SHAPE = {"image_size": 8, "levels": 2, "steps": 2, "width": 8, "coupling": "affine"}
EXCHANGES = [{}, {"pixels": "shuffled"}, {"mixing": "fixed"}, {"nets": "dense"}, {"twist": 3.0}, {"scatter": 0.1}]
each = pytest.mark.parametrize("exchange", EXCHANGES, ids=str)


def model(exchange, seed=0) -> Ablation:
    """With weights that are not those of its beginning, where coupling nets say nothing."""
    torch.manual_seed(seed)
    made = Ablation(AblationConfig(**SHAPE, **exchange)).double()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval().requires_grad_(False)


@each
def test_it_is_a_flow(exchange):
    flow, v = model(exchange), torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    z, ladj = flow(v)
    torch.testing.assert_close(flow.inverse(z), v)
    for one, expected in zip(v, ladj, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda u: flow(u.view(1, 3, 8, 8))[0][0], one.flatten())
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, expected)


@each
def test_it_goes_on_after_a_look_layer_by_layer(exchange):
    flow, v = model(exchange), torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    z, ladj = flow(v)
    assert flow.first_nonfinite(v) is None
    assert torch.equal(flow(v)[0], z) and torch.equal(flow(v)[1], ladj)
    flow.levels[1].steps[0].norm.bias[0] = torch.nan
    assert flow.first_nonfinite(v) == "levels.1.steps.0.norm"


@each
@pytest.mark.parametrize("strategy", sorted(set(memory.STRATEGIES) - {"store"}))
def test_memory_is_saved_where_there_are_kernels_to_fold(exchange, strategy):
    flow, v = model(exchange), torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    flow.requires_grad_(True)
    if "nets" in exchange:
        with pytest.raises(GlowkitError, match=f"training.memory = '{strategy}': .* want 'store'") as error:
            memory.set_strategy(flow, strategy)
        assert "\n" not in str(error.value)
        return
    gradients = []
    for way in ("store", strategy):
        memory.set_strategy(flow, way)
        gradients.append(torch.autograd.grad(flow.log_prob_of(*flow(v)).sum(), tuple(flow.parameters())))
    torch.testing.assert_close(*gradients)


@each
def test_it_has_the_parameters_that_its_shape_tells(exchange):
    made = Ablation(AblationConfig(**SHAPE, **exchange))
    assert sum(p.numel() for p in made.parameters()) == made.config.parameters


@each
def test_it_comes_back_from_its_file(exchange, tmp_path):
    torch.manual_seed(0)
    flow, x = Ablation(AblationConfig(**SHAPE, **exchange)), torch.rand(3, 3, 8, 8)
    flow.initialise(x)
    checkpoint.save(flow, tmp_path, "toy")
    torch.testing.assert_close(checkpoint.load(tmp_path).encode(x), flow.encode(x))
    assert checkpoint.kind_of(checkpoint.config_of(tmp_path)) == "ablation"


@each
def test_a_step_of_training_lowers_the_loss(exchange):
    torch.manual_seed(0)
    flow = Ablation(AblationConfig(**SHAPE, **exchange))
    x = torch.randint(0, 256, (16, 3, 1, 1), dtype=torch.uint8).expand(16, 3, 8, 8).contiguous()
    flow.initialise(x)
    trainer = Trainer(flow, Settings(steps=200, batch=16, warmup=1, learning_rate=1e-2))
    losses = [float(trainer(x)) for _ in range(40)]
    assert min(losses[-5:]) < losses[0] - 0.2


def test_without_an_exchange_it_is_the_glow():
    plain = Glow(GlowConfig(**SHAPE)).double()
    flow = model({})
    plain.load_state_dict(flow.state_dict())
    v = torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    torch.testing.assert_close(plain(v), flow(v))


def test_shuffled_pixels_have_no_neighbours_left():
    flow = Ablation(AblationConfig(**SHAPE | {"image_size": 32}, pixels="shuffled"))
    places = torch.stack([flow.order // 32, flow.order % 32], 1).view(32, 32, 2).float()
    apart = (places[:, 1:] - places[:, :-1]).norm(dim=2)
    # The mean distance of two random points of a square of side 1 is 0.5214.
    assert apart.mean() == pytest.approx(0.5214 * 32, rel=0.05)


def test_shuffling_the_image_first_is_the_same():
    flow, v = model({"pixels": "shuffled"}), torch.rand(2, 3, 8, 8, dtype=torch.float64) - 0.5
    plain = model({})
    plain.load_state_dict(flow.state_dict())
    torch.testing.assert_close(flow(v), plain(v.flatten(2)[:, :, flow.order].view_as(v)))


def test_so_it_is_at_the_start_with_noise_that_falls_on_the_shuffled_image():
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    flow, plain = model({"pixels": "shuffled"}), model({})
    flow.initialise(x, torch.Generator().manual_seed(1))
    plain.initialise(x.flatten(2)[:, :, flow.order].view_as(x), torch.Generator().manual_seed(1))
    for own, other in zip(flow.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, other)


@each
def test_what_is_no_image_of_its_size_is_told_in_a_line(exchange):
    for shape in [(2, 3, 16, 16), (2, 3, 4, 4), (3, 8, 8)]:
        with pytest.raises(GlowkitError, match=r"images of shape .*: this model takes \(B, 3, 8, 8\)"):
            model(exchange).initialise(torch.rand(shape))


@each
def test_it_works_on_its_own_device_alone(exchange, monkeypatch):
    """On the device of shapes, which refuses whatever lies on another."""
    flow, x = model(exchange).to("meta"), torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    z, ladj = flow(flow.dequantise(x))
    assert z.device.type == ladj.device.type == flow.inverse(z).device.type == "meta"
    begun = []  # of floats the plain flow asks whether they are images, which shapes do not tell
    monkeypatch.setattr(Glow, "initialise", lambda self, x, noise: begun.append(x.device.type))
    flow.initialise(x)
    assert begun == ["meta"]


def test_dense_nets_see_the_whole_picture():
    net = model({"nets": "dense"}).levels[0].steps[0].coupling.net
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(net, x).flatten(4).abs().sum(-1)
    assert (jacobian > 0).all()


@pytest.mark.parametrize("nets", ["convolutional", "dense"])
@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_a_glow_starts_linear_unless_it_is_scattered(nets, scatter):
    torch.manual_seed(0)
    flow = Ablation(AblationConfig(**SHAPE, nets=nets, scatter=scatter)).double()
    flow.initialise(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    a, b, c = torch.rand(3, 1, 3, 8, 8, dtype=torch.float64) - 0.5
    with torch.no_grad():
        sum_of_maps, map_of_sum = flow(a)[0] + flow(b)[0] - flow(c)[0], flow(a + b - c)[0]
    assert torch.allclose(sum_of_maps, map_of_sum, atol=1e-6) is (scatter == 0.0)


@settings(deadline=None, max_examples=5)
@given(st.floats(0.1, 5))
def test_a_twist_changes_latents_and_no_gradient(strength):
    """What likelihood teaches is the same with it and without: nothing can untwist the latents."""
    plain, twisted = model({}), model({"twist": strength})
    twisted.load_state_dict(plain.state_dict())
    v = torch.rand(4, 3, 8, 8, dtype=torch.float64) - 0.5
    gradients = []
    for flow in (plain, twisted):
        flow.requires_grad_(True)
        flow.log_prob_of(*flow(v)).sum().backward()
        gradients.append([p.grad for p in flow.parameters()])
    torch.testing.assert_close(*gradients)
    assert not torch.allclose(plain(v)[0], twisted(v)[0], atol=1e-3)


def test_a_config_file_may_ask_for_one(tmp_path):
    file = tmp_path / "ablation.toml"
    file.write_text('kind = "ablation"\n[model]\nimage_size = 32\nlevels = 3\nnets = "dense"\n')
    assert training.read_config(file).model == AblationConfig(image_size=32, levels=3, nets="dense")
    file.write_text('[model]\nnets = "dense"\n')
    with pytest.raises(GlowkitError, match="nets: no such setting"):
        training.read_config(file)
