"""How often does each interval cover the truth? Nominal 95%, on data whose truth is known, at the n of the book.

A row is right from 93% to 97%. It may be above where the docstring says that the interval errs on the wide side:
of two people, of exact bounds, of resampling at two levels. It may not be below.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
from scipy import special

from glowkit import classifiers, gaussianity, intervals
from glowkit.intervals import Estimate

from .results import keep

Draw = Callable[[np.random.Generator], tuple[Estimate, float]]
LEAST = 0.93
RESAMPLES = 300


def people(rng: np.random.Generator, count: int, images: int) -> np.ndarray:
    """The person of each image: `images` a person on average, at least one."""
    return np.repeat(np.arange(count), 1 + rng.poisson(images - 1, count))


def alike(rng: np.random.Generator, person: np.ndarray, share: float, agreement: float) -> np.ndarray:
    """Hits of which a `share` is true; those of one person are correlated by `agreement`."""
    strength = 1 / agreement - 1
    chance = rng.beta(share * strength, (1 - share) * strength, person.max() + 1)
    return rng.random(len(person)) < chance[person]


def wilson(rng, n, share):
    return intervals.wilson(int(rng.binomial(n, share)), n), share


def share(rng, count, images, share, agreement):
    person = people(rng, count, images)
    return intervals.share(alike(rng, person, share, agreement), person), share


def mean(rng, count, images, law):
    person = people(rng, count, images)
    values = law(rng, count)[person] + rng.normal(size=len(person))
    return intervals.mean(values, person if images > 1 else None), 1.0


def pair(rng, count, images, shares, agreement):
    """Two sets of hits of the same images, each person's alike, and the two sets of one person too."""
    person = people(rng, count, images)
    both = rng.normal(size=count)[person] * math.sqrt(agreement)
    return person, [
        both + rng.normal(size=len(person)) * math.sqrt(1 - agreement) < special.ndtri(level) for level in shares
    ]


def paired_difference(rng, count, images, shares, agreement):
    person, hits = pair(rng, count, images, shares, agreement)
    return intervals.paired_difference(*hits, person), shares[0] - shares[1]


def paired_ratio(rng, count, images, shares, agreement):
    person, hits = pair(rng, count, images, shares, agreement)
    return intervals.paired_ratio(*hits, person), shares[0] / shares[1]


def share_difference(rng, n, shares):
    found = [intervals.wilson(int(rng.binomial(n, level)), n) for level in shares]
    return intervals.share_difference(*found), shares[0] - shares[1]


def correlated(rng, n, rho):
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def pearson(rng, n, rho):
    return intervals.pearson(*correlated(rng, n, rho)), rho


def spearman(rng, n, rho, copies=1):
    x, y = (np.repeat(values, copies) for values in correlated(rng, n, rho))
    return intervals.spearman(x, y, np.repeat(np.arange(n), copies)), 6 / math.pi * math.asin(rho / 2)


def bootstrap(rng, n, law, statistic, truth):
    return intervals.bootstrap(statistic, law(rng, n), resamples=RESAMPLES), truth


def rms_by_person(rng, count, images):
    person = people(rng, count, images)
    values = (rng.normal(size=count)[person] + rng.normal(size=len(person))) / math.sqrt(2)
    return intervals.bootstrap(rms, values, groups=person, resamples=RESAMPLES), 1.0


def hierarchical(rng, attributes, each, spread):
    """The mean success over attributes, whose shares are about 0.7."""
    strength = 0.7 * 0.3 / spread**2 - 1
    chance = rng.beta(0.7 * strength, 0.3 * strength, attributes)
    hits = rng.random((attributes, each)) < chance[:, None]
    outer = np.repeat(np.arange(attributes), each)
    return intervals.hierarchical(np.mean, hits.ravel(), outer=outer, resamples=RESAMPLES), 0.7


def two_way(rng, rows, columns, spread):
    """The mean of values that differ by row, by column and singly."""
    values = spread * (rng.normal(size=(rows, 1)) + rng.normal(size=columns)) + rng.normal(size=(rows, columns))
    row, column = np.indices(values.shape)
    found = intervals.two_way(np.mean, values.ravel(), rows=row.ravel(), columns=column.ravel(), resamples=RESAMPLES)
    return found, 0.0


def auc(rng, area, positives, n, images=1, spread=1.0):
    """Normal scores; `spread` is the positives' s.d., and half of the variance is that between people."""
    person = np.repeat(np.arange(n // images), images)
    labels = (np.arange(n // images) < positives // images)[person]
    scores = rng.normal(size=n)
    if images > 1:
        scores = (scores + rng.normal(size=n // images)[person]) / math.sqrt(2)
    scores = np.where(labels, spread * scores + special.ndtri(area) * math.hypot(1, spread), scores)
    return classifiers.auc(scores, labels, person if images > 1 else None), area


def auc_difference(rng, n, shares, areas, images=2):
    """Of means over attributes with these shares of positives; both scores of an image are correlated by a half."""
    person = np.repeat(np.arange(n // images), images)
    chance = rng.random((n // images, len(shares)))[person]
    labels = chance < np.array(shares)
    labels[:images], labels[images : 2 * images] = True, False
    common = (rng.normal(size=(n // images, len(shares)))[person] + rng.normal(size=labels.shape)) / 2
    first, second = (
        common + rng.normal(size=labels.shape) / math.sqrt(2) + labels * special.ndtri(area) * math.sqrt(2)
        for area in areas
    )
    return classifiers.auc_difference(first, second, labels, person), areas[0] - areas[1]


def german_tank(rng, total, seen):
    return intervals.german_tank(int(rng.choice(total, seen, replace=False).max()) + 1, seen), total


def squared_bias(rng, n, dim, length):
    z = rng.normal(size=(n, dim))
    z[:, 0] += length
    return gaussianity.squared_bias(z), length**2


def rms(values):
    return float(np.sqrt(np.square(values).mean()))


def ratio(pairs):
    first, second = pairs.mean(0)
    return first / second


def normal(rng, n):
    return 1 + rng.normal(size=n)


def exponential(rng, n):
    return rng.exponential(size=n)


def lognormal_pairs(rng, n):
    return np.exp(0.5 * rng.normal(size=(n, 2)))


MANY = (0.48, 0.42, 0.23, 0.15, 0.065, 0.04, 0.02)  # shares of attributes, rare ones too
ROWS: dict[str, Draw] = {
    "wilson: 0.9 of 20": partial(wilson, n=20, share=0.9),
    "wilson: 0.98 of 128": partial(wilson, n=128, share=0.98),
    "wilson: 0.95 of 400": partial(wilson, n=400, share=0.95),
    "wilson: 0.5 of 2,000": partial(wilson, n=2000, share=0.5),
    **{
        f"share: {p:g}, {count:,} people, {images} images each, alike by {r:g}": partial(
            share, count=count, images=images, share=p, agreement=r
        )
        for count, images, p, r in (
            (2, 30, 0.7, 0.3), (5, 20, 0.5, 0.3), (5, 20, 0.9, 0.3), (10, 5, 0.9, 0.3), (20, 12, 0.7, 0.1),
            (50, 5, 0.02, 0.3), (50, 20, 0.02, 0.3), (50, 20, 0.02, 0.9), (50, 4, 0.95, 0.3), (200, 3, 0.5, 0.3),
            (200, 3, 0.98, 0.9), (1000, 2, 0.06, 0.3), (1000, 2, 0.98, 0.9),
        )
    },
    "mean: 10 normal values": partial(mean, count=10, images=1, law=normal),
    "mean: 40 people, 5 images each": partial(mean, count=40, images=5, law=normal),
    "mean: 100 exponential people, 3 images each": partial(mean, count=100, images=3, law=exponential),
    "share_difference: 0.9 of 96 less 0.6 of 96": partial(share_difference, n=96, shares=(0.9, 0.6)),
    "share_difference: 0.98 of 40 less 0.9 of 40": partial(share_difference, n=40, shares=(0.98, 0.9)),
    "paired_difference: 0.9 less 0.8, 20 people, 1 image each": partial(
        paired_difference, count=20, images=1, shares=(0.9, 0.8), agreement=0.3
    ),
    "paired_difference: 0.95 less 0.9, 50 people, 4 images each": partial(
        paired_difference, count=50, images=4, shares=(0.95, 0.9), agreement=0.5
    ),
    "paired_difference: 0.98 less 0.98, 100 people, 2 images each": partial(
        paired_difference, count=100, images=2, shares=(0.98, 0.98), agreement=0.5
    ),
    "paired_ratio: 0.3 over 0.42, 20 people, 1 image each": partial(
        paired_ratio, count=20, images=1, shares=(0.3, 0.42), agreement=0.3
    ),
    "paired_ratio: 0.8 over 0.95, 50 people, 4 images each": partial(
        paired_ratio, count=50, images=4, shares=(0.8, 0.95), agreement=0.5
    ),
    "pearson: 0.7, 37 pairs": partial(pearson, n=37, rho=0.7),
    "spearman: 0.7, 12 pairs": partial(spearman, n=12, rho=0.7),
    "spearman: 0.7, 37 pairs": partial(spearman, n=37, rho=0.7),
    "spearman: 0, 37 people, 4 copies each": partial(spearman, n=37, rho=0.0, copies=4),
    "bootstrap: mean of 10 normal values": partial(bootstrap, n=10, law=normal, statistic=np.mean, truth=1.0),
    "bootstrap: mean of 10 exponential values": partial(
        bootstrap, n=10, law=exponential, statistic=np.mean, truth=1.0
    ),
    "bootstrap: mean of 20 exponential values": partial(
        bootstrap, n=20, law=exponential, statistic=np.mean, truth=1.0
    ),
    "bootstrap: ratio of means of 10 pairs": partial(
        bootstrap, n=10, law=lognormal_pairs, statistic=ratio, truth=1.0
    ),
    "bootstrap: median of 40 exponential values": partial(
        bootstrap, n=40, law=exponential, statistic=np.median, truth=math.log(2)
    ),
    "bootstrap: root mean square, 200 people, 2 images each": partial(rms_by_person, count=200, images=2),
    "hierarchical: 30 attributes, 100 people each, shares differ by 0.2": partial(
        hierarchical, attributes=30, each=100, spread=0.2
    ),
    "hierarchical: 12 attributes, 100 people each, shares differ by 0.2": partial(
        hierarchical, attributes=12, each=100, spread=0.2
    ),
    "hierarchical: 30 attributes, 20 people each, shares differ by 0.1": partial(
        hierarchical, attributes=30, each=20, spread=0.1
    ),
    "two_way: 50 x 30, rows and columns differ": partial(two_way, rows=50, columns=30, spread=1.0),
    "two_way: 12 x 12, rows and columns differ": partial(two_way, rows=12, columns=12, spread=1.0),
    "two_way: 50 x 30, neither differs": partial(two_way, rows=50, columns=30, spread=0.0),
    **{
        f"auc: {area:g}, {positives} positives of {n:,}": partial(auc, area=area, positives=positives, n=n)
        for area, positives, n in (
            (0.99, 10, 2000), (0.99, 40, 2000), (0.999, 40, 2000), (0.99, 800, 2000), (0.9, 10, 2000),
            (0.7, 100, 2000), (0.85, 200, 500), (0.95, 20, 40),
        )
    },
    "auc: 0.99, 40 wider positives of 2,000": partial(auc, area=0.99, positives=40, n=2000, spread=1.4),
    "auc: 0.99, 40 positives of 2,000, 4 images each": partial(auc, area=0.99, positives=40, n=2000, images=4),
    "auc: 0.85, 400 positives of 2,000, 4 images each": partial(auc, area=0.85, positives=400, n=2000, images=4),
    "auc_difference: 7 attributes, 2,000 images of 1,000 people": partial(
        auc_difference, n=2000, shares=MANY, areas=(0.95, 0.93)
    ),
    "auc_difference: one of a share 0.02, 2,000 images of 1,000 people": partial(
        auc_difference, n=2000, shares=(0.02,), areas=(0.95, 0.9)
    ),
    "german_tank: 20 of 1,000": partial(german_tank, total=1000, seen=20),
    "squared_bias: 40 points in 100 dimensions": partial(squared_bias, n=40, dim=100, length=1.0),
}  # fmt: skip


def coverage(draw: Draw, repeats: int, seed: int = 0) -> float:
    """The share of `repeats` intervals that hold the truth."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(repeats):
        found, truth = draw(rng)
        held += found.ci[0] <= truth <= found.ci[1]
    return held / repeats


@click.command()
@click.option("--n", default=2000, show_default=True, help="How many intervals a row.")
@click.option("--row", multiple=True, help="Only rows that begin so; may be given again.")
@click.option("--out", type=Path, help="Put the table's rows into this CSV file.")
def main(n: int, row: tuple[str, ...], out: Path | None) -> None:
    """A table of coverages; fails where one is below what chance allows."""
    chosen = {name: draw for name, draw in ROWS.items() if not row or name.startswith(row)}
    low = False
    for name, draw in chosen.items():
        held = intervals.wilson(round(coverage(draw, n) * n), n)
        low |= held.ci[1] < LEAST
        covers = f"{held.estimate:.1%} [{held.ci[0]:.1%}, {held.ci[1]:.1%}]".replace("%,", ",").replace("%]", "]")
        click.echo(f"{covers}  {name}")
        if out:
            keep(out, {name: (n, covers)}, ("interval of", "n", "covers"), seed=0, total=False)
    sys.exit(low)


if __name__ == "__main__":
    main()
