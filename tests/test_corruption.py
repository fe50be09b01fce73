"""Corruption against models whose reach is known, blobs in closed form and loops over pixels."""

import numpy as np
import pytest
import torch
from scipy import stats

from glowkit import corruption
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig


@pytest.fixture(scope="module")
def untrained():
    """A Glow at its start: couplings and priors do nothing yet, each component acts on its own cell alone."""
    torch.manual_seed(0)
    return Glow(GlowConfig(16, 3, 2, 8, "additive"))


def trained_a_little(model):
    torch.manual_seed(1)
    moved = Glow(model.config)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return moved


def test_each_component_acts_on_the_cell_it_sits_in(untrained):
    z = torch.randn(untrained.dim, generator=torch.Generator().manual_seed(0))
    components = corruption.draw(untrained, 8).ravel()
    change = corruption.corrupt(untrained, z, list(components)) - corruption.corrupt(untrained, z, [[]])
    touched = change.abs().sum(1) > 1e-3
    for component, where in zip(components, touched, strict=True):
        place = corruption.site(untrained, component)
        side = round(16 * place.cell)
        assert side == 2**place.level
        rows, columns = where.nonzero(as_tuple=True)
        left, top = round(16 * place.x - side / 2), round(16 * place.y - side / 2)
        assert left <= columns.min() and columns.max() < left + side
        assert top <= rows.min() and rows.max() < top + side


def test_sites_and_draws_stay_in_their_levels(untrained):
    drawn = corruption.draw(untrained, 20, seed=3)
    for level, (components, where) in enumerate(zip(drawn, untrained.level_slices, strict=True)):
        assert len(set(components)) == 20
        assert where.start <= components.min() and components.max() < where.stop
        assert all(corruption.site(untrained, c).level == level + 1 for c in components)
    with pytest.raises(GlowkitError, match="have 0 to 767"):
        corruption.site(untrained, 768)
    with pytest.raises(GlowkitError, match="want 1 to 192"):
        corruption.draw(untrained, 193)


def test_corrupt_is_what_decoding_one_changed_latent_gives(untrained):
    model = trained_a_little(untrained)
    z = 0.5 * torch.randn(model.dim, generator=torch.Generator().manual_seed(0))
    sets = [3, np.array([5, 700]), [], *range(40)]
    pictures = corruption.corrupt(model, z, sets, value=7.0)
    for picture, components in zip(pictures[[0, 1, 2, 42]], [[3], [5, 700], [], [39]], strict=True):
        changed = z.clone()
        for c in components:
            changed[c] = 7.0
        torch.testing.assert_close(picture.clamp(0, 1), model.decode(changed[None])[0], rtol=0, atol=1e-5)


def test_radius_of_a_gaussian_blob_is_in_closed_form():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    sigma = 7.0
    blob = torch.exp(-((x - 40) ** 2 + (y - 52) ** 2) / (4 * sigma**2)).expand(2, 3, -1, -1)  # energy: sigma
    for share in (0.5, 0.9):
        expected = stats.rayleigh(scale=sigma).ppf(share) / 96
        assert corruption.radius(blob, share) == pytest.approx([expected, expected], abs=0.4 / 96)
    assert corruption.centroid(blob)[0].tolist() == pytest.approx([40.5 / 96, 52.5 / 96], abs=1e-4)


def test_radius_against_a_loop_over_pixels():
    change = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)) ** 3
    power = {(i, j): float((change[0, :, i, j].double() ** 2).sum()) for i in range(12) for j in range(12)}
    total = sum(power.values())
    assert float(corruption.energy(change)) == pytest.approx(total)
    cy = sum((i + 0.5) * p for (i, _), p in power.items()) / total
    cx = sum((j + 0.5) * p for (_, j), p in power.items()) / total
    nearest = sorted((np.hypot(i + 0.5 - cy, j + 0.5 - cx), p) for (i, j), p in power.items())
    held = np.cumsum([p for _, p in nearest])
    expected = nearest[int((held < 0.9 * total).sum())][0]
    assert float(corruption.radius(change)) == pytest.approx(expected / 12)


def test_radius_of_nothing_of_a_pixel_and_of_what_is_not_finite():
    change = torch.zeros(3, 3, 8, 8)
    change[1, :, 2, 5] = 1.0
    change[2, 0, 0, 0] = torch.nan
    found = corruption.radius(change)
    assert float(found[1]) == 0 and found[2] == torch.inf and corruption.energy(change)[0] == 0
    with pytest.raises(GlowkitError, match="want \\(k, 3, H, W\\)"):
        corruption.radius(change[0])


def test_corruptions_of_a_linear_model_add_up_and_of_another_do_not(untrained):
    z = torch.randn(untrained.dim, generator=torch.Generator().manual_seed(0))
    components = corruption.draw(untrained, 2).ravel()

    def explained(model):
        face = corruption.corrupt(model, z, [[]])[0]
        singles = corruption.corrupt(model, z, list(components))
        together = corruption.corrupt(model, z, [components])[0]
        return corruption.r2(together, corruption.predicted(face, singles), face)

    assert explained(untrained) == pytest.approx(1, abs=1e-6)
    assert explained(trained_a_little(untrained)) < 0.999
    # no change foreseen explains nothing
    assert corruption.r2(torch.ones(3, 4, 4), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)) == 0


def test_a_visible_change_is_between_clipped_pictures():
    face = torch.tensor([0.5, 0.9, 1.2]).view(3, 1, 1).expand(3, 2, 2)
    change = corruption.visible_change(face[None] + torch.tensor([-2.0, 0.4])[:, None, None, None], face)
    assert change[0, :, 0, 0].tolist() == pytest.approx([-0.5, -0.9, -1.0])
    assert change[1, :, 0, 0].tolist() == pytest.approx([0.4, 0.1, 0.0])


def test_the_distance_of_components_is_that_of_their_cells(untrained):
    first, deep = untrained.level_slices[0], untrained.level_slices[-1]
    assert corruption.distance(untrained, first.start, first.start + 8 * 8) == 0  # another channel of the same cell
    assert corruption.distance(untrained, first.start, first.start + 3) == pytest.approx(3 / 8)
    assert corruption.distance(untrained, deep.start, deep.start + 3) == pytest.approx(2**0.5 / 2)
