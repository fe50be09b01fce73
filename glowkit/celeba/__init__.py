"""CelebA as people have it: the tree of its files, eye-aligned crops, what is known of it, and how to get it.

`files` and `archives` read files, `pictures` opens pictures of any kind, `lists` has what is said of images, `places`
finds all of them, `alignment` crops by the eyes, and `tree` puts these together. Above them, `check` says what is
there, `cropping` crops a whole tree, `fetch` gets one, and `facts` has the official counts.
"""

from glowkit.celeba import pictures
from glowkit.celeba.alignment import EYES, check_size, crop, similarity
from glowkit.celeba.files import File
from glowkit.celeba.tree import SPLITS, Tree, crop_file, frame_eyes, framed, own_splits, read, write_annotations

__all__ = [
    "EYES",
    "SPLITS",
    "File",
    "Tree",
    "check_size",
    "crop",
    "crop_file",
    "frame_eyes",
    "framed",
    "own_splits",
    "pictures",
    "read",
    "similarity",
    "write_annotations",
]
