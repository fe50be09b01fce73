"""A second opinion on edits: BlazeFace, a small neural detector trained on real people, hats and dark glasses included.

    python tests/haar.py edits 20 faces64 edits.npz     writes the edits
    python tests/blazeface.py edits.npz                 says in how many there is a face

It needs `pip install mediapipe==0.10.14` (the weights are in the package), best in an environment of its own. Its
score is read at 0.85. That was fixed on 200 procedural faces before it had seen an edit: all 200 are above it, as are
100 of 100 with eyeglasses and 100 of 100 with hats; none of the 200 is when upside down, or in 16 shuffled tiles.
"""

import sys
from collections import defaultdict

import mediapipe
import numpy as np
from PIL import Image

THRESHOLD = 0.85


def scores(pictures: np.ndarray) -> np.ndarray:
    """The best score of a face in each picture, uint8 (n, H, W, 3), shown at 160 px on grey: (n,), 0 if none."""
    detector = mediapipe.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5)
    found = []
    for picture in pictures:
        canvas = np.full((256, 256, 3), 127, np.uint8)
        canvas[48:208, 48:208] = np.asarray(Image.fromarray(picture).resize((160, 160), Image.Resampling.BICUBIC))
        faces = detector.process(canvas).detections or []
        found.append(max((face.score[0] for face in faces), default=0.0))
    return np.array(found)


if __name__ == "__main__":
    seen = defaultdict(list)
    for name, pictures in np.load(sys.argv[1]).items():
        attribute, alpha = name.split()
        there = scores(pictures) > THRESHOLD
        seen[float(alpha)].append(there)
        if not there.all():
            print(f"{attribute} at alpha {alpha}: a face in {there.sum()} of {len(there)}")
    for alpha, parts in seen.items():
        there = np.concatenate(parts)
        print(f"alpha {alpha:g}: a face in {there.sum()} of {len(there)}, {there.mean():.4f}")
