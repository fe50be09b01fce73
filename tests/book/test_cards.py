"""Cards and scoreboard, read back by a parser, and their colours by the formula of the accessibility guidelines."""

import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from glowkit.book import cards, claims
from glowkit.replications import across

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
VOID = {"br", "img", "input"}


def entry(id, model="faces64", verdict=None):
    """An entry whose number has this verdict (default the first of the rule)."""
    row = claims.rows()[id]
    limits = row.limits
    inside = [limits[0] - 1, *(a / 2 + b / 2 for a, b in itertools.pairwise(limits)), limits[-1] + 1]
    ends = {claims.UNDECIDED: (inside[0], inside[-1])}
    for each, at in zip(row.rule[::2], inside, strict=True):
        ends.setdefault(each, (at, at))
    ci = ends[verdict or row.rule[0]]
    names = [name for name, there in ((claims.SECOND, row.judges), (claims.CENTRES, row.encodings)) if there]
    readings = {name: (ci[0], *ci, 1) for name in names}
    made = claims.Entry(id, "", ci[0], ci, 12, "control: 0.5 [0.4, 0.6]", model, row.chapter, "fig-x", readings)
    return claims.Entry(**vars(made) | {"verdict": claims.decided(made)})


class Page(HTMLParser):
    """The elements of a page, in order: tag, attributes, and the text in it."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def of(self, style):
        return [element for element in self.elements if style in element.get("class", "").split()]


@pytest.mark.parametrize("row", claims.rows().values(), ids=lambda row: row.id)
def test_every_row_has_a_card_that_says_what_follows_from_its_numbers(row):
    for verdict in (*dict.fromkeys(row.rule[::2]), claims.UNDECIDED):
        found = entry(row.id, verdict=verdict)
        assert found.verdict == verdict
        page = Page(cards.card([found]))
        style, sign = cards.STYLES[verdict]
        (badge,), (dot,) = page.of("verdict-badge"), page.of("verdict-dot")
        assert badge["text"] == f"{sign} {verdict}" and style in badge["class"].split()
        assert dot["aria-label"] == f"faces64: {verdict}" and dot["role"] == "img" and dot["text"] == sign
        shown = page.elements[0]["text"]
        assert re.sub(r"\$", "", claims.reason(found)).split(":")[0][:40] in re.sub(r"\\[()]", "", shown)
        numbers = next(element for element in page.elements if element["tag"] == "details")
        assert "control: 0.5\u00a0[0.4,\u00a00.6]" in numbers["text"] and "open" not in numbers
        assert ("Second judge" in numbers["text"]) == row.judges
        assert ("Bin centres" in numbers["text"]) == row.encodings


def test_a_card_says_what_small_models_of_other_seeds_say():
    """C20, of which runs disagree: counted anew from the files by the rule."""
    rule = claims.rows()["C20"]
    for cells in ([across.GLOW], across.GLOWS):
        files = [file for cell in cells for file in (ROOT / "data" / "replications").glob(f"{cell}-seed*.json")]
        rows = [json.loads(file.read_bytes())["rows"]["C20"]["estimate"] for file in files]
        verdicts = Counter(rule.verdict((low, high)) for _, low, high, _ in rows)
        verdict, times = verdicts.most_common(1)[0]
        assert len(verdicts) > 1 and f"{verdict}, {times} of {len(rows)}" in cards.card([entry("C20")])
    assert "Other seeds" not in cards.card([entry("C31", claims.NO_MODEL)])  # no small model was asked


def test_models_that_agree_share_a_reason_and_others_have_each_its_own():
    same = Page(cards.card([entry("C08"), entry("C08", "celeba64")]))
    assert len(same.of("verdict-badge")) == 1 and len(same.of("verdict-dot")) == 2
    assert same.elements[0]["text"].count("not longer") == 1
    other = Page(cards.card([entry("C08"), entry("C08", "celeba64", verdict="reproduced")]))
    assert [badge["text"] for badge in other.of("verdict-badge")] == ["× contradicted", "✓ reproduced"]
    lines = [element["text"] for element in other.elements if element["tag"] == "li"]
    assert "faces64 contradicted" in lines[0] and "not longer" in lines[0]
    assert "celeba64 reproduced" in lines[1] and "tenth at most" in lines[1]


def test_a_row_without_a_model_or_a_number_says_so():
    assert "no model needed" in cards.card([entry("C31", claims.NO_MODEL)])
    opened = Page(cards.card([claims.unmeasured("B02", "celeba64")]))
    assert opened.of("verdict-badge")[0]["text"] == "– open"
    assert "only drawn faces have" in opened.elements[0]["text"] and "control" not in opened.elements[0]["text"]


def test_the_scoreboard_has_each_row_once_and_leads_to_its_section():
    entries = [
        *(e for id in claims.rows() for e in (entry(id), entry(id, "celeba64", claims.rows()[id].rule[-1]))
          if id not in ("C31", "B08", "B09")),
        entry("C31", claims.NO_MODEL), entry("C31", claims.NO_MODEL), entry("B08", "celeba64+faces64"),
        claims.unmeasured("B09", ""),
    ]  # fmt: skip
    board = Page(cards.scoreboard(entries).data)
    rows = [element for element in board.elements if "data-verdicts" in element]
    checks = [id for id, row in claims.rows().items() if row.kind == claims.CHECK]
    ids = [element["text"] for element in board.of("verdict-id")]
    assert len(rows) == len(ids) == 57 and sorted(ids) == sorted(claims.rows())
    assert sorted(ids[-len(checks) :]) == sorted(checks)  # in a list of their own
    assert len(board.of("verdict-board")) == 2
    for id, line, link in zip(ids, rows, board.of("verdict-id"), strict=True):
        row = claims.rows()[id]
        assert link["href"] == f"{row.chapter}.html#{row.section}" and line["data-chapter"] == row.chapter
    wanted = [cards.STYLES[claims.rows()["C08"].rule[place]][0] for place in (0, -1)]
    assert rows[ids.index("C08")]["data-verdicts"].split() == list(dict.fromkeys(wanted))
    dots = [dot["aria-label"] for dot in board.of("verdict-dot")]
    assert dots.count("no model needed: contradicted") == 2  # in its line and with its numbers
    assert "celeba64+faces64: contradicted" in dots and "open" in dots


def test_lines_for_a_terminal_fit_it():
    entries = [entry(id, model) for id in claims.rows() for model in ("faces64", "celeba64")]
    for width in (80, 120):
        text = cards.lines(entries, width)
        assert max(map(len, text.splitlines())) <= width
        assert len(text.split("\n\n")) == 57 and text.count("faces64 ") == 57


SHEET = (STATIC / "verdicts.css").read_text(encoding="utf-8")


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(ink, ground, share):
    pairs = ((int(ink[k : k + 2], 16), int(ground[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


# Grounds and texts of the theme: pst-color-background, text-base, text-muted.
@pytest.mark.parametrize("mode, theme", [
    (":root", ("#ffffff", "#222832", "#48566b")), ('html[data-theme="dark"]', ("#121212", "#ced6dd", "#9ca4af")),
])  # fmt: skip
def test_verdicts_can_be_read_in_both_modes(mode, theme):
    block = re.search(re.escape(mode) + r" \{([^}]*--verdict-sign[^}]*)\}", SHEET)[1]
    colours = dict(re.findall(r"--verdict-(\w+): (#[0-9a-f]{6});", block))
    sign = colours.pop("sign")
    assert set(colours) == {style for style, _ in cards.STYLES.values()}
    ground, *texts = theme
    for style, ink in colours.items():
        assert contrast(sign, ink) >= 4.5, style  # badge and dot
        assert contrast(ink, ground) >= 4.5, style  # a button of the filter
        wash = mixed(mixed(ink, ground, 0.08), ink, 0.9)  # of a row, and of a chip in it
        assert all(contrast(text, wash) >= 4.5 for text in texts), style


def test_verdicts_differ_by_more_than_colour():
    styles, signs = zip(*cards.STYLES.values(), strict=True)
    assert len(set(styles)) == len(set(signs)) == len(cards.STYLES) == len(claims.VERDICTS) + 1
    script = (STATIC / "verdicts.js").read_text(encoding="utf-8")
    assert re.findall(r'"(\w+)"', re.search(r"of \[([^]]*)\]", script)[1]) == list(styles)
