"""Rows on the success of edits: does adding work, where, how far from the truth, and what else changes?

All of them read the sweep. Success counts as a share of the ceiling, what the judge sees in the true counterfactuals of
the same faces, or, of photographs, in held-out ones that have the attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from scipy import stats

from glowkit import heuristics, intervals
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate
from glowkit.judge import Judge
from glowkit.measured import Found, rounded
from glowkit.measures.projections import known
from glowkit.measures.stage import PIXEL, Stage, once
from glowkit.measures.sweep import ALPHAS, Edits, edit, sweep
from glowkit.study import CENTRES, NOISE

LEAST_CEILING = 0.2
"""An attribute of which a judge sees fewer true counterfactuals cannot be judged by it."""
LEVEL = 0.75
"""The share of the ceiling at which edits are compared: judged equally often to have succeeded."""
ENOUGH = 5
"""Faces that an attribute needs, to be one of those averaged; and attributes that a mean over them needs."""


def c16(stage: Stage) -> Found | None:
    """Success at alpha 1 in latent space less that in pixels."""
    if not _can_be_judged(stage):
        return None

    def gain(space: str, judge: int) -> Estimate:
        table = _adding(stage, space, judge)
        one = ALPHAS.index(1.0)
        return table.estimate(
            lambda mean: (mean[0] - mean[1]) / mean[2], [table.seen[one], table.other_seen[one], table.true]
        )

    table = _adding(stage, NOISE, 0)
    one, names = ALPHAS.index(1.0), table.names
    shares = {
        "latent": table.means(table.seen[one]),
        "pixel": table.means(table.other_seen[one]),
        "unedited": table.means(table.seen[0]),
        "ceiling": table.means(table.true),
    }
    whole = {key: float(np.mean(value / shares["ceiling"])) for key, value in shares.items()}
    return Found(
        gain(NOISE, 0),
        f"{len(names)} attributes; mean share of the ceiling: latent {whole['latent']:.2f}, pixels, which a linear "
        f"flow's edits are too, {whole['pixel']:.2f}, unedited {whole['unedited']:.2f}; mean ceiling "
        f"{shares['ceiling'].mean():.2f}",
        second=gain(NOISE, 1),
        centres=gain(CENTRES, 0),
        details={"attributes": names, **{key: rounded(value) for key, value in shares.items()}},
    )


def c18(stage: Stage) -> Found | None:
    """Success at the best alpha of matched realism, chosen on other people, less success at alpha 1."""
    if not _can_be_judged(stage):
        return None

    def gain(space: str, judge: int) -> tuple[Estimate, list[float], float]:
        table = _adding(stage, space, judge)
        one, half = ALPHAS.index(1.0), _halves(table.people)
        gained, chosen = np.zeros(len(half)), np.zeros(len(half))
        for a in range(len(table.names)):
            for h in (False, True):
                learn, score = (table.attribute == a) & (half != h), (table.attribute == a) & (half == h)
                if not learn.any():
                    continue
                alike = table.passes[:, learn].mean(1) >= table.passes[one, learn].mean() - 0.05
                best = int(np.where(alike, table.seen[:, learn].mean(1), -1).argmax())
                gained[score] = table.seen[best, score].astype(float) - table.seen[one, score]
                chosen[score] = ALPHAS[best]
        return (
            table.estimate(lambda mean: mean[0], [gained]),
            rounded(table.means(chosen)),
            float(table.means(table.seen[one]).mean()),
        )

    first, alphas, at_one = gain(NOISE, 0)
    table = _adding(stage, NOISE, 0)
    curves = {
        "success": [rounded(table.means(row)) for row in table.seen],
        "passes": [rounded(table.means(row)) for row in table.passes],
        "pixel": [rounded(table.means(row)) for row in table.other_seen],
    }
    return Found(
        first,
        f"mean success at alpha 1: {at_one:.2f}; mean of the chosen alphas: {np.mean(alphas):.2f}",
        second=gain(NOISE, 1)[0],
        centres=gain(CENTRES, 0)[0],
        details={"alphas": list(ALPHAS), "attributes": table.names, "chosen": alphas, **curves},
    )


def b02(stage: Stage) -> Found | None:
    """Error against the true counterfactual at equal judged success, latent over pixel arithmetic."""
    if not stage.drawn or not _can_be_judged(stage):
        return None
    found = {key: at_equal_success(_adding(stage, *key), "error") for key in ((NOISE, 0), (NOISE, 1), (CENTRES, 0))}
    if any(ratio is None for ratio, _ in found.values()):
        return None
    table = _adding(stage, NOISE, 0)
    details = _curves(table) | {
        "at_level": {name: rounded(pair) for name, pair in found[NOISE, 0][1].items()},
        "error": {
            key: [rounded(table.means(row)) for row in rows]
            for key, rows in (("latent", table.error), ("pixel", table.other_error))
        },
    }
    idle = table.means(table.error[0])
    one = ALPHAS.index(1.0)
    return Found(
        found[NOISE, 0][0],
        f"{len(found[NOISE, 0][1])} of {len(table.names)} attributes reach {LEVEL:.0%} of the ceiling both ways; error "
        f"over that of doing nothing at alpha 1, mean over all: latent "
        f"{np.mean(table.means(table.error[one]) / idle):.2f}, pixels "
        f"{np.mean(table.means(table.other_error[one]) / idle):.2f}",
        second=found[NOISE, 1][0],
        centres=found[CENTRES, 0][0],
        details=details,
    )


def b12(stage: Stage) -> Found | None:
    """Change of what the judge sees of all other attributes, at equal judged success, latent over pixel arithmetic."""
    if not _can_be_judged(stage):
        return None
    found = {key: at_equal_success(_adding(stage, *key), "aside") for key in ((NOISE, 0), (NOISE, 1), (CENTRES, 0))}
    if any(ratio is None for ratio, _ in found.values()):
        return None
    pairs = found[NOISE, 0][1]
    means = np.exp(np.mean(np.log(list(pairs.values())), axis=0))
    return Found(
        found[NOISE, 0][0],
        f"{len(pairs)} attributes reach {LEVEL:.0%} of the ceiling both ways; mean change of probability: latent "
        f"{means[0]:.3f}, pixels {means[1]:.3f}",
        second=found[NOISE, 1][0],
        centres=found[CENTRES, 0][0],
        details={"at_level": {name: rounded(pair) for name, pair in pairs.items()}},
    )


def b04(stage: Stage) -> Found | None:
    """Rank correlation of leakage with label correlation, less that with shuffled columns."""
    told = known(stage)
    if len(told) < ENOUGH:
        return None
    names = [stage.attributes[k] for k in told]
    correlation = np.corrcoef(stage.labels[:, told].T.astype(float))
    off = ~np.eye(len(names), dtype=bool)
    rows, columns = np.nonzero(off)
    rng = np.random.default_rng(0)

    def rank(leak: np.ndarray, labels: np.ndarray) -> float:
        return stats.spearmanr(leak, labels).statistic

    def found(space: str, judge: int) -> tuple[Estimate, np.ndarray, float]:
        leak = np.stack([sweep(stage)[name, True, space].leak[judge][told] for name in names])
        by_chance = np.mean([rank(leak[:, rng.permutation(len(names))][off], correlation[off]) for _ in range(20)])
        whole = intervals.two_way(rank, leak[off], correlation[off], rows=rows, columns=columns, resamples=400)
        low, high = whole.ci
        return Estimate(whole.estimate - by_chance, (low - by_chance, high - by_chance), whole.n), leak, by_chance

    first, leak, by_chance = found(NOISE, 0)
    pixel = found(PIXEL, 0)[0]
    return Found(
        first,
        f"columns shuffled: {by_chance:.2f}; pixel arithmetic {pixel.estimate:.2f}",
        second=found(NOISE, 1)[0],
        centres=found(CENTRES, 0)[0],
        details={
            "attributes": names,
            "leak": [rounded(row) for row in leak],
            "correlation": [rounded(row) for row in correlation],
        },
    )


def c33(stage: Stage) -> Found:
    """Rank correlation of the success of adding with locality."""
    sheet = _sheet(stage)
    found = _ranked(stage, 1 - sheet.support)
    half = sheet.support <= np.median(sheet.support)
    success = _success(stage, NOISE, 0, True)
    known = np.isfinite(success)
    return Found(
        *found[:1],
        f"mean share of the ceiling, the more local half of attributes {success[half & known].mean():.2f}, the other "
        f"half {success[~half & known].mean():.2f}; pixel arithmetic {_rank_with(stage, PIXEL, 1 - sheet.support)}",
        *found[1:],
        details={
            "attributes": stage.attributes,
            "support": rounded(sheet.support),
            "spread": rounded(sheet.spread[:, 0]),
            "spread_without": rounded(sheet.spread[:, 1]),
            "count": sheet.count[:, 0].tolist(),
            "added": rounded(success),
            "removed": rounded(_success(stage, NOISE, 0, False)),
        },
    )


def c34(stage: Stage) -> Found:
    """Rank correlation of the success of adding with the spread within the class."""
    sheet = _sheet(stage)
    found = _ranked(stage, sheet.spread[:, 0])
    removing = _ranked(stage, sheet.spread[:, 1], wanted=False)[0]
    both = _rank(sheet.spread[:, 0], sheet.support)
    return Found(
        *found[:1],
        f"removing against the spread of the class without the attribute {removing.estimate:.2f}; spread and support "
        f"themselves {both}; pixel arithmetic {_rank_with(stage, PIXEL, sheet.spread[:, 0])}",
        *found[1:],
    )


def c36(stage: Stage, attribute: str = "Eyeglasses") -> Found | None:
    """Success of removing eyeglasses less success of adding them."""
    if attribute not in stage.attributes:
        return None
    edits = {
        space: [sweep(stage)[attribute, wanted, space] for wanted in (False, True)] for space in (NOISE, CENTRES, PIXEL)
    }
    found = [_difference(stage, *edits[space], judge) for space, judge in ((NOISE, 0), (NOISE, 1), (CENTRES, 0))]
    shares = [_share(stage, one, 0) for one in edits[NOISE]]
    return Found(
        found[0],
        f"share of the ceiling: removed {shares[0]:.2f}, added {shares[1]:.2f}; removing less adding, pixel arithmetic "
        f"{_difference(stage, *edits[PIXEL], 0).estimate:.2f}; mean over all attributes "
        f"{np.nanmean(_success(stage, NOISE, 0, False) - _success(stage, NOISE, 0, True)):.2f}",
        *found[1:],
    )


def c38(stage: Stage) -> Found | None:
    """Success of adding a mustache to women less success of adding eyeglasses."""
    if not {"Mustache", "Eyeglasses", "Male"} <= set(stage.attributes):
        return None
    sexes = {}
    for who, among in (("women", ~stage.has("Male")), ("men", stage.has("Male"))):
        sexes[who] = {space: edit(stage, "Mustache", True, space, among) for space in (NOISE, CENTRES)}
    glasses = {space: sweep(stage)["Eyeglasses", True, space] for space in (NOISE, CENTRES)}
    found = [
        _difference(stage, sexes["women"][space], glasses[space], judge)
        for space, judge in ((NOISE, 0), (NOISE, 1), (CENTRES, 0))
    ]
    shares = {who: _share(stage, edits[NOISE], 0) for who, edits in sexes.items()}
    seen = {who: intervals.share(edits[NOISE].seen[0, ALPHAS.index(1.0)]) for who, edits in sexes.items()}
    ceiling = _ceiling(stage, sexes["women"][NOISE], 0).mean()
    return Found(
        found[0],
        f"share of the ceiling: eyeglasses {_share(stage, glasses[NOISE], 0):.2f}; mustache, women "
        f"{shares['women']:.2f}, men {shares['men']:.2f}; seen in women {seen['women']} at a ceiling of {ceiling:.2f}",
        *found[1:],
    )


def c40(stage: Stage, wanted: bool) -> Found:
    """Rank correlation of measured success with what the sheet predicts from the other attributes."""
    sheet = _sheet(stage)
    column = 0 if wanted else 1
    features = np.log(np.stack([sheet.support, sheet.spread[:, column], sheet.count[:, column]], 1))

    def predicted(space: str, judge: int) -> tuple[Estimate, np.ndarray, np.ndarray]:
        success = _success(stage, space, judge, wanted)
        known = np.flatnonzero(np.isfinite(success))
        foretold = heuristics.foretold(features[known], success[known], known)
        return intervals.spearman(foretold, success[known]), foretold, known

    first, foretold, known = predicted(NOISE, 0)
    success = _success(stage, NOISE, 0, wanted)[known]
    alone = {
        name: _rank(heuristics.foretold(features[known][:, [k]], success, known), success)
        for k, name in enumerate(("support", "spread", "count"))
    }
    rng = np.random.default_rng(0)
    chance = [
        stats.spearmanr(heuristics.foretold(features[rng.permutation(known)], success, known), success).statistic
        for _ in range(50)
    ]
    return Found(
        first,
        f"with the three numbers of random other attributes {np.mean(chance):.2f} (s.d. {np.std(chance):.2f}); from "
        "one number alone: " + ", ".join(f"{name} {value}" for name, value in alone.items()),
        second=predicted(NOISE, 1)[0],
        centres=predicted(CENTRES, 0)[0],
        details={
            "attributes": [stage.attributes[k] for k in known],
            "foretold": rounded(foretold),
            "success": rounded(success),
        },
    )


# ------------------------------------------------------------------------------------------ averages over attributes


class Table:
    """The adding of all attributes that can be judged, beside another way of adding them to the same faces (pixel
    arithmetic, mostly), as one of the judges sees it; one column a face.

    attribute (N,), which of `names`; people (N,); seen, other_seen, passes, error, other_error, aside, other_aside
    (K, N); true (N,), the ceiling.
    """

    def __init__(self, stage: Stage, pairs: Iterable[tuple[Edits, Edits]], judge: int) -> None:
        edits = [
            (here, other, len(here.rows))
            for here, other in pairs
            if len(here.rows) >= ENOUGH and _ceiling(stage, here, judge).mean() >= LEAST_CEILING
        ]
        self.names = [here.attribute for here, _, _ in edits]
        if not edits:
            return
        self.attribute = np.repeat(np.arange(len(edits)), [n for _, _, n in edits])
        self.people = np.concatenate([here.people for here, _, _ in edits])
        self.seen = np.concatenate([here.seen[judge] for here, _, _ in edits], 1)
        self.other_seen = np.concatenate([other.seen[judge][:, :n] for _, other, n in edits], 1)
        self.passes = np.concatenate([here.passes for here, _, _ in edits], 1)
        self.error = np.concatenate([here.error for here, _, _ in edits], 1)
        self.other_error = np.concatenate([other.error[:, :n] for _, other, n in edits], 1)
        self.aside = np.concatenate([here.aside[judge] for here, _, _ in edits], 1)
        self.other_aside = np.concatenate([other.aside[judge][:, :n] for _, other, n in edits], 1)
        self.true = np.concatenate([_ceiling(stage, here, judge) for here, _, _ in edits])
        self.weight = 1 / np.bincount(self.attribute)[self.attribute]

    def means(self, values: np.ndarray) -> np.ndarray:
        """Of each attribute, from values (N,)."""
        return np.bincount(self.attribute, values * self.weight)

    def estimate(self, of: Callable[[np.ndarray], np.ndarray], columns: Sequence[np.ndarray]) -> Estimate:
        """The mean over attributes of what `of` makes of their means (C, A) of the columns (N,): attributes resampled,
        and within them people. An attribute of which it is NaN is left out. GlowkitError if so few are left that a
        resample may hold none.
        """

        def statistic(attribute: np.ndarray, weight: np.ndarray, *columns: np.ndarray) -> float:
            times = np.bincount(attribute, weight, minlength=len(self.names))
            there = times > 0
            sums = np.stack([np.bincount(attribute, weight * c, minlength=len(self.names))[there] for c in columns])
            with np.errstate(invalid="ignore", divide="ignore"):
                values = of(sums / times[there])
            known = np.isfinite(values)
            return float(np.average(values[known], weights=times[there][known])) if known.any() else float("nan")

        return intervals.hierarchical(
            statistic, self.attribute, self.weight, *map(np.asarray, columns), outer=self.attribute, inner=self.people
        )


@once
def _adding(stage: Stage, space: str, judge: int) -> Table:
    made = sweep(stage)
    return Table(stage, [(made[name, True, space], made[name, True, PIXEL]) for name in stage.attributes], judge)


def _can_be_judged(stage: Stage) -> bool:
    """Whether there are attributes enough for a mean, in each encoding and with each judge."""
    return all(len(_adding(stage, space, judge).names) >= ENOUGH for space in (NOISE, CENTRES) for judge in (0, 1))


def at_equal_success(table: Table, what: str) -> tuple[Estimate | None, dict[str, tuple[float, float]]]:
    """Geometric mean over attributes of the ratio of `what`, "error" or "aside", of the first way over the other, where
    success is LEVEL of the ceiling; and both for each attribute that gets there both ways. If there are too few of
    those for a mean with an interval, none."""
    k = len(ALPHAS)
    ours, theirs = getattr(table, what), getattr(table, f"other_{what}")
    columns = [*table.seen, *table.other_seen, *ours, *theirs, table.true]

    def both(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = LEVEL * means[-1]
        seen, other_seen, mine, other = (means[j * k : (j + 1) * k] for j in range(4))
        return at_level(seen, mine, level), at_level(other_seen, other, level)

    whole = both(np.stack([table.means(column) for column in columns]))
    reached = {name: (float(a), float(b)) for name, a, b in zip(table.names, *whole, strict=True) if np.isfinite(a * b)}

    if len(reached) < ENOUGH:
        return None, reached

    def log_ratio(means: np.ndarray) -> np.ndarray:
        latent, pixel = both(means)
        return np.log(latent / pixel)

    try:
        found = table.estimate(log_ratio, columns)
    except GlowkitError:
        return None, reached
    return Estimate(float(np.exp(found.estimate)), tuple(map(float, np.exp(found.ci))), len(reached)), reached


def at_level(success: np.ndarray, values: np.ndarray, level: np.ndarray) -> np.ndarray:
    """(A,): values (K, A) where success (K, A) first rises to the level (A,), between the steps along straight lines.

    NaN where it never does, or is there before the first step.
    """
    found = np.full(success.shape[1], np.nan)
    for a in range(success.shape[1]):
        above = np.flatnonzero(success[:, a] >= level[a])
        if len(above) and (k := above[0]) > 0:
            part = (level[a] - success[k - 1, a]) / (success[k, a] - success[k - 1, a])
            found[a] = values[k - 1, a] + part * (values[k, a] - values[k - 1, a])
    return found


def _curves(table: Table) -> dict:
    return {
        "alphas": list(ALPHAS),
        "attributes": table.names,
        "ceiling": rounded(table.means(table.true)),
        "success": {
            key: [rounded(table.means(row)) for row in rows]
            for key, rows in (("latent", table.seen), ("pixel", table.other_seen))
        },
    }


# ------------------------------------------------------------------------------------------------------- ceilings


def _ceiling(stage: Stage, edits: Edits, judge: int) -> np.ndarray:
    """(n,): of each of the edit's faces, whether the judge sees the true counterfactual; of photographs, in which share
    of those that are what is wanted it sees so."""
    if edits.true.shape[1]:
        return edits.true[judge].astype(float)
    right = _right(stage, stage.judges[judge])[stage.attributes.index(edits.attribute)]
    return np.full(len(edits.rows), right[0 if edits.wanted else 1])


@once
def _right(stage: Stage, judge: Judge) -> np.ndarray:
    """(A, 2): sensitivity and specificity of a judge on the stage's own pictures."""
    seen = torch.cat([judge(part) for part in stage.x.split(500)]).cpu().numpy() > 0.5
    found = []
    for name in stage.attributes:
        has, said = stage.has(name), seen[:, judge.attributes.index(name)]
        found.append((said[has].mean() if has.any() else 0.0, (~said[~has]).mean() if (~has).any() else 0.0))
    return np.array(found)


def _share(stage: Stage, edits: Edits, judge: int) -> float:
    """Success at alpha 1 as a share of the ceiling."""
    return float(edits.seen[judge, edits.at(1.0)].mean() / _ceiling(stage, edits, judge).mean())


def _success(stage: Stage, space: str, judge: int, wanted: bool) -> np.ndarray:
    """(A,): `_share` of all attributes; NaN of those that cannot be judged."""
    found = np.full(len(stage.attributes), np.nan)
    for k, name in enumerate(stage.attributes):
        edits = sweep(stage)[name, wanted, space]
        if len(edits.rows) >= ENOUGH and _ceiling(stage, edits, judge).mean() >= LEAST_CEILING:
            found[k] = _share(stage, edits, judge)
    return found


def _difference(stage: Stage, first: Edits, second: Edits, judge: int) -> Estimate:
    """`_share` of the first less that of the second, over people."""
    which = np.repeat([0, 1], [len(first.rows), len(second.rows)])
    seen = np.concatenate([edits.seen[judge, edits.at(1.0)] for edits in (first, second)])
    true = np.concatenate([_ceiling(stage, edits, judge) for edits in (first, second)])

    def difference(which: np.ndarray, seen: np.ndarray, true: np.ndarray) -> float:
        shares = [seen[which == k].mean() / max(true[which == k].mean(), 1e-3) for k in (0, 1)]
        return float(shares[0] - shares[1])

    return intervals.bootstrap(difference, which, seen, true, groups=np.concatenate([first.people, second.people]))


# ----------------------------------------------------------------------------------------------------- cheat sheet


class _Sheet:
    """The three numbers of the cheat sheet of each attribute: support (A,); spread and count (A, 2) of the class with
    the attribute and of the one without it."""

    def __init__(self, stage: Stage) -> None:
        study, shape = stage.study, (3, stage.flow.image_size, stage.flow.image_size)
        names = stage.attributes
        plain = np.stack([study.pixel_direction(name) for name in study.attributes])
        columns = [study.attributes.index(name) for name in names]
        own = heuristics.partial_differences(plain, study.labels)[columns].reshape(-1, *shape)
        x = stage.pixels(np.arange(min(2000, len(stage.where)))).numpy()
        classes = [(stage.has(name)[: len(x)], ~stage.has(name)[: len(x)]) for name in names]
        self.support = np.array([heuristics.support(difference) for difference in own])
        self.spread = np.array([
            [heuristics.spread(x[member], difference) for member in pair]
            for pair, difference in zip(classes, own, strict=True)
        ])  # fmt: skip
        count = np.array([study.count(name) for name in names])
        self.count = np.stack([count, study.n - count], 1)


@once
def _sheet(stage: Stage) -> _Sheet:
    return _Sheet(stage)


def _ranked(stage: Stage, values: np.ndarray, wanted: bool = True) -> list[Estimate]:
    """Rank correlation of success with values (A,): with the first judge, with the second, at bin centres."""
    found = []
    for space, judge in ((NOISE, 0), (NOISE, 1), (CENTRES, 0)):
        success = _success(stage, space, judge, wanted)
        known = np.isfinite(success)
        found.append(intervals.spearman(success[known], values[known]))
    return found


def _rank_with(stage: Stage, space: str, values: np.ndarray) -> str:
    success = _success(stage, space, 0, True)
    known = np.isfinite(success)
    return _rank(success[known], values[known])


def _rank(x: np.ndarray, y: np.ndarray) -> str:
    """Spearman's rank correlation, in words."""
    if len(x) < 2 or (x == x[0]).all() or (y == y[0]).all():
        return "none (all are the same)"
    return f"{stats.spearmanr(x, y).statistic:.2f}"


def _halves(people: np.ndarray) -> np.ndarray:
    """bool (N,): which half each person is in."""
    return np.unique(people, return_inverse=True)[1] % 2 == 0


ROWS = {
    "C16": c16, "C18": c18, "C33": c33, "C34": c34, "C36": c36, "C38": c38,
    "C40-add": lambda stage: c40(stage, True), "C40-remove": lambda stage: c40(stage, False),
    "B02": b02, "B04": b04, "B12": b12,
}  # fmt: skip
