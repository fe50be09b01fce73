"""Text with formulas between dollar signs, as the ledger has it, for a page and for a terminal."""

import html as pages
import re

from glowkit.intervals import unbroken

# What the ledger's formulas are made of, as characters; sizes and braces are left out.
_CHARACTERS = (
    (r"\\(?:left|right)(?![a-z])", ""),
    (r"\\[,;!]", " "),
    (r"\\sqrt\{(\w)\}", r"√\1"),
    (r"\\sqrt\{([^{}]*)\}", r"√(\1)"),
    (r"\\alpha", "α"),
    (r"\\mu", "μ"),
    (r"\\phi", "φ"),
    (r"\\pi", "π"),
    (r"\\times", "×"),
    (r"\\log", "log"),
    (r"_\+", "₊"),
    (r"_-", "₋"),
    (r"\^2", "²"),
    (r"[{}]", ""),
    (r" - ", " − "),
    (r" +", " "),
)


def html(text: str) -> str:
    """As HTML, whose formulas MathJax sets and whose intervals stay on one line.

    >>> html("Less than $n$ & more")
    'Less than <span class="math notranslate nohighlight">\\\\(n\\\\)</span> &amp; more'
    """
    parts = [pages.escape(unbroken(part)) for part in text.split("$")]
    parts[1::2] = [rf'<span class="math notranslate nohighlight">\({part}\)</span>' for part in parts[1::2]]
    return "".join(parts)


def plain(text: str) -> str:
    """As a line of characters.

    >>> plain(r"As long as $\\sqrt{D}$, at $\\alpha = 1$")
    'As long as √D, at α = 1'
    """
    parts = text.split("$")
    for pattern, characters in _CHARACTERS:
        parts[1::2] = [re.sub(pattern, characters, part) for part in parts[1::2]]
    return "".join(parts)
