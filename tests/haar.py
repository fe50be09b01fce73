"""An independent judge of faces, drawn and edited: OpenCV's stock frontal-face detector.

    python tests/haar.py [N]            share of N procedural faces (default 1,000) in which it finds a face
    python tests/haar.py edits [N]      the same for edits: N held-out faces for each attribute and alpha

It finds one in 97.5% of real CelebA images; the procedural faces should reach 95%. Edits are made with the bundled
model, on latents from its own noisy distribution, for every attribute that at least 2% have, on faces without it; the
control is the same faces at alpha = 0.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import glowkit
from glowkit import faces, intervals

ALPHAS = (0.0, 1.0, 2.0, 3.0)


def detects(pictures: torch.Tensor) -> np.ndarray:
    """Whether the detector finds a face in each picture, seen at 128 px: bool (n,), for uint8 (n, 3, H, W)."""
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
    out = []
    for picture in pictures:
        grey = cv2.cvtColor(picture.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        if grey.shape[0] < 128:
            grey = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_CUBIC)
        out.append(len(cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=3)) > 0)
    return np.array(out)


def found(indices, seed: int = 0, size: int = 128) -> np.ndarray:
    """Whether the detector finds a face in each procedural face: bool (n,)."""
    parts = [indices[start : start + 100] for start in range(0, len(indices), 100)]
    return np.concatenate([detects(faces.render(faces.factors(part, seed), size)) for part in parts])


def edits(n: int) -> dict[float, tuple[int, int, int]]:
    """(finite, with a face, edits) at each alpha, over all attributes and n held-out faces of each."""
    model, study = glowkit.load("faces64"), glowkit.open_study("faces64")
    data = glowkit.open_dataset("faces64")
    total = {alpha: (0, 0, 0) for alpha in ALPHAS}
    for attribute in study.attributes:
        if study.count(attribute) < 0.02 * study.n:
            continue
        without = study.held_out[~study.labels[:, study.index(attribute)]][:n]
        z = model.encode(data.images(without), torch.Generator().manual_seed(0))
        direction = torch.from_numpy(study.direction(attribute))
        counts = []
        for alpha in ALPHAS:
            x = model.decode(z + alpha * direction)
            finite = x.flatten(1).isfinite().all(1).numpy()
            seen = np.zeros(len(x), bool)
            if finite.any():
                large = F.interpolate(x[finite], scale_factor=2, mode="bicubic", antialias=True).clamp(0, 1)
                seen[finite] = detects((255 * large).round().to(torch.uint8))
            total[alpha] = tuple(a + b for a, b in zip(total[alpha], (finite.sum(), seen.sum(), len(x)), strict=True))
            counts.append(f"{finite.sum()}/{seen.sum()}")
        print(f"{attribute:20s} finite/face of {len(without)} at alpha 0, 1, 2, 3: {'  '.join(counts)}", flush=True)
    return total


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["edits"]:
        for alpha, (finite, seen, count) in edits(int(words[1]) if len(words) > 1 else 20).items():
            shares = intervals.wilson(finite, count), intervals.wilson(seen, count)
            print(f"alpha {alpha:g}: finite {shares[0]}, with a face {shares[1]}")
    else:
        n = int(words[0]) if words else 1000
        print(f"a face in {intervals.wilson(int(found(np.arange(n)).sum()), n)}")
