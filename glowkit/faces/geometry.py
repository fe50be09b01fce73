"""The shape of a procedural head: facial proportions, the projection under yaw and pitch, and the landmarks.

Head coordinates have their origin between the eyes, x to the viewer's right and y down; one unit is the
width of the aligned frame, in which the pupils of a frontal face are 0.258 apart. The front of the face is a
cylinder with an elliptic section, X = A sin t, Z = B cos t; turned by yaw it projects to x = C sin(t + d),
so features and landmarks have closed forms, and the outline, the hair and the neck follow the depth of each.
"""

from __future__ import annotations

import numpy as np

from glowkit.faces.population import Factors

EYES = (
    (0.371, 0.480),
    (0.629, 0.480),
)  # relative eye positions of the aligned frame, as in the original Glow
HALF_EYES = (EYES[1][0] - EYES[0][0]) / 2
SECTION_A, SECTION_B = 0.35, 0.24  # half axes of the face's section
NOSE_RELIEF = 0.09  # how far the tip of the nose stands out of the cylinder


def shape(f: Factors) -> dict[str, np.ndarray]:
    """Lengths of each face in head coordinates, float64 (B,) each."""
    male, young = f["Male"] * 1.0, f["Young"] * 1.0
    chubby, oval = f["Chubby"] * 1.0, f["Oval_Face"] * 1.0
    smile = np.where(f["Smiling"], 0.6 + 0.4 * f["smile"], -0.03 + 0.16 * f["smile"])
    gap = np.where(f["Smiling"], 0.022 + 0.016 * f["mouth_open"], 0.014 + 0.015 * f["mouth_open"])
    gap = np.where(f["Mouth_Slightly_Open"], gap, 0.0)
    sin_yaw, cos_yaw = np.sin(f["yaw"]), np.cos(f["yaw"])
    g: dict[str, np.ndarray] = {
        "smile": smile,
        "gap": gap,
        "width": 0.262 + 0.008 * male + 0.022 * (f["face_width"] - 0.5) + 0.030 * chubby - 0.018 * oval,
        "chin": 0.408 + 0.010 * male + 0.026 * (f["face_length"] - 0.5) + 0.018 * oval + 0.004 * chubby,
        "jaw": 0.04 + 0.20 * male + 0.14 * (f["jaw"] - 0.5) + 0.28 * chubby - 0.14 * oval,
        "nose_y": 0.158
        + 0.018 * (f["nose_length"] - 0.5)
        + 0.006 * (1 - young)
        + 0.010 * f["Big_Nose"]
        + 0.005 * f["Pointy_Nose"],
        "mouth_y": 0.262 + 0.006 * male + 0.012 * (f["mouth_height"] - 0.5),
        "mouth_w": 0.088 + 0.012 * (f["mouth_width"] - 0.5) + 0.004 * male + 0.034 * np.clip(smile, 0, 1),
        "sin_yaw": sin_yaw,
        "sin_pitch": np.sin(f["pitch"]),
        "section": np.hypot(SECTION_A * cos_yaw, SECTION_B * sin_yaw),
        "turn": np.arctan2(SECTION_B * sin_yaw, SECTION_A * cos_yaw),
    }
    g["corner_y"] = g["mouth_y"] - 0.027 * smile
    left, right = (_project(g, sign * HALF_EYES) for sign in (-1, 1))
    g["scale"] = (right - left) / (2 * HALF_EYES)  # head units per frame width: turned faces are enlarged to fit
    g["middle"] = (left + right) / 2
    g["lift"] = 0.22 * g["sin_pitch"]  # how far pitch moves the features down the head
    return g


def _project(g: dict[str, np.ndarray], x: np.ndarray | float) -> np.ndarray:
    """Where the face's surface point X is seen, in head coordinates."""
    return g["section"] * np.sin(np.arcsin(x / SECTION_A) + g["turn"])


def landmarks(f: Factors, size: int) -> np.ndarray:
    """Pixel x, y of left eye, right eye, nose tip, left and right mouth corner in `render(f, size)`.

    float64 (B, 5, 2); left and right are the viewer's, and the centre of the first pixel is (0, 0).
    """
    return relative_landmarks(f) * size - 0.5


def relative_landmarks(f: Factors) -> np.ndarray:
    """The same points relative to the aligned frame, (0, 0) its upper left and (1, 1) its lower right corner."""
    g = shape(f)
    zero = np.zeros(len(f))
    points = [
        (-HALF_EYES + zero, zero, 0.0),
        (HALF_EYES + zero, zero, 0.0),
        (zero, g["nose_y"] - 0.025, NOSE_RELIEF),
    ]
    points += [(sign * g["mouth_w"], g["corner_y"], 0.0) for sign in (-1, 1)]
    out = np.empty((len(f), 5, 2))
    for k, (x, y, relief) in enumerate(points):
        out[:, k, 0] = (_project(g, x) + relief * g["sin_yaw"] - g["middle"]) / g["scale"] + 0.5
        out[:, k, 1] = (y + relief * g["sin_pitch"]) / g["scale"] + EYES[0][1]
    return out
