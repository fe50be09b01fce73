"""The ledger: which claims of the thesis hold, decided by rules from measured numbers.

`claims.toml` declares every row: source, claim, the one number that decides it, and the rule. A chapter
measures that number and calls `record`; the verdict follows from the confidence interval and is never typed.
`reasons.toml` has the sentence that goes with each range of a rule. A build of the book gathers its chapters'
verdicts, one JSON file for each chapter and model; `load` merges them, those not yet measured as open. A chapter run
by hand, with other parameters perhaps, shows its verdicts and leaves those of the build alone, unless GLOWKIT_CLAIMS
names a folder for them. How all this looks on a page is for `cards`.
"""

import hashlib
import itertools
import json
import math
import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from glowkit import escaping
from glowkit.errors import GlowkitError
from glowkit.files import expanded, replacing
from glowkit.intervals import Estimate, unbroken, wilson
from glowkit.measured import Found, open_measures

UNDECIDED = "undecided"
VERDICTS = ("reproduced", "reproduced with a correction", "contradicted", UNDECIDED, "wrong in the source")
OPEN = "open"
"""Stands in the place of a verdict for a row that nothing has measured yet."""
CHECK, FINDING = "check", "finding"
SECOND, CENTRES = "second judge", "bin centres"
"""Readings of a row beside the one that decides: with the other judge, which has to agree, and at bin centres."""
RULES = Path(__file__).parent / "claims.toml"
REASONS = Path(__file__).parent / "reasons.toml"
NO_MODEL = "none"
"""Stands in the place of a model's name for a row of pure mathematics."""
NOT_MEASURED = "*Needs what `glowkit measure` finds, and has not found for this model.*"
"""Stands in the place of a figure or a table, as Markdown."""


@dataclass(frozen=True)
class Row:
    """What the ledger declares of one claim. judges, encodings: whether it takes readings SECOND and CENTRES."""

    id: str
    source: str
    chapter: str
    kind: str
    claim: str
    measure: str
    rule: tuple[str | float, ...]
    judges: bool = False
    encodings: bool = False
    section: str = ""

    def __post_init__(self) -> None:
        verdicts, limits = self.rule[::2], self.limits
        if not (
            len(self.rule) % 2 == 1
            and all(verdict in VERDICTS and verdict != UNDECIDED for verdict in verdicts)
            and all(isinstance(limit, float) and math.isfinite(limit) for limit in limits)
            and sorted(set(limits)) == list(limits)
        ):
            raise GlowkitError(f"claims: {self.id}: rule {list(self.rule)}: want verdict, limit, verdict, ..., verdict")
        if not self.section:
            object.__setattr__(self, "section", self.id.lower())

    @property
    def limits(self) -> tuple[float, ...]:
        """The numbers, in rising order, at which the verdict changes."""
        return self.rule[1::2]

    def place(self, ci: tuple[float, float]) -> int | None:
        """Which range of the rule, counted from 0, holds the whole interval; None if none does.

        A limit belongs to both of its ranges, and an interval that is a limit, of no width, to the upper one.
        """
        low, high = ci
        ends = [-math.inf, *self.limits, math.inf]
        held = (start <= low and high <= stop for start, stop in itertools.pairwise(ends))
        return max((place for place, holds in enumerate(held) if holds), default=None)

    def verdict(self, ci: tuple[float, float]) -> str:
        """The verdict of the range of the rule that holds the whole interval; UNDECIDED if none does."""
        place = self.place(ci)
        return UNDECIDED if place is None else str(self.rule[2 * place])


@dataclass(frozen=True)
class Entry:
    """One row of the scoreboard: a claim, on one model, with the numbers that decide it."""

    id: str
    verdict: str
    estimate: float | None
    ci: tuple[float, float] | None
    n: int | None
    control: str
    model: str
    chapter: str
    figure: str
    readings: Mapping[str, tuple[float, float, float, int]] = field(default_factory=dict)
    """What else was measured for the row: estimate, low, high and n under each of SECOND and CENTRES."""

    def _repr_markdown_(self) -> str:
        row = rows()[self.id]
        if self.estimate is None:
            return f"**{self.id}: {self.verdict}.** {row.claim} {reason(self)}"
        beside = "".join(f" *With {name}:* {text}." for name, text in self.beside().items())
        model = "*No model is needed.*" if self.model == NO_MODEL else f"*Model:* {escaping.markdown(self.model)}."
        return (
            f"**{self.id}: {self.verdict}.** {row.claim} {reason(self)}\n\n*Measured:* {row.measure}: "
            f"{numbers(self)}.{beside} *Control:* {escaping.markdown(self.control)}. {model}"
        )

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        """For a notebook: as Markdown, with the entry itself beside it, which the book makes a card of."""
        return {"text/markdown": self._repr_markdown_()}, {"claim": asdict(self)}

    def beside(self) -> dict[str, str]:
        """The other readings for a reader; where their verdict is another than that of the deciding number, it too."""
        row, found = rows()[self.id], {}
        for name, (estimate, low, high, n) in self.readings.items():
            verdict, own = row.verdict((low, high)), row.verdict(self.ci)
            found[name] = f"{Estimate(estimate, (low, high), n)}" + (f", *{verdict}*" if verdict != own else "")
        return found


@cache
def rows() -> dict[str, Row]:
    """Every row of the ledger by id, C01 to C40 and B01 to B12, as `claims.toml` declares them."""
    return {id: Row(id=id, **row | {"rule": tuple(row["rule"])}) for id, row in _declared()["rows"].items()}


def reason(entry: Entry) -> str:
    """One sentence, formulas between dollar signs, on why the entry has its verdict; it holds no number of its own."""
    row, words = rows()[entry.id], _reasons()[entry.id]
    if entry.ci is None:
        return words.get("open", "It has not been measured.")
    if entry.verdict != UNDECIDED:
        return words["because"][row.place(entry.ci)]
    second = entry.readings.get(SECOND, ())[1:3]
    if row.place(entry.ci) is None:
        why = "the interval has room for more than one answer"
    elif row.place(second) is None:
        why = "the second judge's interval has room for more than one answer"
    else:
        why = "the two judges do not agree"
    return f"We cannot tell whether {words['whether']}: {why}."


def amendments() -> list[dict]:
    """Every change of a row since the first edition was written: row, date, commit (where it was one of this
    repository), what, before, after, reason, and whether the number that it decides was known."""
    return _declared()["amendments"]


@cache
def _reasons() -> dict[str, dict]:
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))


def rules_hash() -> str:
    """SHA-256 sum of `claims.toml`, which tells whether it is the file that was written before the first number."""
    return hashlib.sha256(RULES.read_bytes()).hexdigest()


def _declared() -> dict:
    return tomllib.loads(RULES.read_text(encoding="utf-8"))


def folder() -> Path:
    """Where verdicts are read: GLOWKIT_CLAIMS, or those of the last build, `_build/claims` beside the library."""
    return _own() or Path(__file__).parents[2] / "_build" / "claims"


def _own() -> Path | None:
    """Where this run leaves its verdicts, if anywhere."""
    named = os.environ.get("GLOWKIT_CLAIMS")
    return expanded(named) if named else None


def record(
    id: str,
    *,
    estimate: float,
    ci: tuple[float, float],
    n: int,
    control: str,
    model: str,
    figure: str = "",
    second: Estimate | None = None,
    centres: Estimate | None = None,
) -> Entry:
    """The verdict on a row from what a chapter measured; returns the entry, and keeps it where GLOWKIT_CLAIMS says.

    estimate: the number the row's `measure` asks for; ci: its interval, low then high; n: independent units behind
    it; control: what the number is read against, with its value; model: the bundled model's name, or "none"
    for pure mathematics; figure: the label of the figure that shows it (default "fig-c31" for C31); second and
    centres: the same number with the second judge and at bin centres, for the rows that take them.
    """
    if id not in rows():
        raise GlowkitError(f"claims: unknown row {id!r}; the ledger has C01 to C40 and B01 to B13")
    row, model = rows()[id], Path(model).name  # a checkpoint's path may differ between machines, its name not
    readings = {
        name: (float(found.estimate), *map(float, found.ci), int(found.n))
        for name, found in ((SECOND, second), (CENTRES, centres))
        if found is not None
    }
    figure = figure or f"fig-{row.section}"
    ci = (float(ci[0]), float(ci[1]))
    entry = Entry(id, "", float(estimate), ci, int(n), control, model, row.chapter, figure, readings)
    if int(n) != n or not control or not model:
        raise GlowkitError(f"claims: {id}: n {n}, control {control!r}, model {model!r}; want n >= 1 and both")
    try:
        _check(entry)
    except (ValueError, TypeError) as error:
        raise GlowkitError(
            f"claims: {error}; want finite low <= estimate <= high, n >= 1, the row's readings"
        ) from None
    entry = Entry(**vars(entry) | {"verdict": decided(entry)})
    if ledger := _own():
        path = ledger / f"{row.chapter}.{model}.json"
        kept = [old for old in _read(path) if old.id != id] if path.exists() else []
        _write(path, sorted([*kept, entry], key=lambda e: e.id))
    return entry


def measured(id: str, model: str, figure: str = "") -> Entry:
    """Keep what `glowkit measure` found for a row in the ledger; an open entry if it found nothing for this model."""
    row = found(id, model)
    if row is None:
        return unmeasured(id, model)
    return record(
        id,
        **row.estimate._asdict(),
        control=row.control,
        model=model,
        figure=figure,
        second=row.second,
        centres=row.centres,
    )


def unmeasured(id: str, model: str) -> Entry:
    """The open entry of a row that nothing could measure on this model."""
    return replace(_open(rows()[id]), model=Path(model).name)


def details(id: str, model: str) -> Mapping[str, Any]:
    """What `glowkit measure` kept of a row for its figure and tables; empty if it found nothing for this model."""
    row = found(id, model)
    return {} if row is None else row.details


def found(id: str, model: str) -> Found | None:
    """What `glowkit measure` found for a row on this model, None if it found nothing."""
    try:
        return open_measures(model).rows.get(id)
    except GlowkitError:  # none yet, or of another study: the row is open
        return None


def decided(entry: Entry) -> str:
    """The verdict that follows from an entry's numbers: UNDECIDED where the second judge gives another."""
    second = entry.readings.get(SECOND)
    return _verdict(entry.id, entry.ci, second and second[1:3])


def verdict_on(id: str, found: Found) -> str:
    """The verdict on a row that what was measured of some model would have; it is not kept."""
    return _verdict(id, found.estimate.ci, found.second and found.second.ci)


def _verdict(id: str, ci: tuple[float, float], second: tuple[float, float] | None) -> str:
    row = rows()[id]
    verdict = row.verdict(ci)
    return UNDECIDED if second and row.verdict(second) != verdict else verdict


def forget(chapter: str, model: str) -> None:
    """Drop what an earlier run of a chapter left, so that a row it no longer measures does not linger."""
    if ledger := _own():
        for name in (model, NO_MODEL):
            (ledger / f"{chapter}.{Path(name).name}.json").unlink(missing_ok=True)


def load() -> list[Entry]:
    """All rows in order: an entry for each model that measured the row, an open one where none did."""
    found: dict[str, list[Entry]] = {id: [] for id in rows()}
    for path in sorted(folder().glob("*.json")):
        for entry in _read(path):
            found[entry.id].append(entry)
    for id, entries in found.items():
        if len({entry.model for entry in entries}) < len(entries):
            raise GlowkitError(f"claims: {id} has two verdicts for one model; empty {folder()}, build again")
    return [entry for id in rows() for entry in found[id] or [_open(rows()[id])]]


def to_json(entries: list[Entry] | None = None) -> str:
    """The ledger as a JSON list of objects: id, verdict, estimate, ci, n, control, model, chapter, figure."""
    return json.dumps([asdict(entry) for entry in (load() if entries is None else entries)], indent=1)


def counts(entries: list[Entry] | None = None) -> dict[str, int]:
    """How many entries have each verdict, in the order of VERDICTS, then how many rows are open."""
    verdicts = [entry.verdict for entry in (load() if entries is None else entries)]
    return {verdict: verdicts.count(verdict) for verdict in (*VERDICTS, OPEN)}


def in_words(model: str) -> dict[str, str]:
    """The verdict of each row on one model, in bold Markdown for a sentence; "open" where it measured none."""
    return dict.fromkeys(rows(), OPEN) | {e.id: f"**{e.verdict}**" for e in load() if e.model == model and e.n}


def by_model(entries: list[Entry]) -> dict[str, dict[str, str]]:
    """The verdict of each model, for every row that more than one of them measured."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        if entry.n:
            found.setdefault(entry.id, {})[entry.model] = entry.verdict
    return {id: verdicts for id, verdicts in found.items() if len(verdicts) > 1}


def agreement(verdicts: dict[str, dict[str, str]]) -> tuple[Estimate, float]:
    """Of the rows of `by_model`, the share with one verdict on all models; and the share by chance, if each verdict
    were drawn from all of them."""
    found = [list(row.values()) for row in verdicts.values()]
    every = Counter(verdict for row in found for verdict in row)
    chance = sum((count / every.total()) ** len(row) for row in found for count in every.values()) / len(found)
    return wilson(sum(len(set(row)) == 1 for row in found), len(found)), chance


def _open(row: Row) -> Entry:
    return Entry(row.id, OPEN, None, None, None, "", "", row.chapter, f"fig-{row.section}")


def numbers(entry: Entry) -> str:
    """What was measured, for a reader: estimate, interval and n, which no line's end tears apart."""
    if entry.estimate is None or entry.ci is None:
        return "not measured"
    return unbroken(str(Estimate(entry.estimate, entry.ci, entry.n)))


def _read(path: Path) -> list[Entry]:
    try:
        found = [entry_of(item) for item in json.loads(path.read_text(encoding="utf-8"))]
        for entry in found:
            _check(entry)
        wrong = [entry.id for entry in found if decided(entry) != entry.verdict]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GlowkitError(f"claims: {path} is no ledger file ({error!r}); remove it, build again") from None
    if wrong:
        raise GlowkitError(f"claims: {path}: verdict of {', '.join(wrong)} does not follow from its numbers")
    return found


def entry_of(item: dict[str, Any]) -> Entry:
    """An entry from its JSON object, or from what a notebook keeps beside its output; nothing is checked."""
    readings = {name: tuple(found) for name, found in item["readings"].items()}
    return Entry(**item | {"ci": item["ci"] and tuple(item["ci"]), "readings": readings})


def _check(entry: Entry) -> None:
    """Raises ValueError, TypeError or KeyError for an entry that `record` would not have written."""
    row = rows()[entry.id]
    texts = (entry.control, entry.model, entry.chapter, entry.figure)
    found = {"": (entry.estimate, *entry.ci, entry.n), **entry.readings}
    for name, (estimate, low, high, n) in found.items():
        if not (_in_order(estimate, (low, high)) and type(n) is int and n >= 1):
            raise ValueError(f"{entry.id}: {name} {estimate} in {(low, high)}, n {n}".replace(":  ", ": "))
    if set(entry.readings) != _wanted(row):
        raise ValueError(f"{entry.id}: readings {sorted(entry.readings)}, not {sorted(_wanted(row))}")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{entry.id}: {texts}")


def _wanted(row: Row) -> set[str]:
    """The readings that a row takes."""
    return {name for name, there in ((SECOND, row.judges), (CENTRES, row.encodings)) if there}


def _in_order(estimate: float, ci: tuple[float, float]) -> bool:
    """Whether all are finite and the estimate is in its interval."""
    return all(map(math.isfinite, (estimate, *ci))) and ci[0] <= estimate <= ci[1]


def _write(path: Path, entries: list[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(to_json(entries) + "\n", encoding="utf-8")
