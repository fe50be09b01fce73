"""What a model is made of: a result and a folder say it, and neither is taken for that of a model made otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from glowkit import checkpoint, fields, training
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import replacing
from glowkit.replications.plan import Plan, Run
from glowkit.replications.results import Result, read
from glowkit.trainer import Settings

MADE = "made.json"


def recipe(run: Run) -> dict[str, Any]:
    """What a result says of its model, but for the rank of a linear flow, which its images choose."""
    model = {key: value for key, value in run.shape.as_dict().items() if key != "rank"}
    images = len(_training_images(run.data, run.shape.image_size)[: run.images])
    return {
        "kind": checkpoint.kind_of(run.shape), "model": model, "training": asdict(run.settings), "data": run.data,
        "images": images,
    }  # fmt: skip


def found_before(run: Run, file: Path) -> Result | None:
    """The run's result, if there is one. Raises GlowkitError if it is of a model that was made otherwise."""
    if not file.exists():
        return None
    result = read(file)
    _check(vars(result), recipe(run), f"{file}: of a model", "give another --out")
    return result


def claim(plan: Plan, run: Run, folder: Path) -> None:
    """Keeps a folder for one model: says in it what that is made of, its start and the size of its study included.

    Raises GlowkitError if the folder has a model that was made otherwise, or that does not say how.
    """
    file, start = folder / MADE, plan.start_of(run)
    wanted = recipe(run) | {"study": plan.study, "start": {"name": run.start} | (recipe(start) if start else {})}
    if file.exists():
        try:
            found = fields.from_json(file.read_bytes())
        except ValueError as error:
            raise GlowkitError(f"{file}: {error}; remove the folder, and its model is made anew") from None
        _check(found, wanted, f"{folder}: a model", "give the cell another name")
        return
    if any((folder / name).exists() for name in (checkpoint.CONFIG, training.STATE)):
        raise GlowkitError(f"{folder}: a model without {MADE}, which would say what it is made of; remove the folder")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as unfinished:
        unfinished.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


@cache
def _training_images(data: str, size: int) -> np.ndarray:
    """Their indices (n,) in the data set."""
    return open_dataset(data, size=size).subset("train")


def _check(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str, otherwise: str) -> None:
    # A setting that is younger than what was found had then its default's effect.
    defaults = {"model": checkpoint.KINDS[wanted["kind"]].config().as_dict(), "training": asdict(Settings())}
    found = dict(_leaves(defaults)) | dict(_leaves(found))
    for name, value in _leaves(wanted):
        if found.get(name) != value:
            raise GlowkitError(
                f"{what} made with {name} = {found.get(name)}, and the plan has {value} now; remove it, or {otherwise}"
            )


def _leaves(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
