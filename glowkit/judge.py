"""Two independent judges of attributes: small networks that see pixels and know no latent.

A judge says whether an edit worked, so it must not be the direction under test. Its own held-out accuracy, stored with
it, is the ceiling of every success rate the book reports. What one network sees may be a habit of that network: the
second differs from the first in architecture, in training images and in seed, and a verdict has to hold with both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm.auto import tqdm

from glowkit import checkpoint, devices, fields
from glowkit.dataset import Dataset, open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in
from glowkit.study import varied

BATCH = 128  # images in a step of training
# What a judge says of itself; `weights` is the SHA-256 sum of the model.safetensors beside which it was made.
ABOUT = {
    "attributes": fields.Names(),
    "width": fields.Whole(1, 256),
    "scores": fields.Table(),
    "weights": fields.Text(),
}
SCORE = {
    **dict.fromkeys(("accuracy", "sensitivity", "specificity", "auc"), fields.Real(0, 1)),
    **dict.fromkeys(("n", "positives"), fields.Whole(1, 2**40)),
}


def _convolutions(width: int) -> list[nn.Module]:
    """Four convolutions that halve the picture, then all places at once."""
    channels = [3, width, 2 * width, 3 * width, 4 * width]
    layers: list[nn.Module] = []
    for a, b in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return [*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * width * 16, 64), nn.ReLU()]


def _mixer(width: int) -> list[nn.Module]:
    """An MLP-Mixer (Tolstikhin et al. 2021) on 64 patches of 8 x 8 pixels: no convolution, no weight of one place is
    that of another, and every layer sees the whole face."""
    patches = [nn.PixelUnshuffle(8), nn.Flatten(2), nn.Conv1d(3 * 8 * 8, width, 1)]
    mixed = [_Mixing(64, width) for _ in range(4)]
    return [*patches, *mixed, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * width, 64), nn.ReLU()]


class _Mixing(nn.Module):
    """(B, width, places) -> the same: first across the places, then, at each place, across the channels."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.across = nn.Sequential(
            nn.LayerNorm(places), nn.Linear(places, places), nn.GELU(), nn.Linear(places, places)
        )
        self.within = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(x)
        return x + self.within(x.mT).mT


@dataclass(frozen=True)
class Kind:
    """One of the two judges. body(width) are the layers from pixels (B, 3, 64, 64) to features (B, 64); of the training
    images it learns from the n at the `part` of the set."""

    name: str
    file: str
    body: Callable[[int], list[nn.Module]]
    width: int
    part: Callable[[int], slice]
    seed: int


FIRST = Kind("judge", "judge.safetensors", _convolutions, 24, lambda n: slice(-n, None), 0)
SECOND = Kind("second judge", "second-judge.safetensors", _mixer, 48, lambda n: slice(n), 1)


class Judge(nn.Module):
    """judge(x) -> probabilities (B, A) of each attribute, for images x (B, 3, H, W), uint8 or float in [0, 1].

    Images are read at 64 px, whatever their size. scores[attribute] holds what the judge reaches on held-out
    images: "accuracy", "sensitivity" (positives seen), "specificity" (negatives seen), "auc", "n" and "positives".
    """

    def __init__(self, attributes: list[str], width: int | None = None, kind: Kind = FIRST) -> None:
        super().__init__()
        self.attributes, self.width = attributes, width or kind.width
        self.scores: dict[str, dict[str, float]] = {}
        self.body = nn.Sequential(*kind.body(self.width))
        self.head = nn.Linear(64, len(attributes))

    def features(self, x: Tensor) -> Tensor:
        """(B, 64): the last hidden layer, a description of the face in which distances mean something."""
        x = x.to(self.head.weight.device)
        x = x / 255 if x.dtype == torch.uint8 else x.nan_to_num(0.0)
        if x.shape[-1] != 64:
            x = F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True, align_corners=False)
        return self.body((x - 0.5) * 4)

    def logits(self, x: Tensor) -> Tensor:
        """(B, A)"""
        return self.head(self.features(x))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.logits(part).sigmoid() for part in x.split(256)])

    def says(self, x: Tensor, attribute: str) -> np.ndarray:
        """bool (B,): does the judge see the attribute? A picture with a non-finite pixel has none, by decision."""
        if attribute not in self.attributes:
            raise GlowkitError(f"attribute {attribute!r}: the judge knows {', '.join(self.attributes)}")
        seen = self(x)[:, self.attributes.index(attribute)] > 0.5
        if x.is_floating_point():
            seen &= x.flatten(1).isfinite().all(1).to(seen.device)
        return seen.cpu().numpy()


def train_judge(
    name: str | Path,
    data: str | Path | None = None,
    n: int = 20_000,
    epochs: int = 8,
    device: str | torch.device | None = None,
    second: bool = False,
) -> Path:
    """Trains a judge on n training images of a data set; writes its file to the model's folder.

    The first judge learns from the last n training images, the second from the first n: of a set with fewer than 2n,
    some are in both. They are mirrored, blurred a little and made noisy at random; the last two since decoded pictures
    are. Attributes that all of them have, or none, are left out, with a line. `device`: see `devices.choose`.
    """
    kind = SECOND if second else FIRST
    device, folder = devices.choose(device), checkpoint.folder_of(name)
    with alone_in(folder):
        model, weights = checkpoint.load(folder), checkpoint.weights_hash(folder)
        dataset = open_dataset(str(data or checkpoint.data_of(folder)), size=model.config.image_size)
        training, test = dataset.subset("train")[kind.part(n)], dataset.subset("test")
        if not len(test):
            raise GlowkitError(f"{dataset.name}: no images in the test split, which a judge needs to be scored")
        if len(training) < BATCH:
            raise GlowkitError(f"{dataset.name}: {len(training)} training images, a judge needs {BATCH} at least")
        dataset = varied(dataset, [training], kind.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(kind.seed)
            judge = Judge(list(dataset.attributes), kind=kind).to(device)
            _fit(judge, dataset, training, epochs, kind.name)
        judge.eval()
        about = {
            "attributes": judge.attributes,
            "width": judge.width,
            "scores": _scores(judge, dataset, test),
            "weights": weights,
        }
        half = {key: t.half() if t.ndim > 1 else t for key, t in judge.state_dict().items()}
        checkpoint.write_tensors(folder / kind.file, half, {"judge": json.dumps(about)})
        return folder / kind.file


def _fit(judge: Judge, dataset: Dataset, indices: np.ndarray, epochs: int, name: str) -> None:
    device = judge.head.weight.device
    labels = torch.from_numpy(np.asarray(dataset.labels, bool)[indices]).float().to(device)
    steps = epochs * (len(indices) // BATCH)
    optimiser = torch.optim.AdamW(judge.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    judge.train()
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for _ in range(epochs):
            order = torch.randperm(len(indices))
            for k in range(len(indices) // BATCH):
                where = order[k * BATCH : (k + 1) * BATCH]
                x = worn(dataset.images(indices[where.numpy()]).to(device).float() / 255)
                loss = F.binary_cross_entropy_with_logits(judge.logits(x), labels[where.to(device)])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}")


def worn(x: Tensor) -> Tensor:
    """Half of the images mirrored, each blurred and made noisy by a random amount, as a decoded picture may be."""

    def share() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, device=x.device)

    x = torch.where(share() < 0.5, x.flip(3), x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, blurred, share())
    return (x + 0.04 * share() * torch.randn(x.shape, device=x.device)).clamp(0, 1)


def _scores(judge: Judge, dataset: Dataset, indices: np.ndarray) -> dict[str, dict[str, float]]:
    truth = np.asarray(dataset.labels, bool)[indices]
    p = torch.cat([judge(dataset.images(indices[i : i + 500])) for i in range(0, len(indices), 500)]).cpu().numpy()
    scores = {}
    for i, attribute in enumerate(judge.attributes):
        y, said = truth[:, i], p[:, i] > 0.5
        if y.all() or not y.any():
            continue
        scores[attribute] = {
            "accuracy": float((said == y).mean()),
            "sensitivity": float(said[y].mean()),
            "specificity": float((~said[~y]).mean()),
            "auc": float(roc_auc_score(y, p[:, i])),
            "n": len(y),
            "positives": int(y.sum()),
        }
    return scores


def open_judge(name: str | Path, second: bool = False) -> Judge:
    """The first or the second judge of a bundled name ("faces64") or of a model's folder."""
    kind, folder = SECOND if second else FIRST, checkpoint.folder_of(name)
    path = folder / kind.file
    if not path.exists():
        raise GlowkitError(f"{path}: no {kind.name} there yet; make it with `glowkit judge {name}`")
    tensors, metadata = checkpoint.read_tensors(path)
    try:
        about = checkpoint.read_about(metadata, "judge", ABOUT)
        checkpoint.check_weights(folder, about["weights"])
        fields.check(about["scores"], dict.fromkeys(about["attributes"], fields.Table()), "scores.")
        for attribute, scores in about["scores"].items():
            fields.check(scores, SCORE, f"scores.{attribute}.", required=SCORE)
        judge = Judge(about["attributes"], about["width"], kind)
        checkpoint.check_tensors(tensors, checkpoint.forms_of(judge.state_dict(), half=lambda tensor: tensor.ndim > 1))
        judge.load_state_dict(tensors)
        # Weights that are finite may still be so large that nothing of what they say is.
        if not judge.eval()(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)).isfinite().all():
            raise GlowkitError("its probabilities are not finite")
    except GlowkitError as error:
        raise GlowkitError(
            f"{path}: not a {kind.name} of this model ({error}); make it: `glowkit judge {name}`"
        ) from None
    judge.scores = about["scores"]
    return judge.requires_grad_(False)
