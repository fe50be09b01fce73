"""What was found: one small JSON file a run, without the weights, in a folder that is committed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glowkit import bundled, fields
from glowkit.errors import GlowkitError
from glowkit.files import expanded, replacing
from glowkit.intervals import Estimate
from glowkit.measured import Found, as_json, estimate_of, found_of, listed

FOLDER = bundled.root() / "data" / "replications"
FIELDS = {
    "cell": fields.Text(), "seed": fields.Whole(0, fields.SEED), "kind": fields.Text(), "model": fields.Table(),
    "training": fields.Table(), "data": fields.Text(), "images": fields.Whole(1, 2**40), "faces": fields.Text(),
    "seconds": fields.Table(), "date": fields.Text(), "commit": fields.Text(), "machine": fields.Table(),
    "bits_per_dim": fields.List(), "auc": fields.List(), "rows": fields.Table(),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What was found of one run.

    model, training: its shape and settings; images: how many of `data` it learnt from; faces: what it was measured on.
    bits_per_dim: of held-out faces. auc: mean AUC of the mean projection over all attributes. rows: of the ledger, None
    where the model cannot decide one. seconds: of one core, by what they went into; of training before it was stopped,
    those that its log tells of, on the clock of the wall. machine: on which the last digits depend.
    """

    cell: str
    seed: int
    kind: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    data: str
    images: int
    faces: str
    seconds: Mapping[str, float]
    date: str
    commit: str
    machine: Mapping[str, Any]
    bits_per_dim: Estimate
    auc: Estimate
    rows: Mapping[str, Found | None]

    @property
    def numbers(self) -> dict[str, Any]:
        """All that a second run has to find again."""
        rows = {id: found and as_json(replace(found, date="")) for id, found in self.rows.items()}
        return {"bits_per_dim": listed(self.bits_per_dim), "auc": listed(self.auc), "rows": rows}


def write(result: Result, path: Path) -> None:
    """Writes the file, or leaves the one that is there."""
    content = {name: getattr(result, name) for name in FIELDS} | result.numbers
    content["rows"] = {id: found and as_json(found) for id, found in result.rows.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        lines = [f" {json.dumps(key)}: {_row_a_line(key, value)}" for key, value in content.items()]
        unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read(path: Path) -> Result:
    """The result in a file. Raises GlowkitError if it is none."""
    try:
        content = fields.from_json(path.read_bytes())
        fields.check(content, FIELDS, "", required=FIELDS)
        rows = {id: None if row is None else found_of(id, row) for id, row in content["rows"].items()}
        estimates = {key: estimate_of(content[key], key) for key in ("bits_per_dim", "auc")}
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no such file; `glowkit replicate` makes it") from None
    except (ValueError, GlowkitError) as error:
        raise GlowkitError(
            f"{path}: not the result of a run ({error}); remove it, and `glowkit replicate` makes it anew"
        ) from None
    return Result(**{**content, **estimates, "rows": rows})


def open_replications(folder: str | Path = FOLDER) -> list[Result]:
    """All results of a folder, of the bundled one unless said, by cell and seed."""
    found = [read(path) for path in sorted(expanded(folder).glob("*.json"))]
    if not found:
        raise GlowkitError(f"{folder}: no results there yet; make them: `glowkit replicate configs/replications.toml`")
    return sorted(found, key=lambda result: (result.cell, result.seed))


def _row_a_line(key: str, value: Any) -> str:
    if key != "rows":
        return json.dumps(value, allow_nan=False)
    rows = [f"  {json.dumps(id)}: {json.dumps(row, allow_nan=False)}" for id, row in value.items()]
    return "{\n" + ",\n".join(rows) + "\n }"
