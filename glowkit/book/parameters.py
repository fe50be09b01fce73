"""The parameters of a chapter: declared in its first cells, checked before anything runs.

papermill assigns whatever `-p NAME VALUE` says in a cell of its own, after the chapter's defaults. A misspelt
name would be a silent no-op there and a wrong type an error somewhere in the middle of the chapter. So every
chapter declares its parameters and `parameters` checks them:

    chapter.parameters(globals(), model=Model(), attribute=Attribute(), alpha=Number(0, 4))
"""

from __future__ import annotations

import ast
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import torch

from glowkit.book import figures
from glowkit.checkpoint import folder_of
from glowkit.errors import GlowkitError
from glowkit.study import open_study

# The first line of the cell that papermill inserts.
INJECTED = "# Parameters"


class Kind(Protocol):
    """What a parameter may be: `check` returns None if the value is right, else what would be right."""

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None: ...


@dataclass(frozen=True)
class Number:
    """A finite real number in [low, high]."""

    low: float
    high: float

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        # bool is an int to Python, but `-p alpha True` is a slip, not a one.
        right = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        return None if right and self.low <= value <= self.high else f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        right = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return None if right and self.low <= value <= self.high else f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        return None if isinstance(value, bool) else "True or False"


@dataclass(frozen=True)
class Choice:
    """One of the given options."""

    options: tuple[Any, ...]

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        right = any(value == option and type(value) is type(option) for option in self.options)
        return None if right else "one of " + ", ".join(map(str, self.options))


@dataclass(frozen=True)
class Folder:
    """The path of a folder, or "" for none."""

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        right = isinstance(value, str) and (value == "" or Path(value).is_dir())
        return None if right else 'the path of a folder, or "" for none'


@dataclass(frozen=True)
class Model:
    """The name of a bundled model, or the path of a model's folder."""

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        if not isinstance(value, str):
            return "the name of a bundled model or the path of a model's folder"
        folder_of(value)  # raises, with the names there are
        return None


@dataclass(frozen=True)
class Attribute:
    """An attribute of the study of the chapter's `model`."""

    def check(self, value: Any, values: Mapping[str, Any]) -> str | None:
        names = open_study(values["model"]).attributes
        return None if value in names else "one of " + ", ".join(names)


def check(values: Mapping[str, Any], **declared: Kind) -> None:
    """Check a chapter's parameters, then set up what every chapter shares: figure style and seed.

    values: the chapter's `globals()`; declared: name = what it may be, `model` first where there is one.
    Raises GlowkitError, in one line, for a name that no chapter parameter has, for one that is missing, and
    for a value of the wrong type or out of range.
    """
    for name in _injected(values):
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise GlowkitError(f"unknown parameter {name}{hint}: this chapter has {', '.join(declared) or 'none'}")
    for name, kind in declared.items():
        if name not in values:
            raise GlowkitError(f"parameter {name} is missing: give it a value in the parameters cell")
        right = kind.check(values[name], values)
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
