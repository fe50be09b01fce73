"""An independent judge of the procedural faces: OpenCV's stock frontal-face detector.

    python tests/haar.py [N]     share of N faces (default 1,000) in which it finds a face at 128 px

It finds one in 97.5% of real CelebA images; the procedural faces should reach 95%.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import binomtest

from glowkit import faces


def found(indices, seed: int = 0, size: int = 128) -> np.ndarray:
    """Whether the detector finds a face in each picture: bool (n,)."""
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
    out = []
    for start in range(0, len(indices), 100):
        for picture in faces.render(faces.factors(indices[start : start + 100], seed), size):
            grey = cv2.cvtColor(picture.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
            out.append(len(cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=3)) > 0)
    return np.array(out)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    hits = int(found(np.arange(n)).sum())
    ci = binomtest(hits, n).proportion_ci(method="wilson")
    print(f"{hits} of {n} faces found: {hits / n:.1%} (95% CI {ci.low:.1%} to {ci.high:.1%})")
