"""Tables of what a campaign found, for a terminal and, as CSV, for the book's page."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from glowkit.files import replacing

OTHER = "anything else"
ALL = "all"


def table(rows: Mapping[str, Sequence[int]], header: Sequence[str]) -> str:
    """Aligned columns, the first of names."""
    lines = [tuple(header), *((name, *(f"{n:,}" for n in row)) for name, row in rows.items())]
    wide = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, wide, strict=True)))
        for line in lines
    )


def there(file: Path | None, name: str, column: int, n: int, seed: int) -> bool:
    """Whether a table has a row of this name and seed, with n at least in a column of numbers (from 0)."""
    row = _read(file).get(name) if file else None
    return row is not None and row[-2] == str(seed) and int(row[column]) >= n


def _read(file: Path) -> dict[str, list[str]]:
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {name: rest for name, *rest in list(csv.reader(lines))[1:] if name != ALL}


def keep(
    file: Path, rows: Mapping[str, Sequence[object]], header: Sequence[str], seed: int, total: bool = True
) -> None:
    """Put rows into a table, in the place of those of the same name; with `total` its last one counts all."""
    found = _read(file)
    found |= {name: [*map(str, row), str(seed), f"{datetime.date.today()}"] for name, row in rows.items()}
    if total:
        counts = zip(*(map(int, row[:-2]) for row in found.values()), strict=True)
        found[ALL] = [*(str(sum(column)) for column in counts), "", ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows(
            [(*header, "seed", "date"), *((name, *row) for name, row in found.items())]
        )
