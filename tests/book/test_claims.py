"""The ledger: complete, decided by its rules, and proof against verdicts that do not follow."""

import json
import re

import pytest

from glowkit.book import claims
from glowkit.errors import GlowkitError


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWKIT_CLAIMS", str(tmp_path / "claims"))
    return tmp_path / "claims"


def half_space(estimate=0.798, **change):
    given = {"estimate": estimate, "ci": (estimate - 0.001, estimate + 0.001), "n": 1000,
             "control": "0.5422 as printed", "model": "none"}  # fmt: skip
    return claims.record("C31", **given | change)


def test_every_row_is_declared_once_and_completely():
    assert list(claims.rows()) == [f"C{k:02}" for k in range(1, 41)] + [f"B{k:02}" for k in range(1, 9)]
    for row in claims.rows().values():
        assert row.source and row.claim.endswith(".") and row.measure
        assert re.fullmatch(r"0\d_[a-z]+", row.chapter)
        assert row.rule and all(verdict in claims.VERDICTS and low <= high for verdict, low, high in row.rule)


def test_the_verdict_follows_the_numbers():
    assert half_space(0.798).verdict == "wrong in the source"
    assert half_space(0.57).verdict == "reproduced"
    assert half_space(0.3).verdict == "not reproduced"
    # an interval that leaves the range settles nothing
    assert half_space(0.798, ci=(0.7, 0.9)).verdict == "not reproduced"


def test_a_changed_threshold_changes_the_verdict():
    row = claims.rows()["C09"]
    moved = claims.Row(**vars(row) | {"rule": (("reproduced", 0.5, 1.0),)})
    assert row.verdict((0.55, 0.58)) == "not reproduced"
    assert moved.verdict((0.55, 0.58)) == "reproduced"


def test_the_ledger_merges_chapters_models_and_reruns(ledger):
    half_space(0.57)
    half_space(0.798)  # a cell run again replaces what it said before
    for model in ("faces64", "/somewhere/celeba64"):
        claims.record("C09", estimate=1, ci=(0.995, 1), n=500, control="0.5", model=model)
    assert sorted(path.name for path in ledger.iterdir()) == [
        "03_gaussianity.celeba64.json",
        "03_gaussianity.faces64.json",
        "07_grounding.none.json",
    ]
    entries = claims.load()
    assert [e.model for e in entries if e.id == "C09"] == ["celeba64", "faces64"]
    assert [e.verdict for e in entries if e.id == "C31"] == ["wrong in the source"]
    assert sum(e.verdict == claims.OPEN for e in entries) == 46
    assert claims.counts() == dict(zip((*claims.VERDICTS, claims.OPEN), (2, 0, 0, 1, 46), strict=True))
    claims.forget("07_grounding", "faces64")
    assert claims.counts()[claims.OPEN] == 47


def test_json_and_scoreboard_show_every_row():
    half_space()
    parsed = json.loads(claims.to_json())
    assert [item["id"] for item in parsed] == list(claims.rows())
    for item in parsed:
        assert set(item) == {"id", "verdict", "estimate", "ci", "n", "control", "model", "chapter", "figure"}
    board = claims.scoreboard().splitlines()
    assert len(board) == 2 + 48 and all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in board)
    assert "[C31](#c31)" in board[32] and "0.7980 [0.7970, 0.7990] (n = 1,000)" in board[32]
    assert "| open | not measured |" in board[2]


def test_a_typed_verdict_is_refused(ledger):
    half_space()
    path = ledger / "07_grounding.none.json"
    path.write_text(path.read_text().replace("wrong in the source", "reproduced"))
    with pytest.raises(GlowkitError, match="C31 does not follow"):
        claims.load()
    path.write_text("half a fi")
    with pytest.raises(GlowkitError, match="no ledger file"):
        claims.load()


@pytest.mark.parametrize("change", [
    {"ci": [0.79]}, {"ci": [0.79, 0.81, 1]}, {"ci": "ab"}, {"ci": None}, {"ci": [0.9, 0.99]}, {"estimate": "0.8"},
    {"estimate": None}, {"estimate": float("nan")}, {"n": 0}, {"n": 1.5}, {"n": True}, {"control": 1}, {"model": None},
    {"figure": ["x"]}, {"id": "C99"}, {"id": ["C31"]}, {"more": 1},
])  # fmt: skip
def test_an_entry_that_nobody_recorded_is_refused(change, ledger):
    half_space()
    path = ledger / "07_grounding.none.json"
    path.write_text(json.dumps([json.loads(path.read_text())[0] | change]))
    with pytest.raises(GlowkitError, match="no ledger file"):
        claims.load()


def test_two_verdicts_for_one_row_and_model_are_refused(ledger):
    half_space()
    (ledger / "copy.json").write_text((ledger / "07_grounding.none.json").read_text())
    with pytest.raises(GlowkitError, match="two verdicts"):
        claims.load()


@pytest.mark.parametrize("change", [{"ci": (0.9, 1.0)}, {"estimate": float("nan")}, {"n": 0}, {"control": ""}])
def test_numbers_that_cannot_be_are_refused(change, ledger):
    with pytest.raises(GlowkitError, match="want"):
        half_space(**change)
    assert not ledger.exists()
    with pytest.raises(GlowkitError, match="unknown row 'C41'"):
        claims.record("C41", estimate=1, ci=(1, 1), n=1, control="x", model="none")


def test_models_are_compared_on_the_rows_that_both_measured():
    def entry(id, model, verdict):
        return claims.Entry(id, verdict, 0.5, (0.4, 0.6), 10, "c", model, "ch", "fig")

    a, b = claims.VERDICTS[0], claims.VERDICTS[2]
    entries = [entry("C01", "x", a), entry("C01", "y", a), entry("C02", "x", a), entry("C02", "y", b)]
    entries += [entry("C03", "x", a), *(e for e in claims.load() if e.id == "C04")]  # one model; none
    found = claims.by_model(entries)
    assert found == {"C01": {"x": a, "y": a}, "C02": {"x": a, "y": b}}
    share, chance = claims.agreement(found)
    assert (share.estimate, share.n) == (0.5, 2)
    assert chance == pytest.approx(0.75**2 + 0.25**2)
