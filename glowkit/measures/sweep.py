"""Every attribute added to faces and removed from them, step by step: what two judges, the eye and the truth say.

The table behind all rows on success. Latent arithmetic in both encodings stands beside pixel arithmetic, which is what
edits in a linear flow are too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import affine, edits
from glowkit.files import sealed, sealing
from glowkit.measures.stage import PIXEL, Stage, once
from glowkit.study import CENTRES, NOISE

SPACES = (NOISE, CENTRES, PIXEL)
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Edits:
    """One attribute added to (`wanted`) or removed from n faces, in one space, at K steps `alphas`, the first 0.

    seen[judge] (2, K, n) bool: the judge sees what was wanted, in a picture that is finite. true (2, n) bool: it sees
    it in the true counterfactual; of photographs, (2, 0). error (K, n): root mean square error to that truth; passes
    (K, n) bool: the picture passes as one face; aside (2, K, n): mean absolute change of the judge's probabilities of
    all other attributes; leak (2, A): mean change of its log-odds at alpha 1. rows (n,) of the stage, people (n,).
    """

    attribute: str
    wanted: bool
    space: str
    rows: np.ndarray
    people: np.ndarray
    seen: np.ndarray
    true: np.ndarray
    error: np.ndarray
    passes: np.ndarray
    aside: np.ndarray
    leak: np.ndarray

    def at(self, alpha: float) -> int:
        """Which of the steps it is."""
        return ALPHAS.index(alpha)


# What of Edits is kept in a file.
FIELDS = ("rows", "people", "seen", "true", "error", "passes", "aside", "leak")


def edit(stage: Stage, attribute: str, wanted: bool, space: str, among: np.ndarray | None = None) -> Edits:
    """Runs one edit, of the faces `among` bool (m,) or of all; removal only at alpha 1 (the other steps are NaN and
    False)."""
    calling = stage.has(attribute) != wanted
    rows = stage.faces(calling if among is None else calling & among, stage.each[space])
    steps, sign = (ALPHAS, 1) if wanted else ((0.0, 1.0), -1)
    pictures = {alpha: partial(edited, stage, rows, attribute, sign * alpha, space) for alpha in steps}
    return follow(stage, attribute, wanted, space, rows, pictures)


def follow(
    stage: Stage,
    attribute: str,
    wanted: bool,
    space: str,
    rows: np.ndarray,
    pictures: Mapping[float, Callable[[], Tensor]],
) -> Edits:
    """What becomes of faces `rows` (n,) of the stage; pictures[alpha]() are they at that step, the first of them 0."""
    others = np.array([name != attribute for name in stage.attributes])
    known = [[judge.attributes.index(name) for name in stage.attributes] for judge in stage.judges]
    k, n = stage.attributes.index(attribute), len(rows)
    seen = np.zeros((2, len(ALPHAS), n), bool)
    passes, error, aside = seen[0].copy(), np.full((len(ALPHAS), n), np.nan), np.full(seen.shape, np.nan)
    leak = np.zeros((2, len(stage.attributes)))
    truth = stage.truth(rows, attribute, wanted) if stage.drawn and n else None
    before = None
    for alpha, picture in pictures.items() if n else ():
        x = picture()
        at, ok = ALPHAS.index(alpha), edits.finite(x)
        logits = [judged(judge, x)[:, columns] for judge, columns in zip(stage.judges, known, strict=True)]
        before = before or logits
        for j in range(2):
            seen[j, at] = ((logits[j][:, k] > 0) == wanted) & ok
            change = expit(logits[j]) - expit(before[j])
            aside[j, at] = np.abs(change[:, others]).mean(1)
            if alpha == 1:
                leak[j] = (logits[j] - before[j]).mean(0)
        passes[at] = stage.looks.passes(x)
        if truth is not None:
            error[at] = edits.rms_error(stage.flow, x, truth)
    true = np.zeros((2, 0), bool)
    if truth is not None:
        true = np.stack([judge.says(truth, attribute) == wanted for judge in stage.judges])
    return Edits(attribute, wanted, space, rows, stage.people[rows], seen, true, error, passes, aside, leak)


def edited(stage: Stage, rows: np.ndarray, attribute: str, step: float, space: str) -> Tensor:
    """Pictures (n, 3, H, W) of faces moved by so many of the attribute's directions, in latents or in pixels."""
    if step == 0:
        return stage.flow.quantise(stage.pixels(rows))
    if space == PIXEL:
        return affine.add_to_pixels(stage.pixels(rows), stage.study.pixel_direction(attribute), step)
    direction = stage.study.direction(attribute, space)
    return stage.decode(affine.add(stage.z[space][rows], direction, step))


@torch.no_grad()
def judged(judge, x: Tensor) -> np.ndarray:
    """Log-odds (n, A); a pixel that is not finite counts as black."""
    return torch.cat([judge.logits(part.nan_to_num(0.0)) for part in x.split(256)]).cpu().double().numpy()


@once
def sweep(stage: Stage) -> dict[tuple[str, bool, str], Edits]:
    """All edits by (attribute, wanted, space)."""
    found = {}
    todo = list(plan(stage))
    with tqdm(todo, "edits", unit="attribute") as bar:
        for attribute, wanted, space in bar:
            bar.set_postfix_str(f"{attribute} {space}")
            found[attribute, wanted, space] = swept(stage, attribute, wanted, space)
    return found


def swept(stage: Stage, attribute: str, wanted: bool, space: str) -> Edits:
    """One edit of the sweep. It is kept in the stage's folder when done, and read from there."""
    path = stage.folder / "edits" / f"{attribute}-{'add' if wanted else 'remove'}-{space}.npz"
    return kept_edits(path, attribute, wanted, space, partial(edit, stage, attribute, wanted, space))


def kept_edits(path: Path, attribute: str, wanted: bool, space: str, make: Callable[[], Edits]) -> Edits:
    """What `make` returns, from the file at `path`: made and written first if there is none that is whole."""
    if sealed(path):
        arrays = np.load(path, allow_pickle=False)
        return Edits(attribute, wanted, space, **{key: arrays[key] for key in FIELDS})
    made = make()
    with sealing(path) as unfinished:
        np.savez_compressed(unfinished, **{key: getattr(made, key) for key in FIELDS})
    return made


def plan(stage: Stage) -> Iterator[tuple[str, bool, str]]:
    """What the sweep holds, in the order of its making."""
    for space in SPACES:
        for attribute in stage.attributes:
            yield from ((attribute, wanted, space) for wanted in (True, False))
