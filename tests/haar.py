"""An independent judge of faces, drawn and edited: OpenCV's stock frontal-face detector.

    python tests/haar.py [N]                      share of N procedural faces (default 1,000) in which it finds a face
    python tests/haar.py edits [N [MODEL [OUT]]]  the same for edits: N held-out faces for each attribute and alpha

It finds one in 97.5% of real CelebA images; the procedural faces should reach 95%. Edits are made with the bundled
model or MODEL, the folder of one with its study, on latents from its own noisy distribution, for every attribute that
at least 2% have, on faces without it; the control is the same faces at alpha = 0. Beside the faces it counts what the
decoder says before pixels are clamped: how many values lie outside [0, 1] by more than a hundredth. OUT, a .npz file,
gets the pictures, for another detector (tests/blazeface.py).
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


def edits(n: int, name: str = "faces64", out: str = "") -> dict[float, np.ndarray]:
    """(edits, 3) at each alpha, over all attributes and n held-out faces of each: finite, with a face, share of
    values out of range. The pictures go to the .npz file `out`, one array an attribute and alpha."""
    model, study = glowkit.load(name), glowkit.open_study(name)
    data = glowkit.open_dataset(study.data, size=model.config.image_size)
    total, kept = {alpha: [] for alpha in ALPHAS}, {}
    for attribute in study.attributes:
        if study.count(attribute) < 0.02 * study.n:
            continue
        without = study.held_out[~study.labels[:, study.index(attribute)]][:n]
        z = model.encode(data.images(without), torch.Generator().manual_seed(0))
        direction = torch.from_numpy(study.direction(attribute))
        counts = []
        for alpha in ALPHAS:
            with torch.no_grad():
                x = model.inverse(z + alpha * direction) + 0.5
            finite = x.flatten(1).isfinite().all(1).numpy()
            large = F.interpolate(x.nan_to_num(0.0).clamp(0, 1), size=(128, 128), mode="bicubic", antialias=True)
            seen = detects((255 * large.clamp(0, 1)).round().to(torch.uint8)) & finite
            kept[f"{attribute} {alpha:g}"] = (255 * x.nan_to_num(0.0).clamp(0, 1)).round().byte().permute(0, 2, 3, 1)
            outside = 1 - ((x > -0.01) & (x < 1.01)).flatten(1).float().mean(1).numpy()
            total[alpha].append(np.stack([finite, seen, outside], 1))
            counts.append(f"{finite.sum()}/{seen.sum()}")
        print(f"{attribute:20s} finite/face of {len(without)} at alpha 0, 1, 2, 3: {'  '.join(counts)}", flush=True)
    if out:
        np.savez(out, **kept)
    return {alpha: np.concatenate(parts) for alpha, parts in total.items()}


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["edits"]:
        for alpha, found in edits(int(words[1]) if len(words) > 1 else 20, *words[2:4]).items():
            finite, seen = (intervals.wilson(int(column.sum()), len(found)) for column in found.T[:2])
            outside = intervals.mean(found[:, 2])
            print(f"alpha {alpha:g}: finite {finite}, with a face {seen}, values out of range {outside}")
    else:
        n = int(words[0]) if words else 1000
        print(f"a face in {intervals.wilson(int(found(np.arange(n)).sum()), n)}")
