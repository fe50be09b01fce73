"""The linear flow against scipy's normal, scikit-learn's PCA and autograd."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from sklearn.decomposition import PCA

import glowkit
from glowkit import checkpoint, classifiers, linear
from glowkit.dataset import Dataset
from glowkit.errors import GlowkitError
from glowkit.linear import LinearConfig, LinearFlow

SIGNAL = 6  # directions in which the toy images vary beyond noise


def toy_dataset(n: int = 1500, size: int = 8) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.random((n, 1)) < 0.3
    hidden = rng.normal(size=(n, SIGNAL)) * np.linspace(9, 4, SIGNAL) + 6 * labels
    pixels = 128 + hidden @ rng.normal(size=(SIGNAL, 3 * size**2)) + 3 * rng.normal(size=(n, 3 * size**2))
    pixels = pixels.clip(0, 255).astype(np.uint8).reshape(n, 3, size, size)
    splits = np.repeat(np.array([0, 1, 2], np.uint8), (n - 2 * (n // 5), n // 5, n // 5))
    return Dataset("toy", size, ["Some"], labels, splits, None, None, lambda i: pixels[i])


@pytest.fixture(scope="module")
def fitted() -> tuple[LinearFlow, dict[int, float]]:
    return linear.fit(toy_dataset(), ranks=(2, SIGNAL, 100, 10_000), bits=8)


def covariance(flow: LinearFlow) -> np.ndarray:
    basis, rest = flow.basis().double().numpy(), float(flow.rest)
    return basis * (flow.variances.double().numpy() - rest) @ basis.T + rest * np.eye(flow.dim)


def random_flow(rank: int = 5) -> LinearFlow:
    torch.manual_seed(0)
    flow = LinearFlow(LinearConfig(8, rank, 5))
    flow.load_state_dict({
        "mean": 0.1 * torch.randn(192), "fine": torch.randint(-127, 128, (flow.config.fine, 192), dtype=torch.int8),
        "coarse": torch.randint(256, (flow.config.coarse, 96), dtype=torch.uint8),
        "variances": torch.logspace(1, -1, rank), "rest": torch.tensor(0.01),
    })  # fmt: skip
    return flow.double().requires_grad_(False)


@pytest.mark.parametrize(("rank", "fine"), [(1, 200), (5, 200), (191, 200), (40, 7)])
def test_inverse_and_determinant_against_autograd(rank, fine, monkeypatch):
    monkeypatch.setattr(linear, "FINE", fine)
    flow = random_flow(rank)
    v = torch.rand(3, 3, 8, 8, dtype=torch.float64) - 0.5
    z, ladj = flow(v)
    assert (flow.inverse(z) - v).abs().max() < 1e-12
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], v[0]).flatten(1)
    assert torch.allclose(jacobian, jacobian.T)  # the symmetric root
    assert ladj.tolist() == pytest.approx([float(torch.linalg.slogdet(jacobian)[1])] * 3)
    assert np.allclose(torch.linalg.inv(jacobian @ jacobian), covariance(flow))


def test_density_is_the_normal_law_of_that_covariance():
    flow = random_flow()
    x = torch.rand(20, 3, 8, 8)
    v = flow.dequantise(x).flatten(1).numpy()
    nats = stats.multivariate_normal(flow.mean.numpy(), covariance(flow)).logpdf(v) - 192 * 5 * math.log(2)
    assert np.allclose(flow.log_prob(x).numpy(), nats)


def test_fit_is_scikit_learns(fitted):
    flow, _ = fitted
    data, rng = toy_dataset(), np.random.default_rng(1)
    points = (data.images(range(len(data))).numpy() + rng.random((len(data), 3, 8, 8))).reshape(-1, 192) / 256 - 0.5
    training, validation = points[data.subset("train")], points[data.subset("valid")]
    theirs = PCA(SIGNAL).fit(training)
    assert flow.config.rank == SIGNAL
    ours = stats.multivariate_normal(flow.mean.numpy(), covariance(flow)).logpdf(validation)
    assert ours.mean() == pytest.approx(theirs.score(validation), abs=1.0)  # of some 500 nats; axes are rounded here
    assert flow.variances.numpy() == pytest.approx(theirs.explained_variance_, rel=0.02)
    # scikit-learn's axes and ours span one space: the cosines between them are all 1.
    assert np.linalg.svd(theirs.components_ @ flow.basis().numpy())[1] == pytest.approx(np.ones(SIGNAL), abs=0.01)


def test_coarse_axes_point_where_they_did(monkeypatch):
    monkeypatch.setattr(linear, "FINE", 4)
    axes = torch.linalg.qr(torch.randn(75, 20, generator=torch.Generator().manual_seed(0))).Q.T  # an odd dimension
    held = linear.rounded(axes)
    assert held["fine"].shape == (4, 75) and held["coarse"].shape == (16, 38)
    coarse = torch.stack([held["coarse"] >> 4, held["coarse"] & 15], 2).flatten(1)[:, :75].float() - 8
    cosine = torch.cosine_similarity(torch.cat([held["fine"].float(), coarse]), axes)
    assert (cosine[:4] > 0.9999).all() and (cosine[4:] > 0.98).all()


def test_few_bits_keep_most_of_what_an_axis_gains(fitted, monkeypatch):
    exact = fitted[1]
    monkeypatch.setattr(linear, "FINE", 3)
    coarse = linear.fit(toy_dataset(), ranks=(2, SIGNAL), bits=8)[1]
    assert exact[2] - coarse[SIGNAL] > 0.5 * (exact[2] - exact[SIGNAL])


def test_rank_is_the_one_of_most_held_out_likelihood(fitted):
    flow, scores = fitted
    assert list(scores) == [2, SIGNAL, 100] and min(scores, key=scores.get) == flow.config.rank == SIGNAL
    data = toy_dataset()
    bits = flow.bits_per_dim(data.images(data.subset("valid")))
    assert float(bits.mean()) == pytest.approx(scores[SIGNAL])


def test_a_fit_takes_a_validation_split_and_images():
    data = toy_dataset(10)
    data.splits[:] = 0
    with pytest.raises(GlowkitError, match="validation split"):
        linear.fit(data)
    data.splits[1:] = 1
    with pytest.raises(GlowkitError, match="1 training images; a linear flow takes at least 11"):
        linear.fit(data)


def test_any_rotation_of_the_latents_reads_the_same(fitted):
    flow, _ = fitted
    data = toy_dataset()
    z = flow.encode(data.images(range(len(data)))).double().numpy()
    labels = data.has("Some")
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(192, 192)))[0]
    areas = []
    for points in (z, z @ rotation):
        projections = classifiers.opposite_projection(points, *classifiers.class_means(points, labels))
        areas.append(classifiers.auc(projections, labels).estimate)
    assert areas[0] == pytest.approx(areas[1], abs=1e-9) and 0.6 < areas[0] < 1
    d = flow.dequantise(data.images(range(len(data)))).flatten(1).double().numpy() - flow.mean.numpy()
    fisher = d @ np.linalg.solve(covariance(flow), np.subtract(*classifiers.class_means(d, labels)))
    assert classifiers.auc(fisher, labels).estimate == pytest.approx(areas[0], abs=1e-4)


def test_edits_are_pixel_arithmetic(fitted):
    flow, _ = fitted
    data = toy_dataset()
    x = data.images(range(50)).float() / 255
    step = 0.02 * torch.randn(192)
    moved = flow.decode(flow.encode(x) + flow((step + flow.mean).view(1, 3, 8, 8))[0])
    assert (moved - (flow.quantise(x) + step.view(3, 8, 8)).clamp(0, 1)).abs().max() < 1e-5


@pytest.fixture
def saved(fitted, tmp_path):
    checkpoint.save(fitted[0], tmp_path / "model", "toy", half=True)
    return tmp_path / "model"


def test_the_same_flow_comes_back(fitted, saved):
    x = toy_dataset().images(range(8))
    back = glowkit.load(saved)
    assert isinstance(back, LinearFlow) and back.config == fitted[0].config and checkpoint.data_of(saved) == "toy"
    assert torch.equal(back.encode(x), fitted[0].encode(x)) and torch.equal(back.log_prob(x), fitted[0].log_prob(x))
    assert (back.decode(back.encode(x)) - back.quantise(x)).abs().max() < 1e-5
    assert json.loads((saved / "config.json").read_text())["kind"] == "linear"


def spoil(folder, **tensors):
    held, _ = checkpoint.read_tensors(folder / "model.safetensors")
    save_file(held | tensors, folder / "model.safetensors")


def configure(folder, kind="linear", **model):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"kind": kind, "model": content["model"] | model}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: spoil(f, mean=torch.full((192,), torch.nan)), "mean is not finite"),
        (lambda f: spoil(f, variances=torch.zeros(SIGNAL)), "variances must be positive everywhere"),
        (lambda f: spoil(f, rest=torch.tensor(-1.0)), "rest must be positive"),
        (lambda f: spoil(f, fine=torch.zeros(SIGNAL, 192)), "fine is of torch.float32, not torch.int8"),
        (lambda f: spoil(f, more=torch.zeros(1)), "'more' is none of its tensors"),
        (lambda f: configure(f, rank=SIGNAL - 1), r"variances has the shape \(6,\), not \(5,\)"),
        (lambda f: configure(f, rank=192), "not the config of a LinearFlow .model.rank = 192: want fewer axes"),
        (lambda f: configure(f, rank=4000, image_size=64), "not the weights of the LinearFlow .* numbers, of at least"),
        (lambda f: configure(f, depth=2), "model.depth: no such setting"),
        (lambda f: configure(f, kind="glow"), "not the config of a Glow"),
        (lambda f: configure(f, kind="cubic"), "kind = 'cubic': it must be one of glow, ablation, linear"),
    ],
)
def test_a_damaged_or_foreign_flow_says_which_file(saved, damage, says):
    damage(saved)
    with pytest.raises(GlowkitError, match=says) as error:
        checkpoint.load(saved)
    assert str(saved) in str(error.value) and "\n" not in str(error.value)


def test_the_whole_flow_has_the_rank_of_most_likelihood_and_the_density_of_a_normal():
    """Against scipy's normal, at a few ranks by hand; noise is uniform, and only its variance matters to a square."""
    data, bits = toy_dataset(), 8
    whole, by_rank = linear.fit_whole(data, n=900, bits=bits, held_out=200)
    v = (data.images(data.subset("train")[:900]).numpy().reshape(900, -1) + 0.5) / 256 - 0.5
    held = (data.images(data.subset("valid")[:200]).numpy().reshape(200, -1) + 0.5) / 256 - 0.5
    noise = 4.0**-bits / 12
    variances, axes = np.linalg.eigh(np.cov(v.T, ddof=0) + noise * np.eye(192))
    variances, axes = variances[::-1], axes[:, ::-1]
    assert whole.mean == pytest.approx(v.mean(0), abs=1e-5)

    def bits_per_dim(rank):
        rest = variances[rank:].mean()
        made = (axes[:, :rank] * (variances[:rank] - rest)) @ axes[:, :rank].T + rest * np.eye(192)
        nats = stats.multivariate_normal(v.mean(0), made).logpdf(held).mean()
        nats -= 0.5 * noise * np.trace(np.linalg.inv(made))
        return -nats / 192 / math.log(2) + bits

    for rank in (0, 3, SIGNAL, 50, 150):
        assert by_rank[rank] == pytest.approx(bits_per_dim(rank), abs=1e-3)
    rank = len(whole.variances)
    assert rank == by_rank.argmin() == SIGNAL
    d = np.random.default_rng(1).normal(size=(2, 192))
    made = (whole.axes * (whole.variances - whole.rest)) @ whole.axes.T + whole.rest * np.eye(192)
    assert whole.lines(d) == pytest.approx(np.linalg.solve(made, d.T).T, rel=1e-3, abs=1e-2)
    lower = whole.truncated(3)
    made = (axes[:, :3] * (variances[:3] - variances[3:].mean())) @ axes[:, :3].T + variances[3:].mean() * np.eye(192)
    assert lower.lines(d) == pytest.approx(np.linalg.solve(made, d.T).T, rel=1e-2, abs=1e-1)
