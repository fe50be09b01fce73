"""Text from data, read back by parsers that know nothing of how it was escaped."""

import json
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from glowkit import escaping
from glowkit.book import cards, claims, figures
from glowkit.book.widgets import choice_control

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "</script><b>",
    "a | b || c",
    "`a` ``b",
    "$a$ and $$b$$",
    "*a* _b_ __c__ ~~d~~ a_b_c",
    "two\n\n# lines\n- of\n\n    text",
    "[text](javascript:alert(1)) ![x](y) <http://a.b>",
    "www.example.com https://example.com a@example.com",
    "{{ name }} {ref}`c01` {#id}",
    "\\(x\\) \\",
    "&amp; &#60; &",
    "1. one",
    "  spaces  ",
    "\u2028\u2029\u00a0é 名前",
]
EXTENSIONS = {"amsmath", "colon_fence", "deflist", "dollarmath", "smartquotes", "substitution"}  # those of the book


CELLS = ("td", "th", "option", "dd")


class Page(HTMLParser):
    """The elements of a page, and what its cells and its scripts say."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.cells, self.scripts, self.titles, self.inside = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.titles += [value.removesuffix(": wrong in the source") for key, value in attrs if key == "title"]
        if tag in CELLS:
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")
        if tag in (*CELLS, "script"):
            self.inside = self.cells if tag in CELLS else self.scripts

    def handle_endtag(self, tag):
        if tag in (*CELLS, "script"):
            self.inside = []

    def handle_comment(self, data):
        self.elements.append("comment")

    def handle_data(self, data):
        if self.inside:
            self.inside[-1] += data


def page(markdown):
    """Markdown as the book reads it."""
    parser = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
    return Page(parser.render(markdown))


def shown(name):
    """The name, with U+FFFD for what HTML and Markdown have no way to show."""
    noncharacter = lambda c: ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF  # noqa: E731
    hidden = lambda c: (ord(c) < 32 and c not in "\t\n\r") or 127 <= ord(c) < 160 or noncharacter(c)  # noqa: E731
    return "".join("\ufffd" if hidden(c) else c for c in name)


TABLE = "| name | n |\n| --- | --- |\n| {} | 1 |\n"


def of_a_name(test):
    for name in HOSTILE:
        test = example(name)(test)
    return given(st.text(min_size=1))(test)


@of_a_name
def test_a_name_in_a_table_of_the_book_is_read_as_itself(name):
    found = page(TABLE.format(escaping.markdown(name)))
    assert found.elements == page(TABLE.format("x")).elements
    assert found.cells == ["name", "n", shown(name), "1"]


@of_a_name
def test_a_name_in_a_sentence_is_read_as_itself(name):
    for sentence in ("{}", "The judge sees *{}* here.", "- {}", "**{}**"):
        found = page(sentence.format(escaping.markdown(name)))
        assert found.elements == page(sentence.format("x")).elements, sentence


@of_a_name
def test_a_name_in_html_is_read_as_itself(name):
    found = Page(f'<table><td title="{escaping.markdown(name)}">{escaping.markdown(name)}')
    assert found.elements == ["table", "td"]
    assert found.cells == [name] or shown(name) != name  # what cannot be shown, each parser shows in its own way


def test_common_names_stay_readable():
    for name in ("Smiling", "5_o_Clock_Shadow", "faces64", "Bushy Eyebrows", "0.5422 as printed", "a, b: c; d-e"):
        assert escaping.markdown(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_the_ledger_shows_a_control_and_a_model_as_they_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWKIT_CLAIMS", str(tmp_path))
    monkeypatch.setattr(claims, "folder", lambda: tmp_path)
    entry = claims.Entry("C31", "wrong in the source", 0.8, (0.8, 0.8), 9, name, name, "07_grounding", "fig-c31")
    plain = claims.Entry("C31", "wrong in the source", 0.8, (0.8, 0.8), 9, "x", "y", "07_grounding", "fig-c31")
    assert page(entry._repr_markdown_()).elements == page(plain._repr_markdown_()).elements
    for draw in (lambda found: cards.card([found]), lambda found: cards.scoreboard([found]).data):
        found, usual = Page(draw(entry)), Page(draw(plain))
        assert found.elements == usual.elements
        assert found.cells[found.cells.index("9") + 1 :] == [name]  # after n, the control
        assert name in found.titles


@pytest.mark.parametrize("name", HOSTILE)
def test_a_control_shows_names_as_they_are_and_its_page_goes_on(name):
    frames = {choice: [torch.zeros(3, 4, 4)] * 2 for choice in ("plain", name)}
    html = choice_control(frames, ["plain", name], ["0", name], name, name, alt=name).html() + "<p>on"
    found = Page(html)
    assert found.elements[-1] == "p" and found.elements.count("script") == 2 and "comment" not in found.elements
    assert found.elements.count("img") == 1 and found.cells == ["plain", name]
    data = found.scripts[0]
    assert json.loads(data)["names"] == ["0", name]
    # After "<!--<script" browsers, unlike Python's parser, read over the "</script>".
    assert not set("<>&\u2028\u2029") & set(data)


@pytest.mark.parametrize("name", ["$a$", "$a$ $b$", "100$", r"\$a$", "$\\nosuch{$", "a_b"])
def test_dollars_in_a_figure_start_no_formula(name):
    figure, axis = plt.subplots()
    words = axis.set_title(escaping.mathtext(name))
    text, math = words._preprocess_math(words.get_text())
    assert (text, math) == (name, False)
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("name", ["$a$", "$\\nosuch{$", "\\$"])
def test_labels_of_pictures_are_names(name):
    x = torch.zeros(1, 3, 4, 4)
    for figure in (figures.strip([x], [name], [name]), figures.image_grid(x, titles=[name])):
        figure.canvas.draw()
        axis = figure.axes[0]
        for words in (axis.title, axis.yaxis.label):
            assert words._preprocess_math(words.get_text()) in ((name, False), ("", False))
