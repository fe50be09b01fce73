"""Every page of the built book in a real browser. Not part of `make test`, which comes first: after `make book`,

pytest tests/browser/built.py
"""

from pathlib import Path

import pytest
from browser import checks

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted(page for page in HTML.rglob("*.html") if "_static" not in page.parts)


def test_the_book_is_built():
    assert len(PAGES) > 15, "make book first"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_on_a_screen(browser, page):
    with checks.opened(browser, page, checks.WIDE) as shown:
        checks.assert_code_fits(shown)
        assert checks.violations(shown) == []
        checks.assert_pictures_are_there(shown)
        checks.assert_sliders_move(shown, touch=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_in_the_dark(browser, page):
    with checks.opened(browser, page, checks.DARK) as shown:
        assert checks.violations(shown, ["color-contrast"]) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_on_a_phone(browser, page):
    with checks.opened(browser, page, checks.PHONE) as shown:
        checks.assert_no_wider_than_its_window(shown)
        assert checks.violations(shown, ["scrollable-region-focusable", "target-size"]) == []
        checks.assert_sliders_move(shown, touch=True)
