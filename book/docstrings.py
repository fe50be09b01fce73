"""Sphinx extension: the library's docstrings, which are plain text, on the page of the API reference.

Sphinx reads docstrings as reStructuredText, where |x| and a trailing underscore mean something. Here they mean what
they say; only `code` between backticks, examples and paragraphs are marked up.
"""

from __future__ import annotations

import os
import re

from sphinx.application import Sphinx

SPECIAL = re.compile(r"([\\*|_])")


def plain(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """autodoc-process-docstring: escape what reStructuredText would take for markup, in place."""
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`+[^`]*`+)", line)
        shown = [f"``{part.strip('`')}``" if part.startswith("`") else SPECIAL.sub(r"\\\1", part) for part in parts]
        lines[i] = "".join(shown)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    os.environ["MPLBACKEND"] = "agg"  # autodoc imports the library; no other name that a reader has set is to stop it
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True}
