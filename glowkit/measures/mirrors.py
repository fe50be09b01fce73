"""Rows on mirror images: minus a person (figure 17), and the hemisphere opposite (figure 31)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from glowkit import affine, heuristics, intervals, realism
from glowkit.edits import finite
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import Stage, once
from glowkit.study import CENTRES, NOISE
from glowkit.traits import PoseReader, TraitReader, beyond_chance, difference_by_chance

PEOPLE = 100  # whose specular images are looked at
MOVED = 200  # faces moved to the other hemisphere
OTHERS = 1000  # pictures of other people, which teach to read pose and say what real ones are like
FEWEST = 32  # a Frechet distance takes as many faces at least
HALF, WHOLE = "origin, alpha 0.5", "origin, alpha 1"

# ------------------------------------------------------------------------------------------------ specular images


@dataclass(frozen=True)
class Mirrored:
    """n faces and their specular images. start (T, n): values of the traits `names` in the faces; for each kind of
    image traits[kind] (T, n) in it, passes[kind] bool (n,) and finite[kind] bool (n,)."""

    names: list[str]
    start: np.ndarray
    traits: dict[str, np.ndarray]
    passes: dict[str, np.ndarray]
    finite: dict[str, np.ndarray]

    def differs(self, trait: str, kind: str) -> np.ndarray:
        k = self.names.index(trait)
        return self.traits[kind][k] != self.start[k]


@once
def mirrored(stage: Stage, encoding: str) -> Mirrored:
    """The specular images of PEOPLE people, about the origin and about the mean of the latents."""
    rows = stage.faces(n=PEOPLE)
    read = _reader(stage)
    z, mean = stage.z[encoding][rows], stage.study.moments(encoding)[0]
    sights = {
        HALF: stage.decode(affine.reflect(z, 0.5)),
        WHOLE: stage.decode(affine.reflect(z, 1.0)),
        "mean, alpha 0.5": stage.decode(affine.reflect(z, 0.5, mean)),
        "mean, alpha 1": stage.decode(affine.reflect(z, 1.0, mean)),
    }
    return Mirrored(
        read.names,
        read(stage.pixels(rows)),
        {kind: read(x) for kind, x in sights.items()},
        {kind: stage.looks.passes(x) for kind, x in sights.items()},
        {kind: finite(x) for kind, x in sights.items()},
    )


@once
def _reader(stage: Stage) -> TraitReader:
    """Of the first judge, and of pose where landmarks teach to read it, on faces of other people than are mirrored."""
    landmarks = stage.album.landmarks
    rest = _of_others(stage, stage.faces(n=PEOPLE))
    if landmarks is None or not len(rest):
        return TraitReader(stage.judges[0])
    return TraitReader(stage.judges[0], PoseReader(stage.pixels(rest), landmarks[stage.where[rest]]))


def _of_others(stage: Stage, rows: np.ndarray) -> np.ndarray:
    """Rows of OTHERS pictures, at most, of people of whom `rows` hold none."""
    return np.flatnonzero(~np.isin(stage.people, stage.people[rows]))[:OTHERS]


def c19(trait: str) -> Callable[[Stage], Found | None]:
    """The row of one trait: how much more often a specular image differs in it than two people do."""

    def row(stage: Stage) -> Found | None:
        found = {encoding: mirrored(stage, encoding) for encoding in (NOISE, CENTRES)}
        noise = found[NOISE]
        if trait not in noise.names:
            return None
        k = noise.names.index(trait)
        noisy, centres = (beyond_chance(f.start[k], f.traits[HALF][k]) for f in found.values())
        differ = noise.differs(trait, HALF).mean()
        control = (
            f"of the specular images {differ:.2f} differ, of two people {differ - noisy.estimate:.2f}; at alpha 1 "
            f"{noise.differs(trait, WHOLE).mean():.2f} differ"
        )
        return Found(noisy, control, centres=centres, details=_details(found))

    return row


def c19_one(stage: Stage) -> Found | None:
    """Both images are of the same faces."""
    found = {encoding: mirrored(stage, encoding) for encoding in (NOISE, CENTRES)}
    noisy, centres = (intervals.paired_difference(f.passes[WHOLE], f.passes[HALF]) for f in found.values())
    passes = found[NOISE].passes
    control = (
        f"as faces pass {passes[WHOLE].mean():.2f} at alpha 1 and {passes[HALF].mean():.2f} at alpha 0.5; "
        f"{found[NOISE].finite[WHOLE].mean():.2f} and {found[NOISE].finite[HALF].mean():.2f} are finite"
    )
    return Found(noisy, control, centres=centres, details=_details(found))


def _details(found: dict[str, Mirrored]) -> dict:
    """For both encodings and each kind of image: shares that differ in each trait, that pass, that are finite."""
    return rounded(
        {
            encoding: {
                "chance": {
                    name: difference_by_chance(m.start[k : k + 1], m.start.shape[1] - 1)
                    for k, name in enumerate(m.names)
                },
                **{
                    kind: {
                        **{name: intervals.share(m.differs(name, kind)) for name in m.names},
                        "passes": intervals.share(m.passes[kind]),
                        "finite": m.finite[kind].mean(),
                    }
                    for kind in m.traits
                },
            }
            for encoding, m in found.items()
        }
    )


# ------------------------------------------------------------------------------------------ the other hemisphere


def c39(stage: Stage) -> Found | None:
    """Pictures of other people are the real ones; ratios are of the first judge's features."""
    moved = stage.faces(n=MOVED)
    if min(len(moved), len(_of_others(stage, moved))) < FEWEST:
        return None
    found = {encoding: _moved(stage, encoding) for encoding in (NOISE, CENTRES)}
    noisy, centres = (ratios["mirrored", "along the mean"] for ratios, _ in found.values())
    ratios, about = found[NOISE]
    control = (
        f"over a random move as long on the same sphere {ratios['mirrored', 'anywhere'].brief}; over the faces unmoved "
        f"{ratios['mirrored', 'unmoved'].brief}; mean step {about['step']:.1f}"
    )
    details = {
        encoding: {
            "over": {f"{a} / {b}": ratio for (a, b), ratio in ratios.items()},
            "passes": about["passes"],
            "step": about["step"],
        }
        for encoding, (ratios, about) in found.items()
    }
    return Found(noisy, control, centres=centres, details=rounded(details))


def _moved(stage: Stage, encoding: str) -> tuple[dict[tuple[str, str], Estimate], dict]:
    """Frechet ratios of pairs of places, and how many there pass as one face."""
    rows, judge = stage.faces(n=MOVED), stage.judges[0]
    rest = _of_others(stage, rows)
    z, mean = stage.z[encoding][rows], torch.from_numpy(stage.study.moments(encoding)[0])
    unit = mean / mean.norm()
    heights = (z @ unit)[:, None]
    steps, outwards = 2 * heights.abs()[:, 0], heights.sign() * unit
    anywhere = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    sights = {"unmoved": stage.pixels(rows, encoding)} | {
        name: stage.decode(place)
        for name, place in (
            ("mirrored", z - 2 * heights * unit),
            ("along the mean", z + 2 * heights * unit),
            ("on the sphere, towards the mean", heuristics.along_sphere(z, outwards, steps)),
            ("anywhere", heuristics.along_sphere(z, anywhere, steps)),
        )
    }
    with torch.no_grad():
        views = {name: judge.features(x).numpy() for name, x in sights.items()}
        real = torch.cat([judge.features(part) for part in stage.pixels(rest, encoding).split(256)]).numpy()
    over = [("mirrored", name) for name in sights if name != "mirrored"]
    over += [(name, "unmoved") for name in sights if name not in ("mirrored", "unmoved")]
    passes = {name: intervals.share(stage.looks.passes(x)) for name, x in sights.items()}
    ratios = {(a, b): realism.frechet_ratio(views[a], views[b], real) for a, b in over}
    return ratios, {"passes": passes, "step": float(steps.mean())}


ROWS = {"C19-hair": c19("hair"), "C19-gender": c19("gender"), "C19-pose": c19("pose"), "C19-one": c19_one, "C39": c39}
