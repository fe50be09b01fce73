"""The picture of the whole argument: a face, its latent on a thin shell, the arrow, the edited face, and the truth.

Everything in it is measured on one held-out face. The shell is drawn to scale: a latent z has a place along the
direction, z . u with u its unit vector, and a length |z - (z . u) u| in all other dimensions together. In these two
coordinates every point keeps its norm, and an edit moves along the first alone.
"""

import io
import math
from string import Template
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from glowkit import affine, checkpoint, edits
from glowkit.book.widgets import address
from glowkit.dataset import open_dataset
from glowkit.image_flow import ImageFlow
from glowkit.pixels import to_pixels
from glowkit.study import NOISE, Study, open_study

MODEL, ATTRIBUTE, FACE = "faces64", "Smiling", 55068  # a face of the hero
WORD, WITHOUT = "a smile", "no smile"
AMPLIFIED = 6  # differences are small
ENLARGED = 3


class Measured(NamedTuple):
    """What the picture shows. Pictures are uint8 (H, W, 3); points are (along the direction, length of the rest)."""

    face: np.ndarray
    edited: np.ndarray
    truth: np.ndarray
    difference: np.ndarray
    points: dict[str, tuple[float, float]]
    radius: float
    """sqrt(D), where the Gaussian says that latents are."""
    shell: tuple[float, float]
    """Norms between which 95% of the study's held-out latents are."""
    border: float
    """Where along the direction one half-space ends and the other begins: half-way between the class means."""
    error: float
    """Root mean square error of the edited face to the truth, pixels in [0, 1]."""
    idle: float
    """That of the face as it is: the control."""


def measure(flow: ImageFlow, study: Study) -> Measured:
    """One face, edited and drawn again with the attribute; all encoded with the same noise."""
    album = open_dataset(MODEL)
    pictures = torch.cat([album.images([FACE]), album.counterfactual([FACE], **{ATTRIBUTE: True})])
    face, truth = flow.quantise(pictures)
    z, target = (flow.encode(x[None], noise=torch.Generator().manual_seed(0)) for x in pictures)
    direction = study.direction(ATTRIBUTE)
    moved = affine.add(z, direction)
    edited = flow.quantise(flow.decode(moved))[0]
    unit = torch.from_numpy(direction / np.linalg.norm(direction))
    middle = (study.class_mean(ATTRIBUTE) + study.class_mean(ATTRIBUTE, positive=False)) / 2
    shown = to_pixels(torch.stack([face, edited, truth, (1 - AMPLIFIED * (edited - truth).abs()).clamp(0, 1)]))
    return Measured(
        *shown,
        points={name: place(v[0], unit) for name, v in {"face": z, "edited": moved, "truth": target}.items()},
        radius=math.sqrt(flow.dim),
        shell=tuple(np.quantile(np.linalg.norm(study.norms[NOISE], axis=1), (0.025, 0.975)).tolist()),
        border=float(unit.numpy() @ middle),
        error=float(edits.rms_error(flow, edited[None], truth[None])[0]),
        idle=float(edits.rms_error(flow, face[None], truth[None])[0]),
    )


def place(z: torch.Tensor, unit: torch.Tensor) -> tuple[float, float]:
    """(z . u, |z - (z . u) u|) of a latent z (D,) and a unit vector u (D,)."""
    along = float(z @ unit)
    return along, float((z - along * unit).norm())


# ------------------------------------------------------------------------------------------------------ the page

SCALE = 17  # the picture's units for each unit of latent space
# The window, below it the whole shell.
WIDE, HIGH, BELOW, SMALL = 300, 150, 104, 40


def html() -> str:
    """The page's part: measured, drawn, and told."""
    flow, study = checkpoint.load(MODEL), open_study(MODEL)
    found = measure(flow, study)
    (x0, y0), (x1, _) = found.points["face"], found.points["edited"]
    return _PAGE.substitute(
        {name: _address(getattr(found, name)) for name in ("face", "edited", "truth", "difference")},
        shell=drawing(found),
        word=WORD,
        amplified=AMPLIFIED,
        dim=f"{flow.dim:,}",
        before=f"{math.hypot(x0, y0):.1f}",
        after=f"{math.hypot(x1, y0):.1f}",
        step=f"{x1 - x0:.1f}",
        error=f"{found.error:.3f}",
        idle=f"{found.idle:.3f}",
    )


def drawing(found: Measured) -> str:
    """The shell as SVG: a window on it to scale, and below it the whole, to a scale of its own."""
    middle = sum(found.shell) / 2

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return WIDE / 2 + SCALE * (point[0] - found.border), HIGH / 2 - SCALE * (point[1] - middle)

    x, y = at((0, 0))
    circles = {
        name: f'cx="{x:.1f}" cy="{y:.1f}" r="{radius * SCALE:.1f}"'
        for name, radius in (("outer", found.shell[1]), ("inner", found.shell[0]), ("ideal", found.radius))
    }
    places = {name: at(point) for name, point in found.points.items()}
    coordinates = {
        f"{name[0]}{axis}": f"{v:.1f}" for name, p in places.items() for axis, v in zip("xy", p, strict=True)
    }
    whole = SMALL / found.radius  # the scale of the small picture
    side = whole * WIDE / SCALE
    centre = HIGH + BELOW - SMALL - 4
    return _DRAWING.substitute(
        circles | coordinates,
        wide=WIDE,
        high=HIGH,
        tall=HIGH + BELOW,
        half=WIDE / 2,
        tip=f"{places['edited'][0] - 7:.1f}",
        small=SMALL,
        centre=centre,
        peak=centre - SMALL,
        across=2 * SMALL,
        thick=f"{whole * (found.shell[1] - found.shell[0]):.2f}",
        left=f"{(WIDE - side) / 2:.2f}",
        right=f"{(WIDE + side) / 2:.2f}",
        top=f"{centre - whole * middle - side * HIGH / WIDE / 2:.2f}",
        side=f"{side:.2f}",
        rise=f"{side * HIGH / WIDE:.2f}",
        radius=f"{found.radius:.0f}",
        without=WITHOUT,
        word=WORD,
    )


def _address(pixels: np.ndarray) -> str:
    """A picture, enlarged, as an address that holds it all."""
    size = ENLARGED * len(pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS).save(buffer, "webp", quality=85, method=6)
    return address(buffer.getvalue())


_DRAWING = Template("""\
<svg viewBox="0 0 $wide $tall" role="img" aria-label="A window on a thin shell of radius square root of D.
 A vertical line parts it: no smile on its left, a smile on its right. The face's latent lies on the left; an arrow
 takes it across the line, along the shell, to where the latent of the true face lies too.">
<defs>
<clipPath id="argument-window"><rect width="$wide" height="$high" rx="6"/></clipPath>
<mask id="argument-shell"><circle $outer fill="#fff"/><circle $inner fill="#000"/></mask>
</defs>
<g clip-path="url(#argument-window)">
<rect width="$half" height="$high" class="ground"/>
<rect x="$half" width="$half" height="$high" class="other"/>
<rect width="$wide" height="$high" class="band" mask="url(#argument-shell)"/>
<circle $ideal class="ideal"/>
</g>
<path d="M$half 0V$high" class="border"/>
<path d="M0 ${high}L$left ${top}M$wide ${high}L$right $top" class="zoom"/>
<rect width="$wide" height="$high" rx="6" class="frame"/>
<path d="M$half ${peak}a$small $small 0 0 0 0 ${across}z" class="ground"/>
<path d="M$half ${peak}a$small $small 0 0 1 0 ${across}z" class="other"/>
<circle cx="$half" cy="$centre" r="$small" class="whole" style="stroke-width: $thick"/>
<path d="M$half ${peak}v$across" class="border"/>
<rect x="$left" y="$top" width="$side" height="$rise" class="spot"/>
<text x="$half" y="$centre" dx="-52" dy="-.3em" text-anchor="end" class="quiet">a thin</text>
<text x="$half" y="$centre" dx="-52" dy=".9em" text-anchor="end" class="quiet">shell</text>
<text x="$half" y="$centre" dx="52" dy="-.3em" class="quiet">radius</text>
<text x="$half" y="$centre" dx="52" dy=".9em" class="quiet">\u221a<tspan class="math">D</tspan> \u2248 $radius</text>
<text x="12" y="22">$without</text>
<text x="$wide" dx="-12" y="22" text-anchor="end">$word</text>
<path d="M$fx ${fy}H$tip" class="arrow"/>
<path d="M$ex ${ey}l-11 -5v10z" class="tip"/>
<circle cx="$fx" cy="$fy" r="5" class="face"/>
<circle cx="$tx" cy="$ty" r="5" class="truth"/>
<text x="$fx" y="$fy" dy="22" text-anchor="middle"><tspan class="math">f</tspan>(face)</text>
<text x="$half" y="$fy" dx="-6" dy="-9" text-anchor="end" class="moved">+ <tspan class="math">\u03b4</tspan></text>
<text x="$tx" y="$ty" dy="-12" text-anchor="middle" class="true">truth</text>
</svg>""")

_PAGE = Template("""\
<style>
.glowkit-argument { --arrow: #0072b2; --true: #00795a; margin: 1.5em auto; max-width: 46rem }
html[data-theme="dark"] .glowkit-argument { --arrow: #56b4e9; --true: #2fd3a3 }
.glowkit-argument .steps { display: grid; gap: .4rem .5rem; align-items: center; justify-items: center;
  grid-template-columns: 7.4rem 3.6rem 1fr 3.6rem 7.4rem;
  grid-template-areas: "face encode shell decode edited" "again again truth minus error" }
.glowkit-argument .steps > * { text-align: center; line-height: 1.3; font-size: .9rem }
.glowkit-argument img { display: block; width: 7.4rem; height: 7.4rem; border-radius: .4rem; margin: 0 auto .25rem }
.glowkit-argument svg { width: 100%; max-width: 21rem; font-size: 13px }
.glowkit-argument svg text { fill: currentColor }
.glowkit-argument .math { font-style: italic; font-family: MJXZERO, "Times New Roman", serif; font-size: 1.15em;
  line-height: 1 }
.glowkit-argument .go { font-size: 1.9rem; line-height: 1; display: block; color: var(--arrow) }
.glowkit-argument .again { align-self: stretch; width: 100%; position: relative; padding-left: 4.4rem }
.glowkit-argument .again span { display: block; position: absolute; bottom: calc(50% + .4rem); right: .6rem;
  left: 4.4rem; text-align: left }
.glowkit-argument .again::before { content: ""; position: absolute; left: 3.7rem; top: 0; bottom: 50%; right: .6rem;
  border: solid var(--true); border-width: 0 0 3px 3px; border-bottom-left-radius: .6rem }
.glowkit-argument .again::after { content: ""; position: absolute; right: 0; bottom: calc(50% - 5px);
  border: 6.5px solid transparent; border-left: 12px solid var(--true); border-right: 0 }
.glowkit-argument .true, .glowkit-argument svg .true { color: var(--true); fill: var(--true) }
.glowkit-argument svg .moved { fill: var(--arrow) }
.glowkit-argument .ground { fill: currentColor; opacity: .05 }
.glowkit-argument .other { fill: #e69f00; opacity: .16 }
.glowkit-argument .band { fill: currentColor; opacity: .13 }
.glowkit-argument .ideal { fill: none; stroke: currentColor; opacity: .6 }
.glowkit-argument .border { stroke: currentColor; stroke-dasharray: 5 4; opacity: .7 }
.glowkit-argument .frame { fill: none; stroke: currentColor; opacity: .35 }
.glowkit-argument .zoom { fill: none; stroke: currentColor; opacity: .35 }
.glowkit-argument .whole { fill: none; stroke: currentColor; opacity: .5 }
.glowkit-argument .spot { fill: var(--arrow) }
.glowkit-argument .quiet { opacity: .8 }
.glowkit-argument .arrow { stroke: var(--arrow); stroke-width: 3 }
.glowkit-argument .tip { fill: var(--arrow) }
.glowkit-argument .face { fill: currentColor }
.glowkit-argument .truth { fill: none; stroke: var(--true); stroke-width: 2.5 }
.glowkit-argument figcaption { margin-top: .8em; text-align: left; font-size: .92em }
@media (max-width: 640px) {
  .glowkit-argument .steps { grid-template-columns: 1fr 1fr 1fr;
    grid-template-areas: "face encode ." "shell shell shell" ". decode edited" "truth minus error" }
  .glowkit-argument .encode .go { transform: rotate(90deg) }
  .glowkit-argument .again { display: none }
}
</style>
<figure class="glowkit-argument">
<div class="steps">
<div style="grid-area: face">
<img src="$face" width="118" height="118" alt="A drawn face that does not smile">a face</div>
<div style="grid-area: encode" class="encode">
<span class="go" aria-hidden="true">\u2192</span>encode<br><span class="math">f</span></div>
<div style="grid-area: shell; width: 100%">$shell</div>
<div style="grid-area: decode">
<span class="go" aria-hidden="true">\u2192</span>decode<br><span class="math">f</span><sup>\u22121</sup></div>
<div style="grid-area: edited">
<img src="$edited" width="118" height="118" alt="The same face, smiling">edited</div>
<div style="grid-area: again" class="again true"><span>the program draws the same face again, with $word</span></div>
<div style="grid-area: truth">
<img src="$truth" width="118" height="118" alt="The face as the program draws it with a smile">
<span class="true">the truth</span></div>
<div style="grid-area: minus"><span class="go" aria-hidden="true">\u2194</span>error<br>$error</div>
<div style="grid-area: error">
<img src="$difference" width="118" height="118"
 alt="Their difference: strong at the mouth, faint lines and specks all over the picture">
edited \u2212 truth, \u00d7 $amplified</div>
</div>
<figcaption>The whole argument, on one held-out face. Encoded, it is a point near a sphere in $dim dimensions;
the window shows the place along <span class="math">\u03b4</span> against the length of all the rest, to scale, and the
grey band holds 95% of held-out faces. One vector <span class="math">\u03b4</span>, the same for everybody, takes it
$step across the border, half-way between faces with and without $word; its norm was $before and is $after. Decoded, it
smiles. The program can also draw the truth. From it the edited face is $error away (root mean square, pixels in
[0, 1]), and the face left alone $idle: the vector brings more than $word.</figcaption>
</figure>
""")
