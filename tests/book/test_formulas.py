"""The ledger's formulas, on a page and in a terminal."""

import re

import pytest

from glowkit.book import claims, formulas

SENTENCES = re.findall(r"""["'](.{10,})["']""", claims.REASONS.read_text(encoding="utf-8"))
TEXTS = [*SENTENCES, *(text for row in claims.rows().values() for text in (row.claim, row.measure))]


def test_a_formula_becomes_characters():
    assert formulas.plain(r"norm $e / (2\sqrt{2\pi})$ of $\mu_+ - \mu_-$") == "norm e / (2√(2π)) of μ₊ − μ₋"
    assert formulas.plain(r"$\log(\phi(f(x))\,|df/dx|)$") == "log(φ(f(x)) |df/dx|)"
    assert formulas.plain(r"$R^2$ at $N = 196{,}608$") == "R² at N = 196,608"
    assert formulas.plain("a - b_+ costs {1}") == "a - b_+ costs {1}"  # no formula


def test_a_formula_is_left_to_the_page_and_text_is_not():
    html = formulas.html("Less <than> $a < b$, 0.5 [0.4, 0.6].")
    assert html == (
        'Less &lt;than&gt; <span class="math notranslate nohighlight">\\(a &lt; b\\)</span>, 0.5\u00a0[0.4,\u00a00.6].'
    )


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_of_tex_is_left_in_a_terminal(text):
    assert text.count("$") % 2 == 0
    assert not re.search(r"[\\${}^]|\b_|_\b", formulas.plain(text.replace("\\\\", "\\")))
    outside = re.sub(r"\$[^$]+\$", "", text)
    assert not re.search(r"[\\^|]|sqrt|alpha|\b[NDR]\b", outside)  # formulas are set as formulas
