"""Which rows are measured, and in which order; those that cannot be are left out alone."""

import numpy as np
import pytest

from glowkit import checkpoint, intervals, measures, study
from glowkit.book import claims
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig
from glowkit.measured import Found, open_measures
from glowkit.measures import ROWS


def test_rows_are_findings_of_the_ledger_in_its_order():
    order = list(claims.rows())
    assert list(ROWS) == sorted(ROWS, key=order.index)
    assert all(claims.rows()[id].kind == claims.FINDING for id in ROWS)


def test_a_row_that_cannot_be_measured_is_left_out_alone(stage, tmp_path, monkeypatch, capsys):
    def few(stage):
        return Found(intervals.hierarchical(np.mean, np.arange(4.0), outer=range(4)), "")

    checkpoint.save(Glow(GlowConfig(16, 2, 1, 8, "additive")), tmp_path, "toy")
    (tmp_path / study.FILE).touch()
    rows = {"C07": lambda stage: Found(intervals.wilson(3, 4), "half"), "C08": few, "C09": lambda stage: None}
    monkeypatch.setattr(measures, "ROWS", rows)
    monkeypatch.setattr(measures, "open_stage", lambda name, data: stage)
    for _ in range(2):  # what is left out is tried again, and no fault as long as something is known
        measures.measure(tmp_path)
        found, said = open_measures(tmp_path).rows, capsys.readouterr().out
        assert list(found) == ["C07"] and found["C07"].estimate == intervals.wilson(3, 4)
        assert "C08 is left out: hierarchical: want at least 5 groups of the outer level, got 4\n" in said
        assert "not measured, since the model or its data cannot decide them: C08, C09\n" in said
    for row in ("C08", "C09"):
        with pytest.raises(GlowkitError, match="no row can be measured"):
            measures.measure(tmp_path, rows=[row])
    assert list(open_measures(tmp_path).rows) == ["C07"]
