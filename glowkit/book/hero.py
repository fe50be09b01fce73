"""The hero of the first page: three faces, a choice of vectors, and a slider that adds more and more of one.

Every frame is the model's: the face's latent, encoded with noise as in training, plus alpha times a study's direction,
decoded. The frames of a model and a vector are one picture, a *film*: a row for each alpha, a column for each face.
The page shows one row at a time, without a kernel, a network or a server; without JavaScript two rows stand still.
"""

from html import escape
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glowkit import affine, checkpoint, escaping
from glowkit.book.pictures import open_pictures
from glowkit.files import replacing
from glowkit.image_flow import ImageFlow
from glowkit.pixels import to_pixels
from glowkit.study import open_study

# Held-out faces that lack all of the attributes; chosen by eye, as faces on which the six vectors work. The chapters
# show faces as they come.
FACES = {"faces64": (55101, 55059, 55068), "celeba64": (128, 63, 53)}
MODELS = {"faces64": "drawn by a program", "celeba64": "samples of a model of photographs"}
WISHES = {
    "Smiling": "a smile",
    "Eyeglasses": "glasses",
    "Blond_Hair": "blond hair",
    "Gray_Hair": "grey hair",
    "Bangs": "a fringe",
    "Male": "a man\u2019s face",
}
ALPHAS = [round(k / 10, 1) for k in range(-5, 16)]
ENLARGED = 2  # before it is compressed: a browser's own enlargement of 64 pixels is coarse
FOLDER = "hero"  # of the films, within the page's static files


def latents(flow: ImageFlow, name: str) -> Tensor:
    """(3, D): the latents of the faces of a model."""
    pictures = open_pictures(name).images(FACES[name])
    return flow.encode(pictures, noise=torch.Generator().manual_seed(0))


def frames(flow: ImageFlow, z: Tensor, direction: np.ndarray) -> np.ndarray:
    """uint8 (len(ALPHAS), N, H, W, 3): latents z (N, D) with each alpha's share of a direction (D,), decoded."""
    return np.stack([to_pixels(flow.decode(affine.add(z, direction, alpha))) for alpha in ALPHAS])


def enlarged(pixels: np.ndarray) -> Image.Image:
    """Faces uint8 (N, H, W, 3) beside each other, each enlarged by itself: no face colours its neighbour's edge."""
    size = ENLARGED * pixels.shape[1]
    faces = [np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.LANCZOS)) for face in pixels]
    return Image.fromarray(np.concatenate(faces, axis=1))


def film(pixels: np.ndarray) -> Image.Image:
    """What `frames` returns as one picture, a row for each alpha."""
    return Image.fromarray(np.concatenate([np.asarray(enlarged(row)) for row in pixels]))


def write(folder: Path, static: str) -> str:
    """Write the films and the still into a folder; returns the page's part, which finds them at the address `static`.

    The still is the first film's rows at alpha 0 and 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FACES:
        flow, study = checkpoint.load(name), open_study(name)
        z = latents(flow, name)
        for attribute in WISHES:
            pixels = frames(flow, z, study.direction(attribute))
            _save(film(pixels), folder / f"{name}-{attribute}.webp")
            if name == next(iter(FACES)) and attribute == next(iter(WISHES)):
                _save(film(pixels[[ALPHAS.index(0), ALPHAS.index(1)]]), folder / "still.webp")
    return html(static)


def html(static: str) -> str:
    """The page's part: pictures and controls, their style and their script."""
    data = {
        "films": {f"{name} {attribute}": f"{static}/{name}-{attribute}.webp" for name in FACES for attribute in WISHES},
        "alphas": ALPHAS,
        "words": WISHES,
        "faces": MODELS,
    }
    return _PAGE.substitute(
        static=escape(static),
        models=_choices("hero-model", MODELS),
        wishes=_choices("hero-wish", WISHES),
        last=len(ALPHAS) - 1,
        zero=ALPHAS.index(0),
        width=ENLARGED * 64 * 3,
        height=ENLARGED * 64 * 2,
        count=len(ALPHAS),
        marks="".join(
            f'<span style="left:{100 * k / (len(ALPHAS) - 1):g}%">{text}</span>'
            for k, text in ((ALPHAS.index(0), "0"), (ALPHAS.index(0.5), "\u00bd"), (ALPHAS.index(1), "1"))
        ),
        data=escaping.script(data),
    )


def _choices(group: str, words: dict[str, str]) -> str:
    """Radio buttons, the first one chosen."""
    return "\n".join(
        f'<label><input type="radio" name="{group}" value="{escape(value)}"{" checked" * (k == 0)}>'
        f"<span>{escape(word)}</span></label>"
        for k, (value, word) in enumerate(words.items())
    )


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        picture.save(file, "webp", quality=70, method=6)


# Colours and fonts are the page's, in light and in dark. Until the script has a film to show, and on paper, the still
# is what there is.
_PAGE = Template("""\
<style>
.glowkit-hero { margin: 1.2em auto 1em; max-width: 46rem }
.glowkit-hero img, .glowkit-hero canvas { display: block; width: 100%; border-radius: .5rem }
.glowkit-hero img { height: auto }
.glowkit-hero canvas { aspect-ratio: 3; cursor: ew-resize; touch-action: pan-y }
.glowkit-hero fieldset { border: 0; margin: .8em 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .4em;
  justify-content: center }
.glowkit-hero legend { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.glowkit-hero fieldset label { position: relative; cursor: pointer }
.glowkit-hero fieldset input { position: absolute; inset: 0; margin: 0; opacity: 0; cursor: pointer }
.glowkit-hero fieldset span { display: block; padding: .3em .9em; border-radius: 2em; line-height: 1.4;
  border: 1px solid var(--pst-color-border, #bbb); color: var(--pst-color-text-base, inherit) }
.glowkit-hero fieldset span:hover { border-color: var(--pst-color-text-base, #000) }
.glowkit-hero fieldset input:checked + span { background: #0072b2; border-color: #0072b2; color: #fff }
.glowkit-hero input:focus-visible + span, .glowkit-hero [type="range"]:focus-visible {
  outline: 3px solid #e69f00; outline-offset: 2px }
.glowkit-hero .move { display: grid; grid-template-columns: auto 1fr; gap: 0 1em; margin: 1em .2em 0;
  align-items: center }
.glowkit-hero .move b { font-size: 1.15em }
.glowkit-hero .move input { width: 100%; height: 2.2em; margin: 0; accent-color: #0072b2; cursor: ew-resize }
.glowkit-hero .marks { grid-column: 2; position: relative; height: 1.2em; margin: 0 .5em; font-size: .8em;
  color: var(--pst-color-text-muted, #555) }
.glowkit-hero .marks span { position: absolute; transform: translateX(-50%) }
.glowkit-hero output { display: block; text-align: center; font-variant-numeric: tabular-nums; min-height: 1.6em }
.glowkit-hero:not([data-ready]) :is(canvas, .controls), .glowkit-hero[data-ready] > img { display: none }
@media print {
  .glowkit-hero[data-ready] > img { display: block }
  .glowkit-hero :is(canvas, .controls) { display: none !important }
}
</style>
<figure class="glowkit-hero" id="hero">
<img src="$static/still.webp" width="$width" height="$height"
  alt="Three drawn faces as they are, and the same three with the vector of a smile added: they smile">
<canvas role="img"></canvas>
<div class="controls">
<fieldset><legend>Which faces</legend>
$models
</fieldset>
<fieldset><legend>Which vector</legend>
$wishes
</fieldset>
<div class="move"><b><label for="hero-alpha">Move me</label></b>
<input type="range" id="hero-alpha" min="0" max="$last" step="1" value="$zero" autocomplete="off">
<div class="marks" aria-hidden="true">$marks</div></div>
<output for="hero-alpha"></output>
</div>
<script type="application/json">$data</script>
</figure>
<script>
{
  const hero = document.getElementById("hero");
  const {films, alphas, words, faces} = JSON.parse(hero.querySelector("script").textContent);
  const [canvas, range, text] = ["canvas", "[type=range]", "output"].map((tag) => hero.querySelector(tag));
  const chosen = (group) => hero.querySelector(`[name="$${group}"]:checked`).value;
  const loaded = new Map();
  const film = (name) => {
    if (!loaded.has(name)) {
      const image = new Image();
      image.addEventListener("load", () => { hero.dataset.ready = ""; show(); });
      image.src = films[name];
      loaded.set(name, image);
    }
    return loaded.get(name);
  };
  const show = () => {
    const k = Number(range.value), model = chosen("hero-model"), wish = chosen("hero-wish");
    const alpha = Math.abs(alphas[k]).toFixed(1), sign = alphas[k] < 0 ? "\u2212" : "+";
    text.textContent = alphas[k] ? `each face $${sign} $${alpha} \u00d7 $${words[wish]}` : "the faces as they are";
    range.setAttribute("aria-valuetext", text.textContent);
    canvas.setAttribute("aria-label", `Three faces, $${faces[model]}; shown: $${text.textContent}`);
    const image = film(`$${model} $${wish}`);
    if (!image.complete || !image.naturalWidth || !canvas.clientWidth) return;  // it comes back when loaded
    const size = image.naturalHeight / alphas.length;
    const width = Math.round(canvas.clientWidth * window.devicePixelRatio), gap = Math.round(width / 90);
    const side = Math.floor((width - 2 * gap) / 3);
    if (canvas.width !== width || canvas.height !== side) [canvas.width, canvas.height] = [width, side];
    canvas.style.aspectRatio = `$${width} / $${side}`;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    for (let face = 0; face < 3; face++)
      context.drawImage(image, face * size, k * size, size, size, face * (side + gap), 0, side, side);
  };
  // Without being asked they smile once; not for readers who want nothing to move, and never against a hand.
  let asked = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const touched = () => { asked = true; show(); };
  range.addEventListener("input", touched);
  for (const choice of hero.querySelectorAll("[type=radio]")) choice.addEventListener("change", touched);
  // The faces themselves are a slider, too.
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = canvas.getBoundingClientRect();
    range.value = Math.round((event.clientX - box.left) / box.width * (alphas.length - 1));
    touched();
  };
  for (const kind of ["pointerdown", "pointermove"]) canvas.addEventListener(kind, drag);
  window.addEventListener("resize", show);
  show();
  window.addEventListener("load", () => {
    for (const name in films) film(name);
    const [from, to] = [0, 1].map((alpha) => alphas.indexOf(alpha));
    let begun;
    const smile = (now) => {
      if (asked) return;
      begun ??= now;
      const share = Math.min(1, Math.max(0, (now - begun - 600) / 1400));
      range.value = Math.round(from + (to - from) * share);
      show();
      if (share < 1) requestAnimationFrame(smile);
    };
    if (Number(range.value) === from) requestAnimationFrame(smile);
  });
}
</script>
""")
