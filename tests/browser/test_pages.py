"""A small book with one of each kind of thing, built as the real one is, in a real browser."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import checks
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TOC = "{format: jb-book, root: index, chapters: [{file: notebooks/00_sample}]}"
LOOKS = {"wide": checks.WIDE, "dark": checks.DARK, "phone": checks.PHONE}


@pytest.fixture(scope="module")
def html(browser, tmp_path_factory):
    """The small book's pages; browser: where none is, nothing is built."""
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("*.md", "notebooks", "__pycache__"))
    config = (ROOT / "_config.yml").read_text(encoding="utf-8").replace("    first_page: book\n", "")
    (root / "_config.yml").write_text(config, encoding="utf-8")
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    (root / "book" / "index.md").write_text("# A book\n\nOf {ref}`one page <sample>`.\n", encoding="utf-8")
    (root / "notebooks").mkdir()
    shutil.copy(Path(__file__).with_name("sample.md"), root / "notebooks" / "00_sample.md")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "book/"]
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build" / "html"


@pytest.fixture
def sample(html):
    return html / "notebooks" / "00_sample.html"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["index", "search", "notebooks/00_sample"])
def test_a_page_passes_offline_in_every_look(browser, html, name, look):
    with checks.opened(browser, html / f"{name}.html", LOOKS[look]) as page:
        checks.assert_no_wider_than_its_window(page)
        assert checks.violations(page) == []
        checks.assert_pictures_are_there(page)


@pytest.mark.parametrize("touch", [False, True])
def test_sliders_move_by_keyboard_and_by_touch(browser, sample, touch):
    with checks.opened(browser, sample, checks.PHONE if touch else checks.WIDE) as page:
        assert page.locator("[data-slider]").count() == 2
        checks.assert_sliders_move(page, touch)


def test_a_choice_is_made_by_keyboard(browser, sample):
    with checks.opened(browser, sample, checks.WIDE) as page:
        slider = page.locator("[data-slider]").nth(1)
        before = slider.locator("img").get_attribute("src")
        slider.locator("select").press("ArrowDown")
        assert slider.locator("img").get_attribute("src") != before
        assert slider.locator("output").inner_text() == "1"


def test_eighty_characters_of_code_fit(browser, sample):
    with checks.opened(browser, sample, checks.WIDE) as page:
        assert max(map(len, page.locator("div.cell_input pre").nth(0).inner_text().splitlines())) > 75
        checks.assert_code_fits(page)


def test_a_search_finds_the_page(browser, html):
    with checks.opened(browser, html / "search.html", checks.WIDE, "?q=marigold") as page:
        page.get_by_role("link", name="A sample").last.wait_for()
        assert "1" in page.locator(".search-summary").inner_text()


def test_the_reader_chooses_light_or_dark_and_the_next_page_remembers(browser, html, sample):
    with checks.opened(browser, sample, checks.WIDE) as page:
        theme = "document.documentElement.dataset.theme"
        assert page.evaluate(theme) == "light"
        for _ in range(3):  # automatic, light, dark
            page.locator("button.theme-switch-button").first.click()
            if page.evaluate(theme) == "dark":
                break
        page.goto((html / "index.html").as_uri())
        assert page.evaluate(theme) == "dark"


def test_a_figure_opens_in_full_size_by_keyboard(browser, sample):
    with checks.opened(browser, sample, checks.PHONE) as page:
        button, dialog = page.get_by_role("button", name="A coloured square"), page.locator("dialog.enlarged")
        assert not dialog.is_visible()
        button.press("Enter")
        assert dialog.is_visible() and dialog.locator("img").get_attribute("alt") == "A coloured square"
        assert dialog.locator("img").bounding_box()["width"] == 900  # of the phone's 390
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert button.evaluate("(each) => each === document.activeElement")


def test_what_is_wider_than_a_phone_says_so_and_is_reached_by_keyboard(browser, sample):
    with checks.opened(browser, sample, checks.PHONE) as page:
        formula, table = page.locator("div.math mjx-container"), page.locator(".pst-scrollable-table-container")
        for part in (formula, table):
            assert part.get_attribute("data-more") == "right" and part.get_attribute("tabindex") == "0"
        table.evaluate("(each) => { each.scrollLeft = each.scrollWidth; }")
        page.wait_for_function("document.querySelector('.pst-scrollable-table-container').dataset.more === 'left'")
    with checks.opened(browser, sample, checks.WIDE) as page:
        assert page.locator("div.math mjx-container").get_attribute("data-more") is None


def test_pictures_are_small_and_wait_until_they_are_seen(html, sample):
    """The figure is WebP, smaller than what the chapter made; each frame of the sliders is a file of its own, once."""
    text = sample.read_text(encoding="utf-8")
    assert "data:image" not in text and ".png" not in text
    frames = set(re.findall(r"frame-\w+\.webp", text))
    assert len(frames) == 3  # of the seven that the sliders name
    figure = re.search(r'<img loading="lazy" width="900" height="400" alt="A coloured square" src="../([^"]+)"', text)[
        1
    ]
    made = next((html.parent / "jupyter_execute").rglob("*.png"))
    assert (html / figure).stat().st_size < made.stat().st_size / 2
    with Image.open(html / figure) as small, Image.open(made) as whole:
        assert small.format == "WEBP" and small.size == whole.size


def test_an_interval_stays_on_one_line_and_an_empty_header_is_none(sample):
    text = sample.read_text(encoding="utf-8")
    assert "[0.12,\N{NO-BREAK SPACE}0.25]" in text and "[−4.5,\N{NO-BREAK SPACE}−1.5]" in text
    assert re.findall(r"<th[^>]*>.*?</th>", text) == ['<th class="head"><p>asks</p></th>']
    assert "thebe" not in text.lower()
