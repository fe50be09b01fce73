"""A plan: cells of models that differ in one thing, several training seeds in each, and what is measured on them."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glowkit import bundled, checkpoint, fields
from glowkit.checkpoint import Config as Shape
from glowkit.errors import GlowkitError
from glowkit.linear import LinearConfig
from glowkit.measures import ROWS
from glowkit.measures.stage import EACH
from glowkit.trainer import SETTINGS, Settings

PLAN = {
    "data": fields.Text(), "judges": fields.Text(), "rows": fields.Names(), "study": fields.Whole(2, 10**6),
    "faces": fields.Whole(2, 10**6), "each": fields.Table(), "model": fields.Table(), "training": fields.Table(),
    "cells": fields.List(),
}  # fmt: skip
CELL = {
    "name": fields.Text(), "kind": fields.OneOf(tuple(checkpoint.KINDS)), "data": fields.Text(),
    "images": fields.Whole(1, 10**6), "start": fields.Text(), "seeds": fields.List(), "model": fields.Table(),
    "training": fields.Table(),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One model: its cell and training seed, shape, settings, and how many `images` of `data` it learns from.

    start: the run whose weights it begins with, if any.
    """

    cell: str
    seed: int
    data: str
    shape: Shape
    settings: Settings
    images: int
    start: str | None

    @property
    def name(self) -> str:
        return name_of(self.cell, self.seed)


@dataclass(frozen=True)
class Plan:
    """`runs` in the order of their making, and what every one of them is measured with.

    judges: the model whose judges say whether edits worked. rows: of the ledger. study: training images that class
    means are of. faces: of data seed 1, that the rows are measured on; each: in how many of them an attribute is
    edited, see `measures.Stage`.
    """

    path: Path
    judges: str
    rows: list[str]
    study: int
    faces: int
    each: Mapping[str, int]
    runs: list[Run]

    def start_of(self, run: Run) -> Run | None:
        return next((other for other in self.runs if other.name == run.start), None)


def name_of(cell: str, seed: int) -> str:
    """Of a run, its folder and its result."""
    return f"{cell}-seed{seed}"


def read_plan(path: str | Path) -> Plan:
    """The plan of a TOML file. [model] and [training] hold for every cell, and its own tables change them.

    Of [model] a cell takes what its kind knows. The path: see `bundled.read_toml`. Raises GlowkitError for the first
    thing that is wrong in it.
    """
    path, content = bundled.read_toml(path, "replications.toml is an example of a plan")
    try:
        fields.check(content, PLAN, "", required=("data", "judges", "rows", "study", "faces", "cells"))
        if not content["cells"]:
            raise GlowkitError("cells = []: want one at least")
        each = EACH | content.get("each", {})
        fields.check(each, dict.fromkeys(EACH, fields.Whole(1, 10**4)), "each.")
        if unknown := [row for row in content["rows"] if row not in ROWS]:
            raise GlowkitError(f"rows: {unknown[0]!r} is none of {', '.join(ROWS)}")
        runs = [run for k, cell in enumerate(content["cells"]) for run in _runs(content, cell, f"cells[{k}].")]
        # Each cell has taken what it knows; what none of them does is a slip.
        fields.check(content.get("model", {}), ChainMap(*(run.shape.kinds for run in runs)), "model.")
        names = [run.name for run in runs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise GlowkitError(f"two runs have the name {min(twice)}")
        for run in runs:
            if run.start and run.start not in [other.name for other in runs if not other.start]:
                raise GlowkitError(f"{run.name}: it starts from {run.start}, which is no run from the beginning")
    except GlowkitError as error:
        raise GlowkitError(f"{path}: {error}") from None
    return Plan(path, content["judges"], content["rows"], content["study"], content["faces"], each, runs)


def _runs(content: dict[str, Any], cell: Any, where: str) -> list[Run]:
    fields.check(cell, CELL, where, required=("name", "seeds"))
    if not re.fullmatch(r"\w[\w.-]*", cell["name"]):  # it is that of a folder and of a file
        raise GlowkitError(f"{where}name = {cell['name']!r}: it must be letters, digits, '-', '_' and '.'")
    shape = checkpoint.KINDS[cell.get("kind", "glow")].config
    shared = {key: value for key, value in content.get("model", {}).items() if key in shape.kinds}
    model = shared | cell.get("model", {})
    training = content.get("training", {}) | cell.get("training", {})
    fields.check(model, shape.kinds, f"{where}model.")
    fields.check(training, SETTINGS, f"{where}training.")
    seeds = fields.Whole(0, fields.SEED)
    if not cell["seeds"] or any(seeds.wants(seed) for seed in cell["seeds"]):
        raise GlowkitError(f"{where}seeds = {cell['seeds']}: it must be a list of whole numbers")
    start, made = cell.get("start"), shape(**model)
    if start and shape is LinearConfig:
        raise GlowkitError(f"{where}start = {start!r}: a linear flow starts from nothing")
    return [
        Run(
            cell["name"], seed, cell.get("data", content["data"]), made, Settings(**training, seed=seed),
            cell.get("images", 10**6), start and name_of(start, seed),
        )
        for seed in cell["seeds"]
    ]  # fmt: skip
