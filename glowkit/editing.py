"""One picture of a reader's own, edited: where its eyes are, whether the model can mean it, and what came of it.

What can be meant is done, and what looks wrong is said in a line each (`Edit.warnings`): a picture that is no aligned
face, eyes the wrong way round, latents far from those of the data. Refused is only what has no meaning: an unknown
attribute, an image that cannot be read, eyes that coincide or leave no crop, pictures that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from glowkit import celeba, checkpoint, controlled, eyes, faces
from glowkit.dataset import PROCEDURAL, kind_of
from glowkit.errors import GlowkitError
from glowkit.image_flow import ImageFlow
from glowkit.judge import FIRST, open_judge
from glowkit.study import NOISE, Study, open_study

IN_PLACE = 0.3  # distances of the eyes: as near to their place, eyes are those of an aligned face
FAR = 4.0  # standard deviations of a norm: farther are 13 of the 8,000 held-out faces of the four bundled studies
# Both were chosen by eye, of 4 drawn faces and of 24 samples from about where faces without a smile are: they show what
# an edit is, not how often it works. Chapter 4 measures that.
DEMO_FACE, DEMO_SEED = 316, 1  # a drawn face that does not smile, and that no bundled model was trained on
DEMO_SAMPLE, DEMO_TEMPERATURE = 16, 0.7  # the seed of a sample, for a model of photographs


@dataclass
class Edit:
    """original (3, S, S) uint8, as the model got it; pictures (n, 3, S, S) float in [0, 1] at `alphas`, the first its
    reconstruction; seen (n,): the judge's probability of the attribute, None without a judge. said, warnings: lines.
    """

    original: Tensor
    alphas: list[float]
    pictures: Tensor
    seen: np.ndarray | None
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def edit(
    model: str | Path,
    flow: ImageFlow,
    attribute: str,
    alphas: Sequence[float],
    image: Image.Image | None = None,
    given: Sequence[float] | None = None,
    kind: str = "mean",
) -> Edit:
    """Add `alphas` times the direction of `attribute` to the face in an image; without one, to `demo`'s.

    flow: the model of that name or folder, with its study. alphas begin with 0. given: x1, y1, x2, y2 of the eyes in
    pixels of the image, else they are looked for (`placed`). kind: one of `controlled.DIRECTIONS`. Raises GlowkitError
    if the study does not know the attribute, the eyes leave no crop, or a picture is not finite.
    """
    study = open_study(model)
    line = torch.from_numpy(controlled.direction(kind, study, attribute, flow.level_slices))
    said, warnings = [], []
    if image is None:
        x, what = demo(model, flow, study, attribute)
        said.append(what)
    else:
        image = celeba.pictures.shown(image)[0].convert("RGB")
        left, right = placed(image, given, said, warnings)
        x = celeba.crop(image, left, right, flow.image_size)
    # Noise as in training: at bin centres an edit does less.
    z = flow.encode(x[None], noise=torch.Generator().manual_seed(0)).cpu()
    warnings += unlikely(study, z[0])
    pictures = flow.decode(z + torch.tensor(alphas, dtype=torch.float32)[:, None] * line).cpu()
    if broken := int((~pictures.isfinite().flatten(1).all(1)).sum()):
        raise GlowkitError(f"{broken} of {len(pictures)} images are not finite; give an --alpha nearer to 0")
    result = Edit(x, list(alphas), pictures, seen(model, pictures, attribute), said, warnings)
    if result.seen is not None:
        k = int(np.argmax(np.abs(alphas)))
        first, last = result.seen[0], result.seen[k]
        said.append(f"the model's judge: {attribute} {first:.2f} -> {last:.2f}")
        if alphas[k] and (first > 0.5) == (alphas[k] > 0):
            state = "is there already" if first > 0.5 else "is not there to be taken away"
            warnings.append(f"{attribute} {state}, says the judge of the reconstruction ({first:.2f})")
    return result


def placed(image: Image.Image, given: Sequence[float] | None, said: list[str], warnings: list[str]) -> np.ndarray:
    """The eyes by which to crop (2, 2), left and right, x and y in pixels; what was done is added to the lists.

    Those given, the left in the picture first; else, in an aligned face, where they always are; else those found.
    """
    if given is not None:
        points = np.array(given, float).reshape(2, 2)
        celeba.similarity(*points, 1)  # refuses what no picture can have
        if points[0, 0] > points[1, 0]:
            points = points[::-1]
            warnings.append("--eyes: the left one in the picture comes first; taken the other way round")
        if not ((points >= -0.5) & (points <= np.array(image.size) - 0.5)).all():
            warnings.append(f"--eyes: outside the picture of {image.width} x {image.height} pixels")
        return points
    frame = celeba.frame_eyes(image.size)
    apart = np.hypot(*(frame[1] - frame[0]))
    shape = f"{image.width} x {image.height} pixels"
    aligned = celeba.framed(image.size)
    found = eyes.find(image) if eyes.at_hand() else None
    if found is not None:
        off = np.hypot(*(found.places - frame).T).max() / apart
        if aligned and off <= IN_PLACE:
            said.append("eyes seen where an aligned face has them")
            return frame
        (a, b), (c, d) = found.places
        said.append(f"eyes found at {a:.0f} {b:.0f} {c:.0f} {d:.0f}; if that is wrong, give --eyes X1 Y1 X2 Y2")
        if found.faces > 1:
            warnings.append(f"{found.faces} faces seen; the clearest was taken")
        return found.places
    how = "give --eyes X1 Y1 X2 Y2"
    if eyes.at_hand():
        reason = f"no eyes found in {shape}"
    elif aligned:
        return frame
    else:
        reason, how = f"{shape} is no aligned face", f"{how}, or have them found: pip install 'glowkit[eyes]'"
    warnings.append(f"{reason}; {'taken for an aligned face' if aligned else 'took the middle of it'}: {how}")
    return frame


def demo(model: str | Path, flow: ImageFlow, study: Study, attribute: str) -> tuple[Tensor, str]:
    """A face of nobody for the model (3, S, S), uint8, and what it is: one drawn, which does not smile, where the model
    was trained on drawn faces; else a sample of the model's from about where faces without the attribute are."""
    if kind_of(checkpoint.data_of(model)) == PROCEDURAL:
        drawn = faces.render(faces.factors([DEMO_FACE], DEMO_SEED), flow.image_size)
        return drawn[0], "a drawn face of nobody, chosen for the demo"
    noise = torch.randn(flow.dim, generator=torch.Generator().manual_seed(DEMO_SAMPLE))
    z = torch.from_numpy(study.class_mean(attribute, positive=False)) + DEMO_TEMPERATURE * noise
    x = flow.decode(z[None])[0].cpu()
    if not x.isfinite().all():
        raise GlowkitError(f"{model}: its sample for --demo is not finite; give an IMAGE")
    return (255 * x).round().to(torch.uint8), "a sample of the model, of nobody, chosen for the demo"


def unlikely(study: Study, z: Tensor) -> list[str]:
    """A line if a latent z (D,), with noise, is farther from the shell that those of the data are on than chance takes
    it. That is a property of the norm alone: a face upside down can lie on the shell."""
    norms = np.sqrt(np.square(study.norms[NOISE], dtype=float).sum(1))
    norm, spread = float(z.double().norm()), float(norms.std(ddof=1))
    away = (norm - norms.mean()) / spread if spread else 0.0
    # A spread that is an estimate from a few faces is one that chance goes beyond more often.
    far = float(stats.t.isf(stats.norm.sf(FAR), len(norms) - 1)) * (1 + 1 / len(norms)) ** 0.5
    # -log2 N(z; 0, I) in bits a dimension, less the mean of the data's.
    bits = (norm**2 - np.square(norms).mean()) / (2 * np.log(2) * len(z))
    if not abs(away) > far:
        return []
    return [
        f"unlikely under the model: latents {abs(away):,.0f} standard deviations {'out' if away > 0 else 'in'}side the "
        f"shell of {study.data} ({norm:.1f} for {norms.mean():.1f} +- {spread:.1f}, {bits:+.2f} bits/dim): the "
        "edit may mean little"
    ]


def seen(model: str | Path, x: Tensor, attribute: str) -> np.ndarray | None:
    """The probability (B,) of the attribute in pictures x by the model's first judge; None if there is none."""
    if not (checkpoint.folder_of(model) / FIRST.file).exists():
        return None
    judge = open_judge(model)
    return judge(x)[:, judge.attributes.index(attribute)].numpy() if attribute in judge.attributes else None
