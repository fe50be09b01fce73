"""Rows on class means: is a mean a face of its own, and what does it take that it be one of many images?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import affine, edits, heuristics, intervals
from glowkit.intervals import Estimate
from glowkit.judge import Judge
from glowkit.measured import Found, rounded
from glowkit.measures.stage import ENCODINGS, Stage
from glowkit.study import CENTRES, NOISE
from glowkit.traits import HAIR

REDRAWN = 100
FACES = 100  # that a hair colour is added to
CURVE = 40  # the first of these, for the numbers of images BETWEEN one and all
BETWEEN = (3, 10)
ALL = "all"
GIVERS = 1000  # images with the colour that the few are drawn from

# -------------------------------------------------------------------------------------------------- prototypes


def c15(stage: Stage) -> Found | None:
    """The interval is that of the sampling noise of the latent means, redrawn and decoded REDRAWN times."""
    if "Male" not in stage.attributes:
        return None
    shape = (3, *2 * (stage.flow.image_size,))
    pixels = torch.from_numpy(np.stack([stage.study.pixel_class_mean("Male", has) for has in (True, False)]))
    plain = [_male(judge, pixels.view(-1, *shape)) for judge in stage.judges]
    latent = {encoding: _prototypes(stage, encoding) for encoding in ENCODINGS}
    found = {
        (encoding, j): _contrast(latent[encoding][j], plain[j], stage.study.n)
        for encoding, j in ((NOISE, 0), (NOISE, 1), (CENTRES, 0))
    }
    control = "probability of male for the means of men and of women: " + "; ".join(
        f"{which} judge, decoded {_apart(latent[NOISE][j][0])}, of pixels {_apart(plain[j])}"
        for j, which in enumerate(("first", "second"))
    )
    details = {
        "latent": [latent[NOISE][j][0] for j in (0, 1)],
        "centres": [latent[CENTRES][j][0] for j in (0, 1)],
        "pixels": plain,
    }
    return Found(found[NOISE, 0], control, found[NOISE, 1], found[CENTRES, 0], rounded(details))


def _prototypes(stage: Stage, encoding: str) -> list[np.ndarray]:
    """For each judge (1 + REDRAWN, 2): its probability of male for the decoded means of men and of women."""
    study = stage.study
    men = study.count("Male")
    means = torch.from_numpy(np.stack([study.class_mean("Male", has, encoding) for has in (True, False)]))
    variance = study.moments(encoding)[1]
    scale = torch.from_numpy(np.sqrt(np.stack([variance / men, variance / (study.n - men)])))
    generator = torch.Generator().manual_seed(0)
    found: list[list[np.ndarray]] = [[], []]
    for k in tqdm(range(1 + REDRAWN), f"means of men and women, {encoding}", unit="draw"):
        noise = scale * torch.randn(means.shape, generator=generator) if k else 0
        x = stage.decode(means + noise)
        for j, judge in enumerate(stage.judges):
            found[j].append(_male(judge, x))
    return [np.stack(rows) for rows in found]


def _male(judge: Judge, x: Tensor) -> np.ndarray:
    return judge(x.nan_to_num(0.0))[:, judge.attributes.index("Male")].cpu().double().numpy()


def _contrast(latent: np.ndarray, pixels: np.ndarray, n: int) -> Estimate:
    contrasts = latent[:, 0] - latent[:, 1]
    estimate = float(contrasts[0] - (pixels[0] - pixels[1]))
    margin = 1.96 * float(contrasts[1:].std(ddof=1))
    return Estimate(estimate, (estimate - margin, estimate + margin), n)


def _apart(two: np.ndarray) -> str:
    return f"{two[0]:.2f} and {two[1]:.2f}"


# ----------------------------------------------------------------------------------------- how many images it takes


class Dye(NamedTuple):
    """Faces `rows` (n,) without a hair colour, those of other people with it, and the most that either judge could see
    of it in the former, (2, n)."""

    colour: str
    rows: np.ndarray
    givers: np.ndarray
    ceiling: np.ndarray


def c35(stage: Stage) -> Found | None:
    """Each face gets a single image of its own; colours count alike, and people are resampled over all of them."""
    dyes = list(_dyes(stage))
    whose = np.concatenate([stage.people[dye.rows] for dye in dyes]) if dyes else np.zeros(0)
    if len(np.unique(whose)) < 5:
        return None
    colour = np.repeat(np.arange(len(dyes)), [len(dye.rows) for dye in dyes])
    ceiling = np.concatenate([dye.ceiling for dye in dyes], 1)
    seen = {(encoding, n): [_dyed(stage, encoding, dye, n) for dye in dyes] for encoding in ENCODINGS for n in (1, ALL)}

    def gain(encoding: str, j: int) -> Estimate:
        one, every = (np.concatenate(seen[encoding, n], 1)[j].astype(float) for n in (1, ALL))
        return intervals.bootstrap(_share_of_ceiling, every - one, ceiling[j], colour, groups=whose)

    curve = {n: [_dyed(stage, NOISE, dye, n, CURVE) for dye in dyes] for n in BETWEEN}
    curve = {1: seen[NOISE, 1], **curve, ALL: seen[NOISE, ALL]}
    first = np.concatenate([stage.people[dye.rows[:CURVE]] for dye in dyes])
    success = {n: np.concatenate(seen[NOISE, n], 1)[0].mean() for n in (1, ALL)}
    who = "the true counterfactuals" if stage.drawn else "real faces with the colour"
    control = (
        f"{', '.join(dye.colour for dye in dyes)}; success with one image {success[1]:.2f}, with all "
        f"{success[ALL]:.2f}, in {who} {ceiling[0].mean():.2f}"
    )
    details = {
        "colours": [dye.colour for dye in dyes],
        "faces": CURVE,
        "curve": {
            n: intervals.share(np.concatenate([part[0, :CURVE] for part in parts]), first) for n, parts in curve.items()
        },
        "by_colour": {
            dye.colour: {n: parts[k][0, :CURVE].mean() for n, parts in curve.items()} for k, dye in enumerate(dyes)
        },
        "ceiling": {dye.colour: dye.ceiling.mean(1) for dye in dyes},
    }
    return Found(gain(NOISE, 0), control, gain(NOISE, 1), gain(CENTRES, 0), rounded(details))


def _dyes(stage: Stage) -> Iterator[Dye]:
    """The hair colours that can be tried: there are faces with and without, and both judges mostly see them."""
    covered = np.zeros(len(stage.where), bool)
    for name in {"Bald", "Wearing_Hat"} & set(stage.attributes):
        covered |= stage.has(name)
    for colour in (name for name in HAIR if name in stage.attributes):
        rows = stage.faces(~covered & ~stage.has(colour), FACES)
        givers = stage.faces(~covered & stage.has(colour) & ~np.isin(stage.people, stage.people[rows]))
        scored = stage.drawn or all(colour in judge.scores for judge in stage.judges)
        if not len(rows) or len(givers) < BETWEEN[-1] or not scored:
            continue
        if stage.drawn:
            truth = stage.truth(rows, colour, True)
            ceiling = np.stack([judge.says(truth, colour) for judge in stage.judges])
        else:
            ceiling = np.stack([np.full(len(rows), judge.scores[colour]["sensitivity"]) for judge in stage.judges])
        if (ceiling.mean(1) >= 0.5).all():
            yield Dye(colour, rows, givers, ceiling.astype(float))


def _dyed(stage: Stage, encoding: str, dye: Dye, n: int | str, faces: int = FACES) -> np.ndarray:
    """bool (2, faces): each judge sees the colour, added with a class mean of n images, other ones for each face."""
    rows, z = dye.rows[:faces], stage.z[encoding]
    if n == ALL:
        changed = affine.add(z[rows], stage.study.direction(dye.colour, encoding))
    else:
        without = stage.study.class_mean(dye.colour, False, encoding)
        changed = z[rows] + heuristics.sampled_directions(z[dye.givers[:GIVERS]], n, len(rows), without)
    x = stage.decode(changed)
    return np.stack([edits.succeeded(judge, x, dye.colour) for judge in stage.judges])


def _share_of_ceiling(gain: np.ndarray, ceiling: np.ndarray, colour: np.ndarray) -> float:
    return float(np.mean([gain[colour == k].mean() / ceiling[colour == k].mean() for k in np.unique(colour)]))


ROWS = {"C15": c15, "C35": c35}
