"""Rows on places: where an edit lands if the face is elsewhere, and where in the inverse it leaves the usual range."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glowkit import affine, edits, intervals, placement, ranges
from glowkit.flow import Glow
from glowkit.intervals import Estimate
from glowkit.measured import Found, rounded
from glowkit.measures.stage import ENCODINGS, Stage, batches
from glowkit.study import NOISE

# ------------------------------------------------------------------------------------- image or face coordinates

FACES = 40
ATTRIBUTE = "Smiling"
DISTANCES = (2, 4, 6)  # pixels, along either axis
MOVES = [(d * u, d * v) for d in DISTANCES for u, v in ((1, 0), (-1, 0), (0, 1), (0, -1))]
FAR = np.array([max(map(abs, move)) for move in MOVES])


def c20(stage: Stage) -> Found | None:
    """Faces are the units, each with the mean over its displacements."""
    if ATTRIBUTE not in stage.attributes or len(stage.faces(~stage.has(ATTRIBUTE), 2)) < 2:
        return None
    found = {encoding: _displaced(stage, encoding) for encoding in ENCODINGS}
    noisy, centres = (_mean(parts[..., 0] - parts[..., 1]) for parts, _, _ in found.values())
    parts, by_pixels, seen = found[NOISE]
    seen_in = {what: "{:.2f} and {:.2f}".format(*(_mean(j[1:]).estimate for j in js)) for what, js in seen.items()}
    control = (
        f"stays {_mean(parts[..., 0]).brief}, follows {_mean(parts[..., 1]).brief}, pixel arithmetic stays "
        f"{_mean(by_pixels[..., 0]).estimate:.2f}; of the displaced faces the two judges see a smile in "
        f"{seen_in['edited']} after the edit" + (f", in {seen_in['true']} of the true ones" if stage.drawn else "")
    )
    details = {
        "distances": DISTANCES,
        "stays": [_mean(parts[d == FAR, :, 0]) for d in DISTANCES],
        "follows": [_mean(parts[d == FAR, :, 1]) for d in DISTANCES],
        "pixels_stay": [_mean(by_pixels[d == FAR, :, 0]) for d in DISTANCES],
        "pixels_follow": [_mean(by_pixels[d == FAR, :, 1]) for d in DISTANCES],
        # for each judge, the share of faces in which it sees the attribute, at home and at each distance
        "seen": {
            what: [[judge[0].mean(), *(judge[1:][d == FAR].mean() for d in DISTANCES)] for judge in judges]
            for what, judges in seen.items()
        },
    }
    return Found(noisy, control, centres=centres, details=rounded(details))


def _displaced(stage: Stage, encoding: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """`placement.coordinates` (M, n, 2) of the edit in latents and in pixels; and bool (2, 1 + M, n), where each judge
    sees the attribute, home first: "before", "edited" and, of drawn faces, "true"."""
    rows = stage.faces(~stage.has(ATTRIBUTE), FACES)
    x, study = stage.pixels(rows, encoding), stage.study
    direction, pixel_direction = study.direction(ATTRIBUTE, encoding), study.pixel_direction(ATTRIBUTE)
    truth = {"true": stage.truth(rows, ATTRIBUTE, True)} if stage.drawn else {}
    changes, in_pixels, seen = [], [], []
    for move in tqdm([(0, 0), *MOVES], f"displaced faces, {encoding}", unit="place"):
        moved = placement.displace(x, *move)
        with torch.no_grad():  # with the noise that it has: the edit is the only change
            z = torch.cat([stage.flow(part - 0.5)[0] for part in moved.split(32)])
        after = stage.decode(affine.add(z, direction))
        changes.append(after - moved)
        in_pixels.append(affine.add_to_pixels(moved, pixel_direction) - moved)
        pictures = {"before": moved, "edited": after}
        pictures |= {what: placement.displace(true, *move) for what, true in truth.items()}
        seen.append(
            {
                what: [edits.succeeded(judge, picture, ATTRIBUTE) for judge in stage.judges]
                for what, picture in pictures.items()
            }
        )
    parts, by_pixels = (placement.coordinates(torch.stack(found), MOVES) for found in (changes, in_pixels))
    return parts, by_pixels, {what: np.stack([place[what] for place in seen], 1) for what in seen[0]}


def _mean(parts: np.ndarray) -> Estimate:
    """Over faces, of the means over places of parts (M, n); faces of which a decode exploded are left out."""
    by_face = parts.mean(0)
    return intervals.mean(by_face[np.isfinite(by_face)])


# --------------------------------------------------------------------------------------------- inside the inverse

EDITED = 100  # faces, each with another attribute added
OTHERS = 300  # real faces that say how far the layers usually go
ALPHA = 3.0
COMMON = 0.02  # share of the training images that an attribute needs


def b06(stage: Stage) -> Found | None:
    """Both shares are of all faces, those that stay in range included, and for the level commonest after the edit."""
    if not isinstance(stage.flow, Glow):
        return None
    rows, attributes = _drawn_attributes(stage)
    if len(rows) < 2 or not len(_others(stage, rows)):
        return None
    found = {encoding: _layers(stage, encoding, rows, attributes) for encoding in ENCODINGS}
    noisy, centres = (_first_in_one(level_of, beyond) for level_of, beyond in found.values())
    level_of, beyond = found[NOISE]
    first = {what: first_levels(level_of, values) for what, values in beyond.items()}
    level = commonest(first["edited"])
    leave = {what: (levels > 0).mean() for what, levels in first.items()}
    control = (
        f"level {level}, whose layers are {np.mean(level_of == level):.2f} of all, goes first in "
        f"{(first['edited'] == level).mean():.2f} of the edits and in {(first['unedited'] == level).mean():.2f} of the "
        f"same faces unedited; {leave['edited']:.2f} and {leave['unedited']:.2f} leave the range somewhere, "
        f"{(~np.isfinite(beyond['edited'])).any(1).mean():.2f} of the edits explode"
    )
    details = {
        "levels": level_of,
        # of the largest value after each layer over the largest in other real faces
        "quartiles": {what: np.nanquantile(values, [0.25, 0.5, 0.75], 0) for what, values in beyond.items()},
        "first": {
            what: {int(k): int((levels == k).sum()) for k in [*np.unique(level_of), 0]}
            for what, levels in first.items()
        },
    }
    return Found(noisy, control, centres=centres, details=rounded(details, 3))


def _drawn_attributes(stage: Stage) -> tuple[np.ndarray, list[str]]:
    """Rows of EDITED people, and for each a common attribute, drawn at random from those that the face has not."""
    study, rng = stage.study, np.random.default_rng(0)
    common = [name for name in stage.attributes if study.count(name) >= COMMON * study.n]
    lacks = ~np.stack([stage.has(name) for name in common], 1)
    rows = stage.faces(lacks.any(1), EDITED)
    return rows, [common[rng.choice(np.flatnonzero(lacks[row]))] for row in rows]


def _layers(
    stage: Stage, encoding: str, rows: np.ndarray, attributes: list[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Level of each layer (M,), and values (n, M) of faces "edited" and "unedited" over the largest of other faces."""
    z = stage.z[encoding]
    directions = torch.stack([torch.from_numpy(stage.study.direction(name, encoding)) for name in attributes])
    level_of, usual = _ranges(stage, z[_others(stage, rows)])
    highest = usual.max(0)
    latents = {"edited": z[rows] + ALPHA * directions, "unedited": z[rows]}
    return level_of, {what: _ranges(stage, points)[1] / highest for what, points in latents.items()}


def _others(stage: Stage, rows: np.ndarray) -> np.ndarray:
    return stage.faces(~np.isin(stage.people, stage.people[rows]), OTHERS)


def _ranges(stage: Stage, z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    parts = [ranges.inverse_ranges(stage.flow, z[list(rows)]) for rows in batches(len(z), 32)]
    return np.array(parts[0][0]), np.concatenate([part for _, part in parts])


def first_levels(level_of: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """(n,): the level of the first layer at which a face's values beyond (n, M) are not at most 1; 0 if none is."""
    outside = ~(beyond <= 1)  # what is not a number is outside too
    return np.where(outside.any(1), level_of[outside.argmax(1)], 0)


def commonest(levels: np.ndarray) -> int:
    """The level (1 is the shallowest) in which most leave the range; of equally common ones the shallowest."""
    return int(np.bincount(levels)[1:].argmax()) + 1 if levels.any() else 1


def _first_in_one(level_of: np.ndarray, beyond: dict[str, np.ndarray]) -> Estimate:
    edited, unedited = (first_levels(level_of, beyond[what]) for what in ("edited", "unedited"))
    level = commonest(edited)
    return intervals.paired_difference(edited == level, unedited == level)


ROWS = {"C20": c20, "B06": b06}
