"""Tables, read back by the parser that the book uses."""

from html.parser import HTMLParser

import pytest
from IPython.display import Markdown
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from glowkit.book.tables import table
from glowkit.errors import GlowkitError
from glowkit.intervals import Estimate, unbroken, wilson

SHARE = "0.889\u00a0[0.868,\u00a00.907] (n\u00a0=\u00a01,000)"


class Page(HTMLParser):
    """The elements of a page and the text of each cell."""

    def __init__(self, markdown):
        super().__init__()
        self.elements, self.cells = [], []
        parser = create_md_parser(MdParserConfig(enable_extensions={"dollarmath"}), RendererHTML)
        self.feed(parser.render(markdown.data))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells and data.strip():
            self.cells[-1] += data


HOSTILE = ["<img src=x onerror=a(1)>", "a | b", "`a` ``b", "$a$ and $$b$$", "*a* __b__", "[a](x)", "&amp; \\", "a\nb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_text_in_a_cell_is_shown_as_it_is(name):
    found = Page(table([name, "n"], [[name, 3], ["plain", name]]))
    assert found.cells == [name, "n", name, "3", "plain", name]
    assert set(found.elements) == {"table", "thead", "tbody", "tr", "th", "td"}


def test_numbers_and_estimates_print_themselves_and_markdown_is_read():
    rows = [[wilson(889, 1000), Markdown("**3** or [C01](#c01)")], [0.5, None]]
    found = Page(table(["share", Markdown("*n*")], rows))
    assert found.cells == ["share", "n", SHARE, "3 or C01", "0.5", "None"]
    assert [tag for tag in found.elements if tag in ("em", "strong", "a")] == ["em", "strong", "a"]
    whole = "1.0000 [1.0000, 1.0000] (n = 5)"
    assert f"| {unbroken(whole)} |" in table([""], [[Estimate(1.0, (1.0, 1.0), 5)]]).data


@pytest.mark.parametrize("value", [wilson(889, 1000), f"{wilson(889, 1000)}"])
def test_an_interval_is_not_torn_apart_at_the_end_of_a_line(value):
    assert Page(table(["share"], [[value]])).cells[1].split(" ") == SHARE.split(" ")
    assert len(SHARE.split(" ")) == 2  # before the n alone


def test_a_row_of_another_length_is_refused():
    with pytest.raises(GlowkitError, match="a row of 1 cells .* under a header of 2"):
        table(["a", "b"], [["1", "2"], ["1"]])
    assert table(["a"], []).data == "| a |\n| --- |"
