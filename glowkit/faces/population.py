"""What a procedural face is made of: CelebA attributes and continuous factors from a counter-based hash.

Face `i` of seed `s` depends on `(s, i)` alone, so access is random and every machine draws the same faces.
Four consecutive faces share an identity: bone structure, skin, hair and sex are drawn from `i // 4`, while
pose, light, expression, clothes and background are drawn from `i`. Probabilities depend on sex and age group
and reproduce CelebA's marginals (Liu et al., 2015) and its main correlations.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from glowkit.errors import GlowkitError

PER_IDENTITY = 4  # faces that share one identity; divides the 50,000 / 5,000 / 5,000 split of faces64

ATTRIBUTES: tuple[str, ...] = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necktie", "Young",
)  # fmt: skip

# Probability of each attribute for (young men, older men, young women, older women). The groups weigh
# .2668, .1500, .5068 and .0764; each row averages to CelebA's marginal.
_GROUPS: dict[str, tuple[float, float, float, float]] = {
    "Arched_Eyebrows": (0.060, 0.032, 0.429, 0.378),
    "Bags_Under_Eyes": (0.287, 0.446, 0.096, 0.165),
    "Bald": (0.016, 0.122, 0.000, 0.000),
    "Bangs": (0.095, 0.027, 0.181, 0.400),
    "Big_Lips": (0.174, 0.110, 0.308, 0.284),
    "Big_Nose": (0.320, 0.549, 0.100, 0.210),
    "Black_Hair": (0.371, 0.158, 0.214, 0.109),
    "Blond_Hair": (0.023, 0.021, 0.227, 0.308),
    "Brown_Hair": (0.202, 0.081, 0.241, 0.221),
    "Bushy_Eyebrows": (0.314, 0.109, 0.080, 0.020),
    "Chubby": (0.041, 0.261, 0.008, 0.044),
    "Double_Chin": (0.025, 0.228, 0.004, 0.046),
    "Eyeglasses": (0.068, 0.219, 0.017, 0.073),
    "Gray_Hair": (0.000, 0.243, 0.000, 0.072),
    "Heavy_Makeup": (0.000, 0.000, 0.685, 0.519),
    "Narrow_Eyes": (0.108, 0.126, 0.114, 0.128),
    "Oval_Face": (0.242, 0.195, 0.343, 0.218),
    "Pale_Skin": (0.028, 0.018, 0.057, 0.051),
    "Pointy_Nose": (0.170, 0.151, 0.369, 0.291),
    "Receding_Hairline": (0.048, 0.242, 0.053, 0.052),
    "Rosy_Cheeks": (0.000, 0.004, 0.112, 0.112),
    "Smiling": (0.373, 0.387, 0.536, 0.690),
    "Straight_Hair": (0.280, 0.216, 0.185, 0.096),
    "Wavy_Hair": (0.164, 0.099, 0.438, 0.515),
    "Wearing_Earrings": (0.018, 0.008, 0.288, 0.483),
    "Wearing_Hat": (0.076, 0.089, 0.027, 0.013),
    "Wearing_Lipstick": (0.006, 0.000, 0.816, 0.747),
    "Wearing_Necktie": (0.105, 0.298, 0.000, 0.000),
}
_MALE, _YOUNG_MAN, _YOUNG_WOMAN = 0.4168, 0.640, 0.869
_BEARD_IN_MEN, _MUSTACHE, _GOATEE, _SHADOW, _SIDEBURNS = 0.396, 0.252, 0.381, 0.528, 0.342

# Continuous factors in natural units. The rest are positions in [0, 1], uniform unless said otherwise.
_POSE = (
    "yaw",
    "pitch",
    "roll",
)  # radians: at most 0.44, 0.14, 0.17; triangular; to the viewer's right, down, clockwise
_IDENTITY = (
    "skin_tone",  # 0 fair .. 1 dark; skewed to fair, conditioned on hair colour
    "hair_tone", "hair_length", "hair_volume", "hair_part", "curl", "face_width", "face_length", "jaw",
    "eye_size", "eye_colour", "eye_tilt", "brow_height", "nose_length", "nose_width", "lip_height",
    "mouth_width", "mouth_height", "glasses_style", "wrinkles",
)  # fmt: skip
_IMAGE = (
    "smile", "mouth_open",  # strength of the expression within its class
    "light_x", "light_y", "light_strength", "warmth", "gaze", "backdrop_hue", "backdrop_value",
    "backdrop_chroma", "backdrop_turn", "backdrop_spread", "bokeh_x", "bokeh_y", "clothes_hue",
    "clothes_value", "neckline", "hat_style", "hat_hue", "makeup_hue", "lip_hue", "beard", "tinted",
    "strands",
)  # fmt: skip
CONTINUOUS: tuple[str, ...] = _POSE + _IDENTITY + _IMAGE


@dataclass(frozen=True)
class Factors:
    """The factors of B faces.

    `indices` int64 (B,), `attributes` bool (B, len(ATTRIBUTES)), `continuous` float64 (B, len(CONTINUOUS)).
    `factors["Smiling"]` and `factors["yaw"]` are columns; `factors[2:5]` or `factors[index_array]` are faces.
    """

    seed: int
    indices: np.ndarray
    attributes: np.ndarray
    continuous: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: str | int | slice | np.ndarray) -> Factors | np.ndarray:
        if isinstance(key, str):
            if key in ATTRIBUTES:
                return self.attributes[:, ATTRIBUTES.index(key)]
            return self.continuous[:, CONTINUOUS.index(key)]
        key = slice(key, key + 1 or None) if isinstance(key, int) else key
        return replace(
            self, indices=self.indices[key], attributes=self.attributes[key], continuous=self.continuous[key]
        )

    @property
    def identities(self) -> np.ndarray:
        """Identity numbers, from 1 as in CelebA's identity file: int64 (B,)."""
        return self.indices // PER_IDENTITY + 1


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al., 2014): a bijection of uint64 that scatters neighbouring
    counters."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, counters: np.ndarray, name: str) -> np.ndarray:
    """One number in [0, 1) for each counter, from (seed, counter, name) alone."""
    key = np.array([seed % 2**64], dtype=np.uint64)
    slot = np.uint64(zlib.crc32(name.encode()))  # by name: a new factor leaves the others as they were
    return (_mix(_mix(_mix(key) + counters.astype(np.uint64)) + slot) >> np.uint64(11)) * 2.0**-53


def factors(indices: int | slice | range | list[int] | np.ndarray, seed: int = 0) -> Factors:
    """The factors of faces `indices` (non-negative integers) of a seed. Face i depends on (seed, i) alone."""
    index = np.atleast_1d(np.asarray(indices))
    if index.ndim != 1 or index.dtype.kind not in "iu" or (len(index) and index.min() < 0):
        raise GlowkitError("face indices must be a list of non-negative integers, e.g. faces.factors(range(10))")
    index = index.astype(np.int64)
    if not -(2**63) <= seed < 2**64:
        raise GlowkitError(f"seed {seed}: give a whole number of up to 64 bits")

    def image(name: str) -> np.ndarray:
        return uniform(seed, index, name)

    def identity(name: str) -> np.ndarray:
        return uniform(seed, index // PER_IDENTITY, "identity " + name)

    a: dict[str, np.ndarray] = {}
    a["Male"] = male = identity("Male") < _MALE
    a["Young"] = young = identity("Young") < np.where(male, _YOUNG_MAN, _YOUNG_WOMAN)
    group = np.where(male, 0, 2) + np.where(young, 0, 1)
    p = {name: np.array(row)[group] for name, row in _GROUPS.items()}

    for name in ("Arched_Eyebrows", "Bags_Under_Eyes", "Big_Lips", "Big_Nose", "Bushy_Eyebrows", "Chubby",
                 "Narrow_Eyes", "Oval_Face", "Pale_Skin", "Pointy_Nose"):  # fmt: skip
        a[name] = identity(name) < p[name]
    # a double chin mostly comes with a chubby face: half of the time both read the same number
    shared = identity("Double_Chin shared") < 0.5
    a["Double_Chin"] = np.where(shared, identity("Chubby"), identity("Double_Chin")) < p["Double_Chin"]
    for name in ("Eyeglasses", "Smiling", "Wearing_Earrings", "Wearing_Necktie"):
        a[name] = image(name) < p[name]
    makeup = image("Heavy_Makeup")  # heavy make-up includes lipstick
    a["Heavy_Makeup"], a["Wearing_Lipstick"] = makeup < p["Heavy_Makeup"], makeup < p["Wearing_Lipstick"]
    smiling = a["Smiling"]
    a["Mouth_Slightly_Open"] = image("Mouth_Slightly_Open") < np.where(smiling, 0.76, 0.226)
    a["High_Cheekbones"] = image("High_Cheekbones") < np.where(smiling, 0.80, 0.134)
    a["Rosy_Cheeks"] = image("Rosy_Cheeks") < p["Rosy_Cheeks"] * np.where(smiling, 1.6, 0.26)

    # one hairline out of four; bald, receding and bangs belong to the identity, a hat to the picture
    u = identity("hairline")
    a["Bald"] = u < p["Bald"]
    u = u - p["Bald"]
    a["Receding_Hairline"] = (u >= 0) & (u < p["Receding_Hairline"] / (1 - p["Wearing_Hat"]))
    u = u - p["Receding_Hairline"] / (1 - p["Wearing_Hat"])
    a["Bangs"] = (u >= 0) & (u < p["Bangs"] / (1 - p["Wearing_Hat"]))
    hat = a["Wearing_Hat"] = ~a["Bald"] & (image("Wearing_Hat") < p["Wearing_Hat"] / (1 - p["Bald"]))
    a["Receding_Hairline"] &= ~hat
    a["Bangs"] &= ~hat
    _one_of(a, ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"), identity("hair colour"), p, 1 - p["Bald"])
    _one_of(
        a,
        ("Straight_Hair", "Wavy_Hair"),
        identity("hair texture"),
        p,
        (1 - p["Bald"]) * (1 - p["Wearing_Hat"]),
    )
    for name in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Straight_Hair", "Wavy_Hair"):
        a[name] &= ~a["Bald"]
    a["Straight_Hair"] &= ~hat
    a["Wavy_Hair"] &= ~hat

    beard = male & (image("beard grown") < _BEARD_IN_MEN)
    a["Mustache"] = beard & (image("Mustache") < _MUSTACHE)
    a["Goatee"] = beard & (image("Goatee") < _GOATEE)
    a["Sideburns"] = beard & (image("Sideburns") < _SIDEBURNS)
    other = a["Mustache"] | a["Goatee"] | a["Sideburns"]
    a["5_o_Clock_Shadow"] = beard & ((image("5_o_Clock_Shadow") < _SHADOW) | ~other)
    a["No_Beard"] = ~beard

    c = {name: identity(name) for name in _IDENTITY} | {name: image(name) for name in _IMAGE}
    for name, limit in zip(_POSE, (0.44, 0.14, 0.17), strict=True):
        c[name] = limit * (image(name) + image(name + " too") - 1)
    # fair hair grows mostly on fair skin, black hair on any
    tone = np.select([a["Pale_Skin"], a["Blond_Hair"], a["Black_Hair"]], [0.1, 0.45, 1.0], 0.62)
    c["skin_tone"] = tone * identity("skin_tone") ** np.where(a["Black_Hair"], 1.0, 1.4)
    return Factors(
        seed,
        index,
        np.stack([a[name] for name in ATTRIBUTES], 1),
        np.stack([c[name] for name in CONTINUOUS], 1),
    )


def _one_of(a: dict, names: tuple[str, ...], u: np.ndarray, p: dict, given: np.ndarray) -> None:
    """At most one of the attributes, each with its probability divided by that of the condition `given`."""
    for name in names:
        a[name] = (u >= 0) & (u < p[name] / given)
        u = u - p[name] / given


# What turning an attribute on (True) or off (False) turns off with it, so that no impossible face is drawn.
_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
_BEARDS = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
_TOP = ("Bangs", "Receding_Hairline", "Wavy_Hair", "Straight_Hair")
_TURNS_OFF: dict[tuple[str, bool], tuple[str, ...]] = {
    **{(name, True): tuple(other for other in _COLOURS if other != name) + ("Bald",) for name in _COLOURS},
    ("Straight_Hair", True): ("Wavy_Hair", "Bald", "Wearing_Hat"),
    ("Wavy_Hair", True): ("Straight_Hair", "Bald", "Wearing_Hat"),
    ("Bangs", True): ("Receding_Hairline", "Bald", "Wearing_Hat"),
    ("Receding_Hairline", True): ("Bangs", "Bald", "Wearing_Hat"),
    ("Bald", True): _COLOURS + _TOP + ("Wearing_Hat",),
    ("Wearing_Hat", True): _TOP + ("Bald",),
    ("Male", False): _BEARDS + ("Bald", "Wearing_Necktie"),
    ("Male", True): ("Heavy_Makeup", "Wearing_Lipstick", "Rosy_Cheeks"),
    ("Heavy_Makeup", True): ("Mustache", "Goatee", "Sideburns", "5_o_Clock_Shadow"),
    ("Wearing_Lipstick", False): ("Heavy_Makeup",),
    ("No_Beard", True): _BEARDS,
}
_TURNS_ON: dict[tuple[str, bool], tuple[str, ...]] = {
    **{(name, True): ("Male",) for name in _BEARDS + ("Bald", "Wearing_Necktie")},
    ("Heavy_Makeup", True): ("Wearing_Lipstick",),
    ("No_Beard", False): ("Male",),
}


def counterfactual(factors: Factors, **changes: bool | float | np.ndarray) -> Factors:
    """The same faces with chosen factors changed; render them again for the true picture of the change.

    Attributes take a bool, continuous factors a number (poses in radians, the rest in [0, 1]); each may also
    be an array with one value a face. What contradicts a change is changed with it: `Male=False` shaves,
    `Black_Hair=True` turns the other colours off. Strengths come from the face's own numbers: `Smiling=True`
    gives each face its smile.
    """
    unknown = [name for name in changes if name not in ATTRIBUTES + CONTINUOUS]
    if unknown:
        raise GlowkitError(
            f"unknown factor {unknown[0]!r}; attributes: {', '.join(ATTRIBUTES)}; continuous: {', '.join(CONTINUOUS)}"
        )
    attributes, continuous = factors.attributes.copy(), factors.continuous.copy()
    column = {name: i for i, name in enumerate(ATTRIBUTES)}
    for name, value in changes.items():
        if name in CONTINUOUS:
            limit = (-0.6, 0.6) if name in _POSE else (0.0, 1.0)
            if not np.all((np.asarray(value) >= limit[0]) & (np.asarray(value) <= limit[1])):
                raise GlowkitError(f"{name} = {value} is outside {limit[0]:g} .. {limit[1]:g}")
            continuous[:, CONTINUOUS.index(name)] = value
            continue
        wanted = np.broadcast_to(np.asarray(value, dtype=bool), len(factors))
        changed = wanted != attributes[:, column[name]]
        for on in (True, False):
            rows = changed & (wanted == on)
            for other in _TURNS_OFF.get((name, on), ()):
                attributes[rows, column[other]] = False
            for other in _TURNS_ON.get((name, on), ()):
                attributes[rows, column[other]] = True
        attributes[:, column[name]] = wanted
    # explicit wishes win over what another change implied; a beard is grown exactly if some of it shows
    for name, value in changes.items():
        if name in column:
            attributes[:, column[name]] = value
    grown = attributes[:, [column[name] for name in _BEARDS]].any(1)
    if "No_Beard" in changes:
        wanted = ~np.broadcast_to(np.asarray(changes["No_Beard"], dtype=bool), len(factors))
        attributes[wanted & ~grown, column["5_o_Clock_Shadow"]] = True
    else:
        attributes[:, column["No_Beard"]] = ~grown
    return replace(factors, attributes=attributes, continuous=continuous)
