"""Sliders: the page's in a real browser without a kernel, the live one through ipywidgets, and which is
shown."""

import base64
import io
import json
import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from PIL import Image

from glowkit.book.widgets import choice_control, control

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")
COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "white": (1.0, 1.0, 1.0),
}


def plain(name):
    return torch.tensor(COLOURS[name])[:, None, None].expand(3, 16, 16)


def colour(source):
    """The name of the colour of an embedded frame."""
    data = base64.b64decode(source.split(",")[1]) if isinstance(source, str) else source
    return colour_at(Image.open(io.BytesIO(data)).convert("RGB"), (8, 8))


def colour_at(image, place):
    pixel = image.getpixel(place)
    return min(COLOURS, key=lambda name: sum(abs(255 * a - b) for a, b in zip(COLOURS[name], pixel, strict=True)))


def in_browser(tmp_path, html, script):
    """Open the page from a file, run the script after it, and return what the page then says."""
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{html}<script>{script}</script>', "utf-8")
    switches = ["headless", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run"]
    command = [CHROMIUM, *(f"--{switch}" for switch in switches), f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    dom = done.stdout
    return {
        "colour": colour(re.search(r'<img[^>]* src="([^"]*)"', dom)[1]),
        "text": re.search(r"<output[^>]*>([^<]*)</output>", dom)[1],
        "aria": re.search(r'aria-valuetext="([^"]*)"', dom)[1],
    }


def shown(picture):
    """The colour and the alternative text of a live picture."""
    source, alt = re.fullmatch(r'<img src="([^"]*)" alt="([^"]*)" width="\d+">', picture.html).groups()
    return colour(source), alt


@browser
def test_moving_the_range_changes_picture_and_label(tmp_path):
    html = control([plain("red"), plain("green"), plain("blue")], [-1, 0, 0.5], "α").html()
    assert in_browser(tmp_path, html, "") == {"colour": "red", "text": "−1", "aria": "−1"}
    move = "const r = document.querySelector('input'); r.value = 2; r.dispatchEvent(new Event('input'));"
    assert in_browser(tmp_path, html, move) == {"colour": "blue", "text": "0.5", "aria": "0.5"}


@browser
def test_choosing_changes_the_row_of_frames_and_keeps_the_value(tmp_path):
    frames = {"warm": [plain("red"), plain("white")], "cold": [plain("green"), plain("blue")]}
    html = choice_control(frames, ["warm", "cold"], [0, 1], "which", "α", start=1).html()
    assert in_browser(tmp_path, html, "")["colour"] == "white"
    choose = "const s = document.querySelector('select'); s.selectedIndex = 1;"
    choose += "s.dispatchEvent(new Event('change'));"
    assert in_browser(tmp_path, html, choose) == {"colour": "blue", "text": "1", "aria": "1"}


@browser
def test_the_same_slider_twice_on_a_page_moves_apart(tmp_path):
    html = control([plain("red"), plain("green")], [0, 1], "α").html()
    move = "const r = document.querySelectorAll('input')[1]; r.value = 1; r.dispatchEvent(new Event('input'));"
    assert in_browser(tmp_path, html + html, move)["colour"] == "red"


def test_the_page_asks_no_network_and_names_its_parts():
    html = control([plain("red")], [0], "a < b", alt='the "alt"').html()
    assert "://" not in html and 'src="//' not in html
    assert 'alt="the &quot;alt&quot;"' in html and "a &lt; b" in html
    assert re.search(r"<label>[^<]*\n?<input type=\"range\"", html)


def test_a_name_cannot_end_the_script_that_holds_it():
    html = control([plain("red")], ["</script><b>"], "x").html()
    data = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1]
    assert json.loads(data)["names"] == ["</script><b>"]


def test_a_row_of_pictures_and_a_plot_are_frames_too():
    row = torch.stack([plain("red"), plain("blue")])
    figure, _ = plt.subplots(figsize=(2, 1))
    plt.close(figure)
    html = control([row, figure], ["row", "plot"], "x").html()
    sources = json.loads(re.search(r'json">(.*?)</script>', html, re.S)[1])["sources"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))).size for s in sources]
    assert sizes[0] == (16 + 2 + 16, 16) and sizes[1][0] == 2 * sizes[1][1]


def test_more_than_four_pictures_make_rows_of_the_same_length():
    six = torch.stack([plain(name) for name in ("red", "green", "blue", "green", "blue", "red")])
    html = control([six], [0], "x").html()
    source = json.loads(re.search(r'json">(.*?)</script>', html, re.S)[1])["sources"][0]
    image = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB")
    assert image.size == (3 * 16 + 2 * 2, 2 * 16 + 2)
    shown = [colour_at(image, (x, y)) for y in (8, 26) for x in (8, 26, 44)]
    assert shown == ["red", "green", "blue", "green", "blue", "red"]
    width, height = (int(re.search(rf'<img[^>]* {side}="(\d+)"', html)[1]) for side in ("width", "height"))
    assert width / height == pytest.approx(image.width / image.height, rel=0.01)


def test_the_live_control_draws_a_frame_only_when_it_is_shown():
    drawn = []

    def frame(value):
        drawn.append(value)
        return plain(value)

    controls, picture = control(frame, ["red", "green", "blue"], "colour", start="green", alt="a < b").widgets()
    (slider,) = controls.children
    assert shown(picture) == ("green", "a &lt; b; colour green") and drawn == ["green"]
    slider.value = 2
    assert shown(picture) == ("blue", "a &lt; b; colour blue")
    slider.value = 1
    assert shown(picture)[0] == "green" and drawn == ["green", "blue"]


def test_the_live_choice_keeps_the_value():
    frames = choice_control(lambda c, v: plain(c if v else "white"), ["red", "blue"], [0, 1], "c", "v", start=1)
    controls, picture = frames.widgets()
    choice, slider = controls.children
    choice.value = 1
    assert shown(picture) == ("blue", "pictures by v; blue; v 1") and slider.value == 1


def test_a_kernel_shows_widgets_to_a_person_and_html_to_papermill():
    code = "import torch\nfrom glowkit.book.widgets import control\ncontrol([torch.zeros(3, 8, 8)] * 2, [0, 1], 'x')"
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        kinds = []
        for someone in (True, False):  # nbclient, and so papermill, executes with allow_stdin False
            outputs = []
            client.execute_interactive(code, allow_stdin=someone, output_hook=outputs.append, timeout=60)
            kinds.append({kind for m in outputs for kind in m["content"].get("data", {})})
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    # The picture of the live one is output like any other, so that a saved notebook keeps it.
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= kinds[0]
    assert kinds[1] == {"text/html", "text/plain"}
