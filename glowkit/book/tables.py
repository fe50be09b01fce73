"""Tables of the chapters' results."""

from collections.abc import Iterable, Sequence

from IPython.display import Markdown

from glowkit import escaping
from glowkit.errors import GlowkitError
from glowkit.intervals import unbroken


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """A table for a notebook to show: a header of k cells and rows of as many.

    Text is shown as it is, whatever characters it holds, for it may be a name from somebody's data; a `Markdown`
    object among the cells is read as Markdown (a formula, a link, bold print); numbers and estimates print themselves,
    and an interval stays on one line.
    GlowkitError for a row of another length.
    """
    lines = [[_cell(value) for value in row] for row in (header, *rows)]
    for line in lines:
        if len(line) != len(lines[0]):
            raise GlowkitError(f"table: a row of {len(line)} cells ({line}) under a header of {len(lines[0])}")
    lines.insert(1, ["---"] * len(lines[0]))
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def _cell(value: object) -> str:
    match value:
        case Markdown():
            return value.data
        case str():
            return escaping.markdown(unbroken(value))
        case _:
            return unbroken(str(value))
