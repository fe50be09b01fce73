"""The ledger's findings, measured once where the data are, and kept beside the model in a small file.

One module a subject; each function takes a `Stage` and returns what it `Found`, or None where the model or its data
cannot decide the row.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from glowkit import checkpoint
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.measured import Found, Measures, open_measures, write
from glowkit.measures import (
    better,
    certainty,
    crops,
    levels,
    means,
    mirrors,
    norms,
    paths,
    places,
    projections,
    rivals,
    spots,
    steps,
    success,
    twists,
)
from glowkit.measures.stage import Stage, open_stage

__all__ = ["ROWS", "Found", "Measures", "Stage", "measure", "open_measures", "open_stage"]

_MODULES = (
    better,
    certainty,
    crops,
    levels,
    means,
    mirrors,
    norms,
    paths,
    places,
    projections,
    rivals,
    spots,
    steps,
    success,
    twists,
)
# In the order of the ledger: C01 to C40, then B01 to B13.
ROWS: dict[str, Callable[[Stage], Found | None]] = dict(
    sorted((item for part in _MODULES for item in part.ROWS.items()), key=lambda item: (item[0][0] == "B", item[0][:3]))
)


def measure(name: str | Path, data: str | None = None, rows: Iterable[str] = ()) -> Path:
    """Measures the ledger's findings on a model, `rows` of them or all that its file has not; returns the file.

    The file is written after each row, so that what was done is not lost. Rows that the model or its data cannot decide
    are left out, with a line: too few attributes for an interval, say. GlowkitError if that leaves none. `data`: see
    `open_stage`.
    """
    if unknown := [id for id in rows if id not in ROWS]:
        raise GlowkitError(f"row {unknown[0]!r}: what is measured are {', '.join(ROWS)}")
    folder = checkpoint.folder_of(name)
    with alone_in(folder):
        stage = open_stage(name, data)
        try:
            known = dict(open_measures(name).rows)
        except GlowkitError:
            known = {}
        wanted = list(rows) or [id for id in ROWS if id not in known]
        without, why = [], "the model or its data cannot decide them"
        for id in tqdm(wanted, "rows", unit="row"):
            try:
                found = ROWS[id](stage)
            except GlowkitError as error:
                found, why = None, f"{id}: {error}"
                tqdm.write(f"{id} is left out: {error}")
            if found is not None:
                known[id] = replace(found, date=f"{datetime.date.today()}")
            else:
                known.pop(id, None)
                without.append(id)
            ordered = {id: known[id] for id in ROWS if id in known}
            write(folder, Measures(folder.name, stage.described, len(stage.where), ordered))
        if wanted and without == wanted and (rows or not known):
            raise GlowkitError(f"{name}: no row can be measured ({why})")
        if without:
            tqdm.write(f"{name}: not measured, since the model or its data cannot decide them: {', '.join(without)}")
    return folder / "measures.json"
