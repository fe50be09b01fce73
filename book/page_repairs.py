"""Sphinx extension: what the theme and its companions leave undone on a page, mended in one place.

Live code through Thebe, which no page here offers, is not prepared; a header cell without text is no header; the name
of a control is the text that it shows; an interval stays on one line. What only a browser knows, such as whether a
table is wider than its column, is left to _static/pages.js.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

NUMBER = r"[-−]?\d[\d.,]*%?"
INTERVAL = re.compile(rf"(\[{NUMBER},) ({NUMBER}\])")  # [0.91, 0.95]
REPAIRS = (
    (re.compile(r'<th class="head[^"]*"><p></p></th>'), "<td></td>"),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
)


class IntervalsHold(SphinxPostTransform):
    """The space within an interval of the running text does not break."""

    default_priority = 200

    def run(self, **kwargs: object) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if INTERVAL.search(text) and not isinstance(text.parent, (nodes.literal, nodes.literal_block, nodes.raw)):
                text.parent.replace(text, nodes.Text(INTERVAL.sub("\\1\N{NO-BREAK SPACE}\\2", text)))


def repair(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """html-page-context: mend the page's body."""
    for found, better in REPAIRS if "body" in context else ():
        context["body"] = found.sub(better, context["body"])


def without_thebe(app: Sphinx) -> None:
    """Jupyter Book always loads sphinx_thebe, which then declares its constants twice on every page: an error."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx, after the extensions of Jupyter Book."""
    without_thebe(app)
    app.add_post_transform(IntervalsHold)
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True}
