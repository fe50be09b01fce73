"""Details of a row as JSON has them."""

import json

import numpy as np
import torch

from glowkit.book import claims
from glowkit.intervals import Estimate
from glowkit.measured import Found, Measures, estimate_of, rounded


def test_details_are_rounded_to_significant_digits_and_plain():
    found = rounded({
        1: np.float32(123456.0), "estimate": Estimate(0.123456, (0.1, 2 / 3), 1234567),
        "array": np.array([[1 / 3, np.nan]]),
        "tensor": torch.tensor([1e-7 / 3]), "names": ["a"], "whole": np.int64(123456), "yes": np.bool_(True),
    })  # fmt: skip
    assert found == {
        "1": 123500.0, "estimate": [0.1235, 0.1, 0.6667, 1234567], "array": [[0.3333, None]], "tensor": [3.333e-8],
        "names": ["a"], "whole": 123456, "yes": True,
    }  # fmt: skip
    assert estimate_of(found["estimate"]) == (0.1235, (0.1, 0.6667), 1234567)
    assert json.loads(json.dumps(found)) == found


def test_a_chapter_reads_them_or_finds_none(monkeypatch):
    found = Found(Estimate(1.0, (0.5, 2.0), 9), "nothing", details={"curve": [1, 2]})
    monkeypatch.setattr(claims, "open_measures", lambda name: Measures(name, "faces", 9, {"C11": found}))
    assert claims.details("C11", "x") == {"curve": [1, 2]} and claims.details("C12", "x") == {}
    monkeypatch.undo()
    assert claims.details("C11", "no such model") == {}
