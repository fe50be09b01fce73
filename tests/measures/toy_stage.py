"""A stage in miniature: drawn faces of 32 pixels, a flow at its start, two planted judges and a planted reader."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from glowkit.dataset import Dataset, open_dataset
from glowkit.flow import Glow, GlowConfig
from glowkit.measures.stage import ENCODINGS, Stage
from glowkit.study import CENTRES, NOISE, Noise, Study


class Planted:
    """A judge by decree: `sees[attribute]` is a rule from pictures (B, 3, H, W) to numbers (B,), positive for yes."""

    def __init__(self, sees: dict[str, Callable]) -> None:
        self.attributes, self.sees = list(sees), sees
        self.scores = {name: {"sensitivity": 0.8} for name in sees}

    def logits(self, x):
        return torch.stack([rule(x) for rule in self.sees.values()], 1)

    def __call__(self, x):
        return self.logits(x).sigmoid()

    def says(self, x, attribute):
        return ((self(x)[:, self.attributes.index(attribute)] > 0.5) & x.flatten(1).isfinite().all(1)).numpy()

    def features(self, x):
        return torch.nn.functional.avg_pool2d(x, x.shape[-1] // 4).flatten(1)


class Reader:
    """A reader of looks by decree."""

    def __init__(self, rule: Callable) -> None:
        self.rule = rule

    def passes(self, x):
        return self.rule(x).numpy()


def stage_of(
    judges: tuple, passes: Callable, n: int = 200, attributes: list[str] | None = None, album: Dataset | None = None
) -> Stage:
    """A stage whose flow is linear: arithmetic on latents is arithmetic on pixels, up to clipping.

    Every face is another person, and the study is of the same faces.
    """
    torch.manual_seed(0)
    album = album or replace(open_dataset("faces32"), identities=None)
    flow = Glow(GlowConfig(album.size, 2, 1, 4, "additive"))
    where = album.subset("test")[:n]
    x = album.images(where)
    attributes = attributes or judges[0].attributes
    labels = np.stack([album.has(name)[where] for name in attributes], 1)
    z = {NOISE: flow.encode(x, noise=torch.Generator().manual_seed(1)), CENTRES: flow.encode(x)}
    stage = Stage(
        "toy", flow, _study(attributes, labels, z, flow.quantise(x).flatten(1)), judges, album, where, attributes,
        labels, np.arange(len(where)), x, z, None,
    )  # fmt: skip
    vars(stage)["looks"] = Reader(passes)
    return stage


def _study(attributes, labels, z, pixels) -> Study:
    def class_means(values):
        return np.stack([values[torch.from_numpy(y)].mean(0).numpy() for y in labels.T])

    nothing, n = np.arange(0), len(labels)
    mean = {encoding: z[encoding].mean(0).numpy() for encoding in ENCODINGS}
    variance = {encoding: z[encoding].var(0).numpy() for encoding in ENCODINGS}
    none = np.zeros(0)
    return Study(
        name="toy", data="faces32", attributes=attributes, n=n, draws=2, counts=labels.sum(0), mean=mean[CENTRES],
        variance=variance[CENTRES], pixel_mean=pixels.mean(0).numpy(), held_out=nothing, labels=labels,
        identities=None, norms={}, halves=nothing, half_means=nothing, along_mean=nothing, projections={},
        _class_means={encoding: class_means(z[encoding]) for encoding in ENCODINGS},
        _pixel_class_means=class_means(pixels), _reliability={},
        _noise=Noise(mean[NOISE], variance[NOISE], none, none, none),
    )  # fmt: skip
