"""One call, two controls: a live ipywidgets slider where someone is there to move it, and a page without a
kernel.

`control(frames, values, label)` shows pictures along one value; `choice_control` adds a choice in front of
it, an attribute by alphas for instance. What is displayed depends on who is asking:

- **A live front end** (JupyterLab, VS Code, Colab) gets ipywidgets; a callable draws each frame when it is
  first shown. The picture is no widget but output of the cell, replaced at each move: the last one stays in a saved
  notebook.
- **papermill and the book** get HTML: every frame is drawn once and embedded in the page, and a plain range
  input switches between them. It needs no kernel, no network and no server, and stands still without
  JavaScript.

The two are told apart by what the front end says of itself: a client with nobody in front of it asks the
kernel not to wait for typed input (`allow_stdin`), and papermill is such a client.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from string import Template
from typing import Any

import ipywidgets
import numpy as np
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from glowkit import escaping
from glowkit.pixels import to_pixels

Frame = Tensor | Figure
"""One picture (3, H, W), several (N, 3, H, W), or a plot."""

_SCALE = 2.75  # CSS pixels for each image pixel, at most: 64-pixel faces are read at 176
_COLUMN = 720  # CSS pixels: the width of the text
_ABREAST = 4  # pictures side by side, at most: more make several rows, and none gets small
_GAP = 2  # white image pixels between pictures


def control(
    frames: Sequence[Frame] | Callable[[Any], Frame],
    values: Sequence[Any],
    label: str,
    start: Any = None,
    alt: str = "",
) -> Control:
    """A slider over pictures.

    frames: a frame for each value, or a function from a value to its frame; values: what the slider steps
    through (numbers or names); label: the name of the value; start: the value shown first (default: the
    first); alt: what the pictures show, for readers who do not see them.
    """
    frame_of = frames if callable(frames) else dict(zip(values, frames, strict=True)).__getitem__
    return Control(lambda _, value: frame_of(value), [""], values, "", label, start, alt)


def choice_control(
    frames: Mapping[str, Sequence[Frame]] | Callable[[str, Any], Frame],
    choices: Sequence[str],
    values: Sequence[Any],
    choice_label: str,
    label: str,
    start: Any = None,
    alt: str = "",
) -> Control:
    """A list of choices beside a slider: frames is {choice: a frame for each value}, or a function of both.

    The rest is as in `control`.
    """
    if callable(frames):
        frame_of = frames
    else:
        table = {(c, v): frame for c in choices for v, frame in zip(values, frames[c], strict=True)}

        def frame_of(choice: str, value: Any) -> Frame:
            return table[choice, value]

    return Control(frame_of, choices, values, choice_label, label, start, alt)


class Control:
    """What `control` and `choice_control` return; a notebook displays it."""

    def __init__(
        self,
        frame_of: Callable[[str, Any], Frame],
        choices: Sequence[str],
        values: Sequence[Any],
        choice_label: str,
        label: str,
        start: Any,
        alt: str,
    ) -> None:
        self.choices, self.values = list(choices), list(values)
        self.names = [_name(value) for value in self.values]
        self.choice_label, self.label, self.alt = choice_label, label, alt or f"pictures by {label}"
        self.start = 0 if start is None else self.values.index(start)

        @cache
        def encoded(choice: int, k: int) -> tuple[bytes, int]:
            return encode(frame_of(self.choices[choice], self.values[k]))

        self.encoded = encoded

    def _ipython_display_(self) -> None:
        if not live():
            raise NotImplementedError  # IPython then asks for what follows
        controls, picture = self.widgets()
        display(controls)
        picture.display()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {
            "text/html": self.html(),
            "text/plain": f"<slider: {self.alt}, {self.label} {', '.join(self.names)}>",
        }

    def widgets(self) -> tuple[ipywidgets.HBox, Shown]:
        """The live control, bound to the kernel, and the picture that follows it."""
        options = list(zip(self.names, range(len(self.names)), strict=True))
        slider = ipywidgets.SelectionSlider(
            options=options, value=self.start, description=self.label, layout={"width": "28em"}
        )
        choice = ipywidgets.Dropdown(
            options=list(zip(self.choices, range(len(self.choices)), strict=True)),
            description=self.choice_label,
        )
        picture = Shown()

        def show(_: object = None) -> None:
            said = [self.alt, self.choices[choice.value], f"{self.label} {self.names[slider.value]}"]
            picture.show(image(*self.encoded(choice.value, slider.value), alt="; ".join(filter(None, said))))

        slider.observe(show, "value")
        choice.observe(show, "value")
        show()
        return ipywidgets.HBox([slider] if len(self.choices) == 1 else [choice, slider]), picture

    def html(self) -> str:
        """The page's control: all frames embedded, no kernel, no network."""
        sources = []
        for c in range(len(self.choices)):
            for k in range(len(self.values)):
                data, _ = self.encoded(c, k)
                sources.append(address(data))
        first, width = self.encoded(0, self.start)
        shape = Image.open(io.BytesIO(first)).size
        name = "slider-" + hashlib.sha256("".join(sources).encode()).hexdigest()[:12]
        choice = ""
        if len(self.choices) > 1:
            options = "".join(f"<option>{escape(c)}</option>" for c in self.choices)
            choice = f"<label>{escape(self.choice_label)} <select>{options}</select></label>"
        return _PAGE.substitute(
            name=name,
            choice=choice,
            label=escape(self.label),
            alt=escape(self.alt, quote=True),
            last=len(self.values) - 1,
            start=self.start,
            text=escape(self.names[self.start]),
            room=1 + max(map(len, self.names)),  # or the track would move under the finger
            width=width,
            height=round(width * shape[1] / shape[0]),
            source=sources[self.start],
            data=escaping.script({"names": self.names, "sources": sources}),
        )


class Shown:
    """HTML in a cell's output that follows live controls: what it showed last is saved with the notebook."""

    def __init__(self) -> None:
        self.html = ""
        self._handle = None

    def show(self, html: str) -> None:
        """Show this, at once if the cell has already displayed it."""
        self.html = html
        if self._handle is not None:
            self._handle.update(HTML(html))

    def display(self) -> None:
        """Begin to be shown, in the output of the running cell."""
        self._handle = display(HTML(self.html), display_id=True)


def image(data: bytes, width: int, alt: str) -> str:
    """An encoded picture as HTML."""
    return f'<img src="{address(data)}" alt="{escape(alt, quote=True)}" width="{width}">'


def address(data: bytes) -> str:
    """An encoded picture as an address that holds it all."""
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def live() -> bool:
    """Whether someone sits in front of the kernel: the client of the running cell takes typed input."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin", False))


def _name(value: Any) -> str:
    # A true minus sign, as matplotlib's axes have it.
    return value if isinstance(value, str) else f"{value:g}".replace("-", "\u2212")


def encode(frame: Frame) -> tuple[bytes, int]:
    """A frame as WebP, and how wide to show it in CSS pixels."""
    buffer = io.BytesIO()
    if isinstance(frame, Figure):
        png = io.BytesIO()
        frame.savefig(png, format="png", dpi=2 * frame.dpi)
        image = Image.open(png).convert("RGB")
        width = round(frame.get_figwidth() * frame.dpi)
        image.save(buffer, "webp", lossless=True)
    else:
        pixels = to_pixels(frame if frame.ndim == 4 else frame[None])
        image = _side_by_side(pixels)
        width = min(_COLUMN, round(min(_SCALE, max(1.0, 256 / pixels.shape[2])) * image.width))
        image.save(buffer, "webp", quality=90, method=4)
    return buffer.getvalue(), width


def _side_by_side(pixels: np.ndarray) -> Image.Image:
    """Pictures (N, H, W, 3) in as few rows as hold them, all of the same length but perhaps the last."""
    n, height, width, _ = pixels.shape
    rows = -(-n // _ABREAST)
    columns = -(-n // rows)
    whole = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    for k, picture in enumerate(pixels):
        whole.paste(Image.fromarray(picture), (k % columns * (width + _GAP), k // columns * (height + _GAP)))
    return whole


# Colours and fonts come from the page, so the control reads in light and dark; the picture keeps its white
# ground.
_PAGE = Template("""\
<style>
.glowkit-slider { margin: 1em 0; text-align: center }
.glowkit-slider img { max-width: 100%; height: auto; background: #fff; border-radius: 3px }
.glowkit-slider figcaption { display: flex; flex-wrap: wrap; gap: .5em 1.5em; margin-top: .5em;
  justify-content: center; align-items: center }
.glowkit-slider label, .glowkit-slider span { display: flex; flex-wrap: wrap; gap: 0 .6em; align-items: center;
  justify-content: center }
.glowkit-slider input { width: min(20em, 42vw); height: 2rem; margin: 0; cursor: pointer }
.glowkit-slider select { min-height: 2rem }
.glowkit-slider output { text-align: left; font-variant-numeric: tabular-nums }
</style>
<figure class="glowkit-slider" data-slider="$name">
<img src="$source" alt="$alt" width="$width" height="$height">
<figcaption>$choice
<span><label>$label
<input type="range" min="0" max="$last" step="1" value="$start" aria-valuetext="$text"></label>
<output aria-live="off" style="width: ${room}ch">$text</output></span>
</figcaption>
<script type="application/json">$data</script>
</figure>
<script>
for (const slider of document.querySelectorAll('[data-slider="$name"]:not([data-ready])')) {
  slider.dataset.ready = "";
  const {names, sources} = JSON.parse(slider.querySelector("script").textContent);
  const [picture, range, text] = ["img", "input", "output"].map((tag) => slider.querySelector(tag));
  const choice = slider.querySelector("select");
  const show = () => {
    const k = Number(range.value);
    picture.src = sources[(choice ? choice.selectedIndex : 0) * names.length + k];
    text.textContent = names[k];
    range.setAttribute("aria-valuetext", names[k]);
  };
  range.addEventListener("input", show);
  if (choice) choice.addEventListener("change", show);
  // Where frames are files: all are at hand before the slider moves.
  const fetchAll = () => sources.forEach((source) => { new Image().src = source; });
  for (const event of ["pointerenter", "focusin"]) slider.addEventListener(event, fetchAll, {once: true});
  show();  // browsers restore a form's last state on reload
}
</script>
""")
