"""What is bundled of the ledger, and a part measured again: of drawn faces, or of photographs at $GLOWKIT_CELEBA."""

import os

import numpy as np
import pytest
import torch

from glowkit import affine, bundled, checkpoint, open_dataset, open_study
from glowkit.book import claims
from glowkit.dataset import PROCEDURAL, kind_of
from glowkit.judge import open_judge
from glowkit.measures import ROWS, open_measures, stage
from glowkit.randomness import stream

MODELS = [folder.parent.name for folder in sorted((bundled.root() / "data").glob("*/measures.json"))]


@pytest.mark.parametrize("model", MODELS)
def test_every_row_that_was_measured_is_one_of_the_ledger_and_decided(model, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWKIT_CLAIMS", str(tmp_path))
    found = open_measures(model)
    assert len(found.rows) > 20 and set(found.rows) <= set(ROWS) <= set(claims.rows())
    for id in found.rows:
        entry = claims.measured(id, model)
        assert entry.verdict in claims.VERDICTS and entry.n == found.rows[id].estimate.n


@pytest.mark.parametrize("model", MODELS)
def test_the_mean_over_attributes_is_that_of_what_is_shown(model):
    row = open_measures(model).rows["C16"]
    latent, pixel, ceiling = (np.array(row.details[key]) for key in ("latent", "pixel", "ceiling"))
    assert row.estimate.estimate == pytest.approx(np.mean((latent - pixel) / ceiling), abs=1e-3)
    assert row.estimate.n == len(latent) == len(row.details["attributes"])


@pytest.mark.parametrize("model", MODELS)
def test_an_attribute_measured_again_gives_the_same(model):
    """Without the stage's own code: a hundred faces who do not smile encoded, moved, decoded and judged."""
    data = checkpoint.data_of(model)
    drawn = kind_of(data) == PROCEDURAL
    if not drawn and "GLOWKIT_CELEBA" not in os.environ:
        pytest.skip("its photographs are not here")
    flow, study, judge = checkpoint.load(model), open_study(model), open_judge(model)
    album = open_dataset(data, size=flow.image_size, **({"seed": 1} if drawn else {}))
    where = album.subset("test")
    people, smiles = album.identities[where], album.has("Smiling")[where]
    rows, met = [], set()
    for row in np.random.default_rng(0).permutation(len(where)):
        if not smiles[row] and people[row] not in met:
            rows.append(row)
            met.add(people[row])
    rows = rows[:100]
    x = album.images(where[rows])
    v = [flow.dequantise(x[k : k + 1], stream(stage.DATA_SEED, int(where[row]))) for k, row in enumerate(rows)]
    with torch.no_grad():
        z = torch.cat([flow(part)[0] for part in torch.cat(v).split(25)])
    seen = judge.says(flow.decode(affine.add(z, study.direction("Smiling"))), "Smiling").mean()
    details = open_measures(model).rows["C16"].details
    assert details["latent"][details["attributes"].index("Smiling")] == pytest.approx(seen, abs=0.011)
