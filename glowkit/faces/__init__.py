"""Procedural faces: named factors in, portraits out, and a CelebA tree on disk made of them.

`population` says what a face is and who there is, `geometry` where its parts are; `canvas`, `portrait`, `parts` and
`hair` paint them, `rendering` puts a picture together, and `tree` writes pictures and lists to disk.
"""

from glowkit.faces.geometry import EYES, landmarks
from glowkit.faces.population import ATTRIBUTES, CONTINUOUS, Factors, counterfactual, factors
from glowkit.faces.rendering import render, render_similar
from glowkit.faces.tree import write_tree

__all__ = [
    "ATTRIBUTES",
    "CONTINUOUS",
    "EYES",
    "Factors",
    "counterfactual",
    "factors",
    "landmarks",
    "render",
    "render_similar",
    "write_tree",
]
