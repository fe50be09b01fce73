"""Values that come from a file or a user, checked before they are used: what there must be, of which kind, how large.

A kind says of a value None if it is right, else what would be right; `check` holds a table of values against a table
of kinds and tells the first fault in one line.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from glowkit.errors import GlowkitError

SEED = 2**32 - 1  # the largest: with a million streams each, they stay within the 64 bits of a generator


class Kind(Protocol):
    """What a value may be: `wants` returns None if it is right, else what would be right."""

    def wants(self, value: Any) -> str | None: ...


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]."""

    low: int
    high: int

    def wants(self, value: Any) -> str | None:
        # bool is an int to Python, but not to whoever writes true for a number.
        right = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return None if right else f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Real:
    """A finite number in [low, high]."""

    low: float
    high: float

    def wants(self, value: Any) -> str | None:
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high
        return None if right else f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def wants(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True)
class Text:
    """Text of at least one character."""

    def wants(self, value: Any) -> str | None:
        return None if isinstance(value, str) and value else "text"


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    options: tuple[str, ...]

    def wants(self, value: Any) -> str | None:
        right = isinstance(value, str) and value in self.options
        return None if right else f"one of {', '.join(self.options)}"


@dataclass(frozen=True)
class Names:
    """A list of different names, at least one and at most `most`."""

    most: int = 10_000

    def wants(self, value: Any) -> str | None:
        right = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
        right = right and len(set(value)) == len(value) and 0 < len(value) <= self.most
        return None if right else "a list of different names"


@dataclass(frozen=True)
class Table:
    """A table of further values."""

    def wants(self, value: Any) -> str | None:
        return None if isinstance(value, dict) else "a table"


@dataclass(frozen=True)
class List:
    """A list of values of any kind."""

    def wants(self, value: Any) -> str | None:
        return None if isinstance(value, list) else "a list"


def check(values: Any, kinds: Mapping[str, Kind], where: str, required: Iterable[str] = ()) -> None:
    """Raises GlowkitError, with `where` before it, for the first value that is not of its kind.

    Names that `kinds` has not are refused, and so is a table that lacks one that is `required`.
    """
    if not isinstance(values, Mapping):
        raise GlowkitError(f"{where.rstrip('.') or 'the whole'} must be a table with {', '.join(kinds)}")
    for name, value in values.items():
        if name not in kinds:
            raise GlowkitError(f"{where}{reprlib.repr(name)[1:-1]}: no such setting; there are {', '.join(kinds)}")
        if right := kinds[name].wants(value):
            raise GlowkitError(f"{where}{name} = {_short(value)}: it must be {right}")
    if missing := [name for name in required if name not in values]:
        raise GlowkitError(f"{where}{missing[0]} is missing")


def _short(value: Any) -> str:
    try:
        shown = reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        shown = "a number of thousands of digits"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError alone, whatever is wrong with it."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")
