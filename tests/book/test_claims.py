"""The ledger: complete, decided by its rules, and proof against verdicts that do not follow."""

import hashlib
import itertools
import json
import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

from glowkit.book import claims
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWKIT_CLAIMS", str(tmp_path / "claims"))
    return tmp_path / "claims"


def half_space(estimate=0.798, **change):
    given = {"estimate": estimate, "ci": (estimate - 0.001, estimate + 0.001), "n": 1000,
             "control": "0.5422 as printed", "model": "none"}  # fmt: skip
    return claims.record("C31", **given | change)


IDS = [f"C{k:02}" for k in range(1, 41)] + [f"B{k:02}" for k in range(1, 14)]
SPLIT = {"C19": ["C19-hair", "C19-gender", "C19-pose", "C19-one"], "C40": ["C40-add", "C40-remove"]}
CHECKS = "C01 C02 C03 C04 C10 C13 C14 C17 C23 C27 C28 C29 C30 C31 C32 C37".split()


def test_every_row_is_declared_once_and_completely():
    assert list(claims.rows()) == [part for id in IDS for part in SPLIT.get(id, [id])]
    for row in claims.rows().values():
        assert row.source and row.claim.endswith(".") and row.measure
        assert re.fullmatch(r"\d\d_[a-z]+", row.chapter)
        assert (row.kind == claims.CHECK) == (row.id in CHECKS) and row.kind in (claims.CHECK, claims.FINDING)


@pytest.mark.parametrize("row", claims.rows().values(), ids=lambda row: row.id)
@given(data=st.data())
def test_every_interval_has_the_verdict_of_all_its_points_or_none(row, data):
    """Intervals of every kind, ends at the rule's limits among them, against their points one by one."""
    limits = row.rule[1::2]
    numbers = st.floats(-1e4, 1e4) | st.sampled_from([*limits, *(1.001 * x for x in limits), -1e300, 1e300])
    low, high = sorted((data.draw(numbers), data.draw(numbers)))

    def at(point):  # the range of a point that is no limit
        return row.rule[2 * sum(limit < point for limit in limits)]

    inner = sorted({low, high, *(x for x in limits if low < x < high)})
    points = [a / 2 + b / 2 for a, b in itertools.pairwise(inner)]
    assume(all(a < point < b for point, (a, b) in zip(points, itertools.pairwise(inner), strict=True)))
    found = row.verdict((low, high))
    assert found in claims.VERDICTS
    if points:
        ranges = {sum(limit < point for limit in limits) for point in points}
        assert found == (at(points[0]) if len(ranges) == 1 else claims.UNDECIDED)
    elif low not in limits:
        assert found == at(low)
    else:  # of no width, at a limit: of the range above
        assert found == row.rule[2 * (limits.index(low) + 1)]


@pytest.mark.parametrize("rule", [
    (), ("reproduced", 0.5), ("reproduced", 0.5, "maybe"), ("undecided", 0.5, "reproduced"), (0.5, "reproduced", 1.0),
    ("contradicted", 2.0, "reproduced", 1.0, "contradicted"), ("contradicted", math.inf, "reproduced"),
    ("contradicted", 1.0, "reproduced", 1.0, "contradicted"), ("contradicted", "1", "reproduced"),
])  # fmt: skip
def test_a_rule_with_holes_is_refused(rule):
    with pytest.raises(GlowkitError, match="want verdict, limit"):
        claims.Row(**vars(claims.rows()["C09"]) | {"rule": rule})


def test_the_verdict_follows_the_numbers():
    assert half_space(0.798).verdict == "wrong in the source"
    assert half_space(0.57).verdict == "reproduced"
    assert half_space(0.3).verdict == "contradicted"
    # an interval across a limit settles nothing
    assert half_space(0.798, ci=(0.7, 0.9)).verdict == "undecided"


def test_a_changed_threshold_changes_the_verdict():
    row = claims.rows()["C09"]
    moved = claims.Row(**vars(row) | {"rule": ("contradicted", 0.5, "reproduced")})
    assert row.verdict((0.55, 0.58)) == "contradicted"
    assert moved.verdict((0.55, 0.58)) == "reproduced"


def success(first, second, centres=0.4):
    low, middle, high = first
    return claims.record(
        "C36", estimate=middle, ci=(low, high), n=100, control="pixels 0.1", model="faces64",
        second=Estimate(sum(second) / 2, second, 100), centres=Estimate(centres, (centres, centres), 100),
    )  # fmt: skip


def test_success_is_what_both_judges_see(ledger):
    assert success((0.1, 0.2, 0.3), (0.05, 0.3)).verdict == "reproduced"
    assert success((0.1, 0.2, 0.3), (-0.05, 0.3)).verdict == "undecided"
    assert success((0.1, 0.2, 0.3), (-0.3, -0.1)).verdict == "undecided"
    assert success((-0.1, 0.2, 0.3), (0.1, 0.3)).verdict == "undecided"
    entry = success((0.1, 0.2, 0.3), (0.05, 0.3), centres=-0.2)  # shown, and decides nothing
    assert entry.verdict == "reproduced" and "*contradicted*" in entry.beside()["bin centres"]
    assert claims.load()[list(claims.rows()).index("C36")] == entry
    path = ledger / "08_heuristics.faces64.json"
    path.write_text(path.read_text().replace("0.05", "-0.05"))
    with pytest.raises(GlowkitError, match="C36 does not follow"):
        claims.load()


def test_a_row_takes_the_readings_that_it_declares():
    given = {"estimate": 0.2, "ci": (0.1, 0.3), "n": 9, "control": "c", "model": "m"}
    for id, readings in (("C36", {}), ("C31", {"second": Estimate(0.2, (0.1, 0.3), 9)})):
        with pytest.raises(GlowkitError, match="readings"):
            claims.record(id, **given, **readings)
    with pytest.raises(GlowkitError, match="bin centres 5"):
        claims.record("C08", **given, centres=Estimate(5, (6, 7), 9))


def test_amendments_are_whole():
    for entry in claims.amendments():
        assert all(entry[key] for key in ("row", "what", "after", "reason")) and isinstance(entry["known"], bool)
        assert entry["row"] == "all" or all(id.strip() in [*claims.rows(), *SPLIT] for id in entry["row"].split(","))
    assert claims.rules_hash() == hashlib.sha256(claims.RULES.read_bytes()).hexdigest()


def test_the_ledger_merges_chapters_models_and_reruns(ledger):
    half_space(0.57)
    half_space(0.798)  # a cell run again replaces what it said before
    for model in ("faces64", "/somewhere/celeba64"):
        centres = Estimate(1, (0.995, 1), 500)
        claims.record("C09", estimate=1, ci=(0.995, 1), n=500, control="0.5", model=model, centres=centres)
    assert sorted(path.name for path in ledger.iterdir()) == [
        "03_gaussianity.celeba64.json",
        "03_gaussianity.faces64.json",
        "07_grounding.none.json",
    ]
    entries = claims.load()
    assert [e.model for e in entries if e.id == "C09"] == ["celeba64", "faces64"]
    assert [e.verdict for e in entries if e.id == "C31"] == ["wrong in the source"]
    assert sum(e.verdict == claims.OPEN for e in entries) == 55
    assert claims.counts() == dict(zip((*claims.VERDICTS, claims.OPEN), (2, 0, 0, 0, 1, 55), strict=True))
    claims.forget("07_grounding", "faces64")
    assert claims.counts()[claims.OPEN] == 56


def test_json_has_every_row():
    half_space()
    parsed = json.loads(claims.to_json())
    assert [item["id"] for item in parsed] == list(claims.rows())
    for item in parsed:
        assert set(item) == {"id", "verdict", "estimate", "ci", "n", "control", "model", "chapter", "figure",
                             "readings"}  # fmt: skip


SENTENCE = re.compile(r"[A-Z$].*[.]")


@pytest.mark.parametrize("row", claims.rows().values(), ids=lambda row: row.id)
def test_each_range_of_a_rule_has_its_sentence(row):
    """One for each range, which the numbers in it bring up; others for what is undecided and what is open."""
    limits = row.rule[1::2]
    inside = [limits[0] - 1, *(a / 2 + b / 2 for a, b in itertools.pairwise(limits)), limits[-1] + 1]
    reading = (0.0, 0.0, 0.0, 1)

    def told(low, high, verdict, second=None):
        readings = {name: reading for name, there in ((claims.SECOND, row.judges), (claims.CENTRES, row.encodings))
                    if there}  # fmt: skip
        if second:
            readings[claims.SECOND] = (second[0], *second, 1)
        entry = claims.Entry(row.id, verdict, low, (low, high), 9, "c", "m", row.chapter, "f", readings)
        return claims.reason(entry)

    because = [told(at, at, verdict) for at, verdict in zip(inside, row.rule[::2], strict=True)]
    assert len(set(because)) == len(because)
    undecided = told(inside[0], inside[-1], claims.UNDECIDED)
    assert undecided.startswith("We cannot tell whether ") and "more than one answer" in undecided
    if row.judges:
        ends = (inside[0], inside[0]), (inside[-1], inside[-1])
        assert told(*ends[0], claims.UNDECIDED, ends[1]).endswith("the two judges do not agree.")
        assert "second judge's" in told(*ends[0], claims.UNDECIDED, (inside[0], inside[-1]))
    waits = claims.reason(claims.unmeasured(row.id, "m"))
    for sentence in (*because, undecided, waits):
        assert SENTENCE.fullmatch(sentence) and len(sentence) < 240, sentence


def test_a_notebook_shows_an_entry_and_keeps_it_for_the_page():
    for entry in (half_space(), claims.unmeasured("B02", "m")):
        shown, beside = DisplayFormatter().format(entry)
        assert shown["text/markdown"].startswith(f"**{entry.id}: {entry.verdict}.**")
        assert claims.reason(entry) in shown["text/markdown"]
        assert claims.entry_of(json.loads(json.dumps(beside["claim"]))) == entry
    assert "No model is needed" in half_space()._repr_markdown_()


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
    {"readings": {"bin centres": [1, 1, 1, 9]}}, {"readings": 1}, {"figure": ["x"]}, {"id": "C99"}, {"more": 1},
    {"id": ["C31"]},
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

    a, b = "reproduced", "contradicted"
    entries = [entry("C01", "x", a), entry("C01", "y", a), entry("C02", "x", a), entry("C02", "y", b)]
    entries += [entry("C03", "x", a), *(e for e in claims.load() if e.id == "C04")]  # one model; none
    found = claims.by_model(entries)
    assert found == {"C01": {"x": a, "y": a}, "C02": {"x": a, "y": b}}
    share, chance = claims.agreement(found)
    assert (share.estimate, share.n) == (0.5, 2)
    assert chance == pytest.approx(0.75**2 + 0.25**2)


def test_a_sentence_has_the_verdict_of_its_model(ledger):
    half_space(0.798)
    claims.record(
        "C09", estimate=1, ci=(0.995, 1), n=500, control="0.5", model="faces64", centres=Estimate(1, (1, 1), 9)
    )
    said = claims.in_words("faces64")
    assert (said["C09"], said["C31"], said["C01"]) == ("**reproduced**", claims.OPEN, claims.OPEN)
    assert claims.in_words("none")["C31"] == "**wrong in the source**"
    assert list(said) == list(claims.rows())


def test_a_run_by_hand_leaves_the_verdicts_of_the_build_alone(tmp_path, monkeypatch):
    """Without GLOWKIT_CLAIMS, which the build sets, a chapter shows its verdicts and keeps none."""
    half_space(0.798)
    monkeypatch.setattr(claims, "__file__", str(tmp_path / "glowkit" / "book" / "claims.py"))
    (tmp_path / "_build").mkdir()
    (tmp_path / "claims").rename(tmp_path / "_build" / "claims")
    monkeypatch.delenv("GLOWKIT_CLAIMS")
    before = {file: file.read_bytes() for file in (tmp_path / "_build").rglob("*.json")}
    built = claims.load()
    assert before and any(entry.n for entry in built)
    claims.forget("07_grounding", "none")
    assert half_space(0.6).estimate == 0.6
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == before and claims.load() == built
