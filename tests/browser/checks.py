"""What every page of the book must pass in a real browser, opened from its file and without a network.

`test_pages.py` asks it of a small book with one of each kind of thing, `built.py` of the whole book, once it is there.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
MISSING = "no Chromium on this machine (Debian: apt install chromium)"
WIDE = {"viewport": {"width": 1280, "height": 900}}
DARK = {**WIDE, "color_scheme": "dark"}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

# What axe-core finds in HTML that others write: rule, a mark of the element, why it stays.
NOT_OURS = {
    "region": ("logo__image", "the theme's logo stands outside of any landmark"),
    "definition-list": ("sig-param", "Sphinx puts each parameter of a long signature in a <dd>"),
    "aria-allowed-role": ("doc-biblioentry", "docutils' role for an entry of a bibliography, on a <div>"),
    "aria-deprecated-role": ("doc-biblioentry", "the same, which ARIA 1.3 no longer has"),
    "aria-required-children": ("citation-list", "docutils' list of those entries"),
    "empty-table-header": (
        "mjx-assistive-mml",
        "a formula is MathML to who hears it, which axe-core takes for no text",
    ),
}
# Off by default in axe-core: controls named as they are labelled, and large enough for a finger.
BESIDES = {"label-content-name-mismatch": {"enabled": True}, "target-size": {"enabled": True}}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; nothing is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, look: dict, query: str = "") -> Iterator[Page]:
    """The page of a file, offline, formulas set; in the end no error may have been reported, nothing fetched outside.

    look: WIDE, DARK or PHONE.
    """
    with browser.new_context(**look, offline=True) as context:
        page = context.new_page()
        errors, outside = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if local(asked.url) else outside.append(asked.url))
        page.goto(file.resolve().as_uri() + query)
        page.evaluate("() => window.MathJax?.startup?.promise")
        yield page
        assert errors == [] and outside == [], file.name


def local(url: str) -> bool:
    """Whether asking for it leaves the folder of the book alone."""
    return url.startswith(("file:", "data:", "blob:"))


def violations(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe-core objects to, beside NOT_OURS: "rule: element"; rules: these alone."""
    # What unfolds fades in, and while it is half there, its contrast is half there, too.
    page.evaluate("() => Promise.all(document.getAnimations().map((each) => each.finished))")
    # Axe would read style sheets again, which a page opened from a file may not.
    options = {"resultTypes": ["violations"], "preload": False, "rules": BESIDES}
    if rules is not None:
        options = {"resultTypes": ["violations"], "preload": False, "runOnly": rules}
    found = [
        (each["id"], page.evaluate("(place) => document.querySelector(place).outerHTML", node["target"][0]))
        for each in Axe().run(page, options=options).response["violations"]
        for node in each["nodes"]
    ]
    ours = [(rule, html) for rule, html in found if not (rule in NOT_OURS and NOT_OURS[rule][0] in html)]
    return [f"{rule}: {html[:200]}" for rule, html in ours]


def assert_pictures_are_there(page: Page) -> None:
    """Every picture of the page is found and can be decoded, those further down too."""
    page.evaluate("() => Promise.all([...document.images].map((i) => { i.loading = 'eager'; return i.decode(); }))")


def assert_code_fits(page: Page) -> None:
    """No code scrolls whose lines are 80 characters or less, unfolded; examples of the library never do."""
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    wide = page.evaluate(
        """() => [...document.querySelectorAll("div.highlight pre")]
            .filter((pre) => pre.scrollWidth > pre.clientWidth)
            .filter((pre) => pre.closest("dl.py") || pre.textContent.split("\\n").every((line) => line.length <= 80))
            .map((pre) => pre.textContent)"""
    )
    assert wide == []


def assert_no_wider_than_its_window(page: Page) -> None:
    """A phone scrolls down, never sideways; what is wider scrolls by itself."""
    assert page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]


def assert_sliders_move(page: Page, touch: bool) -> None:
    """Each slider of the page shows another picture and value after a key, or after a finger on its track."""
    for slider in page.locator("[data-slider]").all():
        track, picture, value = slider.locator("input"), slider.locator("img"), slider.locator("output")
        slider.scroll_into_view_if_needed()
        if touch:
            box = track.bounding_box()
            assert box["height"] >= 24
            page.touchscreen.tap(box["x"] + 3, box["y"] + box["height"] / 2)
            before = picture.get_attribute("src"), value.inner_text()
            page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        else:
            track.press("Home")
            before = picture.get_attribute("src"), value.inner_text()
            track.press("ArrowRight")
            assert value.inner_text() != before[1]
            track.press("End")
        after = picture.get_attribute("src"), value.inner_text()
        assert after[0] != before[0] and after[1] != before[1]
        assert track.get_attribute("aria-valuetext") == after[1]
        assert track.input_value() == track.get_attribute("max")
        picture.evaluate("(image) => image.decode()")
