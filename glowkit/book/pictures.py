"""What a chapter looks at: the images a model was made for, or, where those are not at hand, samples of its own.

No photograph is bundled, and a model of photographs is still there to be played with: its samples are faces of
nobody. Nobody labelled them either; the model's judge does. Plain samples would hardly ever be bald or wear glasses:
the classes lie farther apart than the prior reaches. So each sample is drawn around the point where the study expects
a face with the attributes of some person it has seen.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from glowkit import checkpoint
from glowkit.dataset import PHOTOGRAPHS, SAMPLES, Dataset, cache_folder, kind_of, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import sealed, sealing
from glowkit.heuristics import partial_differences
from glowkit.image_flow import ImageFlow
from glowkit.judge import open_judge
from glowkit.study import FILE as STUDY
from glowkit.study import Study, open_study

COUNT = 1000
TEMPERATURE = 0.7
ENOUGH = 1000  # held-out images, for chapters to find some of each kind


def open_pictures(name: str | Path, data: str = "") -> Dataset:
    """The images at the path `data`; without one the procedural faces for a model of those, else samples.

    Attributes are those of the model's study, in its order. Raises GlowkitError if the images have no label for one,
    or if fewer than ENOUGH are in the test split.
    """
    own = checkpoint.data_of(name)
    if not data and kind_of(own) == PHOTOGRAPHS:
        return sampled(name)
    album = open_dataset(data or own, size=checkpoint.config_of(name).image_size)
    wanted = open_study(name).attributes
    if missing := [attribute for attribute in wanted if attribute not in album.attributes]:
        raise GlowkitError(f"{album.name}: no labels for {', '.join(missing)}, which {name} was studied with")
    if (held_out := len(album.subset("test"))) < ENOUGH:
        raise GlowkitError(f"{album.name}: {held_out} images in the test split; a chapter needs {ENOUGH:,}")
    columns = [album.attributes.index(attribute) for attribute in wanted]
    return replace(album, attributes=wanted, labels=album.labels[:, columns])


def sampled(name: str | Path, n: int = COUNT, temperature: float = TEMPERATURE, seed: int = 0) -> Dataset:
    """n samples of the bundled model or folder `name`, all in the test split, with the labels that its judge sees.

    They are kept in the cache, by the weights and the study that they were drawn with.
    """
    judge, study, folder = open_judge(name), open_study(name), checkpoint.folder_of(name)
    sums = checkpoint.weights_hash(folder), checkpoint.sha256(folder / STUDY), n, temperature, seed
    key = hashlib.sha256(repr(sums).encode()).hexdigest()[:12]
    path = cache_folder() / "samples" / f"{folder.name}-{key}.npy"
    if not sealed(path):
        pixels = _drawn(checkpoint.load(name), expected_latents(study, n), temperature, seed)
        with sealing(path) as unfinished:
            np.save(unfinished, pixels.numpy())
    pixels = torch.from_numpy(np.load(path))
    labels = judge(pixels).numpy() > 0.5
    if missing := [attribute for attribute in study.attributes if attribute not in judge.attributes]:
        raise GlowkitError(f"{name}: its judge does not know {', '.join(missing)}; make it: `glowkit judge {name}`")
    columns = [judge.attributes.index(attribute) for attribute in study.attributes]
    return Dataset(
        name=f"samples of {Path(name).name}",
        size=checkpoint.config_of(name).image_size,
        attributes=study.attributes,
        labels=labels[:, columns],
        splits=np.full(n, 2, np.uint8),
        landmarks=None,
        identities=None,
        _pixels=lambda where: pixels.numpy()[where],
        kind=SAMPLES,
    )


def _drawn(model: ImageFlow, expected: np.ndarray, temperature: float, seed: int) -> torch.Tensor:
    """uint8 (n, 3, H, W), around the latents `expected` (n, D)."""
    noise = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    x = model.decode(torch.from_numpy(expected) + temperature * noise)
    return (255 * x).round().to(torch.uint8)


def expected_latents(study: Study, n: int) -> np.ndarray:
    """(n, D): the mean latent of faces with the attributes of each of the study's held-out images, in turn.

    Linear in the attributes: the mean of the noisy latents, plus each attribute's own difference (the others held
    fixed) as far as the image is from the mean of that attribute.
    """
    labels = study.labels.astype(float)
    # An attribute that all or none of the images have gives no difference.
    varied = np.flatnonzero((labels.std(0) > 0) & (study.counts > 0) & (study.counts < study.n))
    directions = np.stack([study.direction(study.attributes[k]) for k in varied])
    own = partial_differences(directions, labels[:, varied])
    rows = labels[np.arange(n) % len(labels)][:, varied] - labels[:, varied].mean(0)
    return (study.half_means.mean(0) + rows @ own).astype(np.float32)
