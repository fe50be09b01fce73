"""Sphinx extension: the bibliography style `author_year`, with entries labelled as they are cited and in that order."""

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinx.application import Sphinx


class Labels(BaseLabelStyle):
    """`Dinh et al., 2017`, which is what the reference style of the same name makes of a citation."""

    def format_labels(self, entries: list[Entry]) -> list[str]:
        """A label for each entry."""
        return [f"{names(entry)}, {entry.fields['year']}" for entry in entries]


def names(entry: Entry) -> str:
    """The last names of one or two authors; of more, the first: as a citation names them."""
    last = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    return f"{last[0]} et al." if len(last) > 2 else " and ".join(last)


class AuthorYear(Style):
    """As `unsrt`, but for labels and order."""

    default_label_style = Labels
    default_sorting_style = SortingStyle


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    return {"parallel_read_safe": True}
