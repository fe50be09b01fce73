"""The parameters of a chapter: declared in its first cells, checked before anything runs.

papermill assigns whatever `-p NAME VALUE` says in a cell of its own, after the chapter's defaults. A misspelt
name would be a silent no-op there and a wrong type an error somewhere in the middle of the chapter. So every
chapter declares its parameters, by the kinds of `glowkit.fields` and those below, and `check` holds them to it:

    parameters.check(globals(), model=Model(), attribute=Attribute(model), alpha=Real(0, 4))
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch

from glowkit.book import figures
from glowkit.checkpoint import folder_of
from glowkit.errors import GlowkitError
from glowkit.fields import Flag, Kind, OneOf, Real, Whole  # noqa: F401 (what chapters declare)
from glowkit.files import expanded
from glowkit.study import open_study

# The first line of the cell that papermill inserts, and what it adds there by itself under --inject-paths.
INJECTED = "# Parameters"
PATHS = {"PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}


@dataclass(frozen=True)
class Folder:
    """The path of a folder, or "" for none."""

    def wants(self, value: Any) -> str | None:
        right = isinstance(value, str) and (value == "" or expanded(value).is_dir())
        return None if right else 'the path of a folder, or "" for none'


@dataclass(frozen=True)
class Model:
    """The name of a bundled model, or the path of a model's folder."""

    def wants(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return "the name of a bundled model or the path of a model's folder"
        folder_of(value)  # raises, with the names there are
        return None


@dataclass(frozen=True)
class Attribute:
    """An attribute of the study of a model."""

    model: str

    def wants(self, value: Any) -> str | None:
        names = open_study(self.model).attributes
        return None if value in names else "one of " + ", ".join(names)


def check(values: Mapping[str, Any], **declared: Kind) -> None:
    """Check a chapter's parameters, then set up what every chapter shares: figure style and seed.

    values: the chapter's `globals()`; declared: name = what it may be, `model` first where there is one.
    Raises GlowkitError, in one line, for a name that no chapter parameter has, for one that is missing, and
    for a value of the wrong type or out of range.
    """
    for name in _injected(values):
        if name not in {*declared, *PATHS}:
            near = get_close_matches(name, declared, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise GlowkitError(f"unknown parameter {name}{hint}: this chapter has {', '.join(declared) or 'none'}")
    for name, kind in declared.items():
        if name not in values:
            raise GlowkitError(f"parameter {name} is missing: give it a value in the parameters cell")
        right = kind.wants(values[name])
        if right is not None:
            raise GlowkitError(f"parameter {name} is {values[name]!r}: it must be {right}")
    figures.use_style()
    torch.manual_seed(0)


def _injected(values: Mapping[str, Any]) -> list[str]:
    """Names assigned by the cell that papermill inserted, if any: IPython keeps every cell's source in
    `In`."""
    cells = [source for source in values.get("In", []) if source.startswith(INJECTED)]
    statements = ast.parse(cells[-1]).body if cells else []
    return [t.id for s in statements if isinstance(s, ast.Assign) for t in s.targets if isinstance(t, ast.Name)]
