"""Rows on other directions: is there a better one than the difference of means?

Every direction is as long as it takes to have the component of the mean difference along that difference, so that one
step of each is as much of the attribute; they are compared where they succeed equally often.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import affine, controlled
from glowkit.measured import Found, rounded
from glowkit.measures.rivals import LARGEST, LDA, TRAINING, VALIDATION, encoded, lines
from glowkit.measures.stage import Stage, once
from glowkit.measures.success import Table, at_equal_success
from glowkit.measures.sweep import ALPHAS, Edits, edited, follow, kept_edits, swept
from glowkit.study import NOISE

MEAN = "mean"
LOGISTIC = "logistic regression"
CHOOSING = 5
"""One more face chooses among directions for every so many that decide. Where fewer than CHOOSING * success.ENOUGH
decide (`Stage.each`), too few choose, and both rows stay open."""


class Comparison(NamedTuple):
    """choosing[name], each direction beside the mean difference on the choosing faces; which was `best` there; and
    `final`, that one on the other faces, by judge."""

    choosing: dict[str, Table]
    best: str
    final: list[Table]


def b10(stage: Stage) -> Found | None:
    """Error against the truth at equal success, the best other direction over the mean difference."""
    return _row(stage, "error") if stage.drawn else None


def b13(stage: Stage) -> Found | None:
    """Change of all other attributes at equal success, the best other direction over the mean difference."""
    return _row(stage, "aside")


def _row(stage: Stage, what: str) -> Found | None:
    compared = comparison(stage, what)
    if compared is None:
        return None
    first, second = (at_equal_success(table, what) for table in compared.final)
    if first[0] is None or second[0] is None:
        return None
    told_of = ("error", "aside") if stage.drawn else ("aside",)
    table = {name: {what: _ratio(table, what) for what in told_of} for name, table in compared.choosing.items()}
    told = ", ".join(f"{name} {ratios[what]:.2f}" for name, ratios in table.items() if ratios[what] is not None)
    return Found(
        first[0],
        f"{compared.best}, the best of those on {len(compared.choosing[compared.best].people):,} other edits, over the "
        f"mean difference; there: {told}",
        second=second[0],
        details=rounded({"choosing": table, "best": compared.best, "at_level": first[1]}),
    )


def _ratio(table: Table, what: str) -> float | None:
    found = at_equal_success(table, what)[0] if table.names else None
    return None if found is None else found.estimate


def comparison(stage: Stage, what: str) -> Comparison | None:
    """None where none of the other directions can be compared."""
    others = [name for name in all_directions(stage) if name != MEAN]
    with tqdm(others, "choosing", unit="direction") as bar:
        choosing = {name: Table(stage, _choosing(stage, name), 0) for name in bar}
    ratios = {name: ratio for name, table in choosing.items() if (ratio := _ratio(table, what)) is not None}
    if not ratios:
        return None
    best = min(ratios, key=ratios.get)
    with tqdm(stage.attributes, best, unit="attribute") as bar:
        pairs = [(_edits(stage, name, best, False), swept(stage, name, True, NOISE)) for name in bar]
    return Comparison(choosing, best, [Table(stage, pairs, judge) for judge in (0, 1)])


def _choosing(stage: Stage, direction: str) -> list[tuple[Edits, Edits]]:
    return [(_edits(stage, name, direction, True), _edits(stage, name, MEAN, True)) for name in stage.attributes]


def _edits(stage: Stage, attribute: str, direction: str, choosing: bool) -> Edits:
    """An attribute added along a direction, to the faces that choose or to those of the sweep."""
    k, n = stage.attributes.index(attribute), stage.each[NOISE]
    rows = stage.faces(~stage.has(attribute))
    rows = rows[n : n + n // CHOOSING] if choosing else rows[:n]
    line = all_directions(stage)[direction][k]
    pictures = {0.0: partial(edited, stage, rows, attribute, 0, NOISE)}
    pictures |= {alpha: partial(_moved, stage, rows, line, alpha) for alpha in ALPHAS[1:]}
    path = stage.folder / "edits" / f"{attribute}-{direction}-{'choosing' if choosing else 'final'}.npz"
    make = partial(follow, stage, attribute, True, NOISE, rows, pictures)
    return kept_edits(path, attribute, True, NOISE, make)


def _moved(stage: Stage, rows: np.ndarray, line: Tensor, alpha: float) -> Tensor:
    return stage.decode(affine.add(stage.z[NOISE][rows], line, alpha))


@once
def all_directions(stage: Stage) -> dict[str, Tensor]:
    """By name, directions (A, D) of all attributes, scaled as the module says; "mean" is the difference of means."""
    names, levels = stage.attributes, stage.flow.level_slices
    found = {
        kind: np.stack([controlled.direction(kind, stage.study, name, levels) for name in names])
        for kind in controlled.DIRECTIONS
    }
    if stage.flow.dim <= LARGEST:
        training, validation = encoded(stage, "train", TRAINING), encoded(stage, "valid", VALIDATION)
        told = [k for k in range(len(names)) if all(0 < p.labels[:, k].mean() < 1 for p in (training, validation))]
        labels = training.labels[:, told], validation.labels[:, told]
        fitted = lines(training.z, validation.z, *labels, (LDA, LOGISTIC))
        for name in (LDA, LOGISTIC):
            # An attribute that the images cannot tell of has the mean difference here too.
            found[name] = found[MEAN].copy()
            found[name][told] = controlled.scaled(fitted[name][1].T.numpy(), found[MEAN][told])
    return {name: torch.from_numpy(line) for name, line in found.items()}


ROWS = {"B10": b10, "B13": b13}
