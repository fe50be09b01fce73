"""The ledger: which claims of the thesis hold, decided by rules from measured numbers.

`claims.toml` declares every row: source, claim, the one number that decides it, and the rule. A chapter
measures that number and calls `record`; the verdict follows from the confidence interval and is never typed.
Each chapter run leaves one JSON file a model in `folder()`; `load` merges them, and `scoreboard` shows all
rows, those not yet measured as open.
"""

import json
import math
import os
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from glowkit import escaping
from glowkit.errors import GlowkitError
from glowkit.files import replacing
from glowkit.intervals import Estimate, wilson

VERDICTS = ("reproduced", "reproduced with a correction", "not reproduced", "wrong in the source")
OPEN = "open"
"""Stands in the place of a verdict for a row that nothing has measured yet."""


@dataclass(frozen=True)
class Row:
    """What the ledger declares of one claim."""

    id: str
    source: str
    chapter: str
    claim: str
    measure: str
    rule: tuple[tuple[str, float, float], ...]

    def verdict(self, ci: tuple[float, float]) -> str:
        """The first verdict of the rule whose range holds the whole interval, else "not reproduced"."""
        for verdict, low, high in self.rule:
            if low <= ci[0] and ci[1] <= high:
                return verdict
        return "not reproduced"


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

    def _repr_markdown_(self) -> str:
        row = rows()[self.id]
        return (
            f"**{self.id}: {self.verdict}.** {row.claim} *Measured:* {row.measure}: {numbers(self)}. "
            f"*Control:* {escaping.markdown(self.control)}. *Model:* {escaping.markdown(self.model)}."
        )


@cache
def rows() -> dict[str, Row]:
    """Every row of the ledger by id, C01 to C40 and B01 to B08, as `claims.toml` declares them."""
    declared = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))
    return {id: Row(id=id, **row | {"rule": tuple(map(tuple, row["rule"]))}) for id, row in declared.items()}


def folder() -> Path:
    """Where chapter runs leave their results: `_build/claims` beside the library, or GLOWKIT_CLAIMS."""
    return Path(os.environ.get("GLOWKIT_CLAIMS") or Path(__file__).parents[2] / "_build" / "claims")


def record(
    id: str, *, estimate: float, ci: tuple[float, float], n: int, control: str, model: str, figure: str = ""
) -> Entry:
    """Keep what a chapter measured for a row in the ledger; returns the entry, verdict included.

    estimate: the number the row's `measure` asks for; ci: its interval, low then high; n: observations behind
    it; control: what the number is read against, with its value; model: the bundled model's name, or "none"
    for pure mathematics; figure: the label of the figure that shows it (default "fig-c31" for C31).
    """
    if id not in rows():
        raise GlowkitError(f"claims: unknown row {id!r}; the ledger has C01 to C40 and B01 to B08")
    estimate, ci = float(estimate), (float(ci[0]), float(ci[1]))
    if not _in_order(estimate, ci):
        raise GlowkitError(f"claims: {id}: {estimate} in {ci}; want finite low <= estimate <= high")
    if int(n) != n or n < 1 or not control or not model:
        raise GlowkitError(f"claims: {id}: n {n}, control {control!r}, model {model!r}; want n >= 1 and both")
    row, model = rows()[id], Path(model).name  # a checkpoint's path may differ between machines, its name not
    figure = figure or f"fig-{id.lower()}"
    entry = Entry(id, row.verdict(ci), estimate, ci, int(n), control, model, row.chapter, figure)
    path = folder() / f"{row.chapter}.{model}.json"
    kept = [old for old in _read(path) if old.id != id] if path.exists() else []
    _write(path, sorted([*kept, entry], key=lambda e: e.id))
    return entry


def forget(chapter: str, model: str) -> None:
    """Drop what an earlier run of a chapter left, so that a row it no longer measures does not linger."""
    for name in (model, "none"):
        (folder() / f"{chapter}.{Path(name).name}.json").unlink(missing_ok=True)


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


def scoreboard(entries: list[Entry] | None = None) -> str:
    """The ledger as a Markdown table, each row linked to the section that measured it and to its figure."""
    lines = ["| row | claim | verdict | estimate | control | model |", "|" + " --- |" * 6]
    for entry in load() if entries is None else entries:
        link = f"[{entry.id}](#{entry.id.lower()})"  # each row's section carries its id as label
        if entry.verdict != OPEN:
            link += f", [figure](#{escaping.markdown(entry.figure)})"
        lines.append(
            f"| {link} | {rows()[entry.id].claim} | {entry.verdict} | {numbers(entry)} "
            f"| {escaping.markdown(entry.control)} | {escaping.markdown(entry.model)} |".replace(
                "|df/dx|", r"\|df/dx\|"
            )
        )
    return "\n".join(lines)


def to_json(entries: list[Entry] | None = None) -> str:
    """The ledger as a JSON list of objects: id, verdict, estimate, ci, n, control, model, chapter, figure."""
    return json.dumps([asdict(entry) for entry in (load() if entries is None else entries)], indent=1)


def counts(entries: list[Entry] | None = None) -> dict[str, int]:
    """How many entries have each verdict, in the order of VERDICTS, then how many rows are open."""
    verdicts = [entry.verdict for entry in (load() if entries is None else entries)]
    return {verdict: verdicts.count(verdict) for verdict in (*VERDICTS, OPEN)}


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
    return Entry(row.id, OPEN, None, None, None, "", "", row.chapter, f"fig-{row.id.lower()}")


def numbers(entry: Entry) -> str:
    """What was measured, for a reader: estimate, interval and n."""
    if entry.estimate is None or entry.ci is None:
        return "not measured"
    return str(Estimate(entry.estimate, entry.ci, entry.n))


def _read(path: Path) -> list[Entry]:
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
        found = [Entry(**item | {"ci": tuple(item["ci"])}) for item in items]
        for entry in found:
            _check(entry)
        wrong = [entry.id for entry in found if rows()[entry.id].verdict(entry.ci) != entry.verdict]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise GlowkitError(f"claims: {path} is no ledger file ({error!r}); remove it, build again") from None
    if wrong:
        raise GlowkitError(f"claims: {path}: verdict of {', '.join(wrong)} does not follow from its numbers")
    return found


def _check(entry: Entry) -> None:
    """Raises ValueError or TypeError for an entry that `record` would not have written."""
    texts = (entry.control, entry.model, entry.chapter, entry.figure)
    low, high = entry.ci
    if not (_in_order(entry.estimate, (low, high)) and type(entry.n) is int and entry.n >= 1):
        raise ValueError(f"{entry.id}: {entry.estimate} in {entry.ci}, n {entry.n}")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{entry.id}: {texts}")


def _in_order(estimate: float, ci: tuple[float, float]) -> bool:
    """Whether all are finite and the estimate is in its interval."""
    return all(map(math.isfinite, (estimate, *ci))) and ci[0] <= estimate <= ci[1]


def _write(path: Path, entries: list[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(to_json(entries) + "\n", encoding="utf-8")
