"""What was measured for rows of the ledger, in a small file beside the model: measures.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glowkit import checkpoint, fields
from glowkit.errors import GlowkitError
from glowkit.files import replacing
from glowkit.intervals import Estimate

FILE = "measures.json"
# `weights` and `study` are SHA-256 sums of the files that it was measured with.
ABOUT = {"data": fields.Text(), "faces": fields.Whole(1, 2**40), "weights": fields.Text(), "study": fields.Text()}
ROW = {"estimate": fields.List(), "second": fields.List(), "centres": fields.List(), "control": fields.Text(),
       "date": fields.Text(), "details": fields.Table()}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a row asks for: its number with dequantisation noise and the first judge, and what it is read against.

    second, centres: the same number with the second judge, and at bin centres, for rows that take them. details:
    numbers and names for a figure or a table, as JSON has them.
    """

    estimate: Estimate
    control: str
    second: Estimate | None = None
    centres: Estimate | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""


@dataclass(frozen=True)
class Measures:
    """All that is known of a model: rows by id; data: the faces' set; faces: how many of them."""

    name: str
    data: str
    faces: int
    rows: Mapping[str, Found]


def open_measures(name: str | Path) -> Measures:
    """The measures of a bundled name or a model's folder.

    Raises GlowkitError if there are none, or if they are those of other weights or of another study.
    """
    folder = checkpoint.folder_of(name)
    path = folder / FILE
    try:
        content = fields.from_json(path.read_bytes())
        fields.check(content, ABOUT | {"rows": fields.Table()}, "", required=[*ABOUT, "rows"])
        rows = {id: found_of(id, row) for id, row in content.pop("rows").items()}
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no measures there yet; make them with `glowkit measure {name}`") from None
    except (ValueError, GlowkitError) as error:
        raise GlowkitError(f"{path}: no measures of a model ({error}); make them: `glowkit measure {name}`") from None
    if any(content[key] != value for key, value in sums(folder).items()):
        raise GlowkitError(f"{path}: measured with other weights or another study; anew: `glowkit measure {name}`")
    return Measures(folder.name, content["data"], content["faces"], rows)


def write(folder: Path, measures: Measures) -> None:
    """Writes the file beside the model, or leaves the one that is there."""
    rows = {id: as_json(found) for id, found in measures.rows.items()}
    content = {"data": measures.data, "faces": measures.faces, **sums(folder)}
    with replacing(folder / FILE) as unfinished:
        # A row a line.
        lines = [f"  {json.dumps(id)}: {json.dumps(row, allow_nan=False)}" for id, row in rows.items()]
        head = json.dumps(content, indent=1)[:-2]
        unfinished.write_text(head + ',\n "rows": {\n' + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


def rounded(value: Any, digits: int = 4) -> Any:
    """`details` as JSON has them: numbers with so many significant digits (None for what is not finite), arrays and
    estimates as lists, an estimate as [estimate, low, high, n]."""
    match value:
        case Estimate(estimate, ci, n):
            return [*rounded([estimate, *ci], digits), int(n)]
        case Mapping():
            return {str(key): rounded(item, digits) for key, item in value.items()}
        case np.ndarray() | torch.Tensor():
            return rounded(value.tolist(), digits)
        case list() | tuple():
            return [rounded(item, digits) for item in value]
        case float() | np.floating():
            return float(f"{value:.{digits}g}") if math.isfinite(value) else None
        case np.generic():
            return value.item()
        case _:
            return value


def estimate_of(numbers: list, where: str = "details") -> Estimate:
    """An estimate as `listed` made it, or `rounded` left it in `details`; `where` an error says it is."""
    right = len(numbers) == 4 and all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
    if not (right and numbers[1] <= numbers[0] <= numbers[2] and type(numbers[3]) is int and numbers[3] >= 1):
        raise GlowkitError(f"{where} = {numbers}: want estimate, low, high and a whole n")
    return Estimate(numbers[0], (numbers[1], numbers[2]), numbers[3])


def listed(estimate: Estimate) -> list:
    """[estimate, low, high, n], as files have it."""
    return [float(estimate.estimate), *map(float, estimate.ci), int(estimate.n)]


def sums(folder: Path) -> dict[str, str]:
    """What the file says that it was measured with."""
    return {"weights": checkpoint.weights_hash(folder), "study": checkpoint.sha256(folder / "study.safetensors")}


def as_json(found: Found) -> dict:
    """A row as files have it."""
    readings = {"estimate": found.estimate, "second": found.second, "centres": found.centres}
    numbers = {key: listed(found) for key, found in readings.items() if found is not None}
    return {**numbers, "control": found.control, "date": found.date, "details": dict(found.details)}


def found_of(id: str, row: Any) -> Found:
    """The row `id` from what `as_json` made of it. Raises GlowkitError if it is anything else."""
    fields.check(row, ROW, f"{id}.", required=("estimate", "control", "date", "details"))
    readings = {key: estimate_of(row[key], f"{id}.{key}") for key in ("estimate", "second", "centres") if key in row}
    return Found(**readings, control=row["control"], details=row["details"], date=row["date"])
