"""Copies of the chapters for JupyterLab, in _build/lab: `make lab` makes them, then opens JupyterLab there.

JupyterLab saves what it opens, outputs included, and a chapter's source is text that is kept clean; so people play in
copies, and edit notebooks/NAME.md. A copy is made again when its chapter changed. One that someone has edited is never
overwritten: it is set aside under another name first.

JupyterLab reads MyST, but of one notebook only, and knows nothing of Jupyter Book's tags. In a copy, what the page
hides is folded, figures have their captions, what is cited and the terms used stand at the end, and references to
other chapters are links. Where the book has been built, a copy begins with its outputs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nbformat
import run_chapters
from author_year import names
from nbformat import NotebookNode
from nbformat.sign import NotebookNotary
from pybtex.database import BibliographyData, parse_file

FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
OUTPUT_FOLDED = {"hide-output", "remove-output"}
LABEL = re.compile(r"^\(([\w-]+)\)=\n+#+ (.+)$|^\$\$ \(([\w-]+)\)$", re.MULTILINE)
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
LOCAL_LINK = re.compile(r"\]\(#([\w-]+)\)")
MADE_OF = "glowkit"  # key of a copy's metadata: a digest of the cells it was made with


class Place(NamedTuple):
    """Where a label stands: a chapter, and the title of what it labels ("" for an equation or a figure)."""

    chapter: str
    title: str


class Book:
    """What a chapter's text points to: labels of the other chapters, the glossary, the bibliography."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.chapters = {name: run_chapters.source(root, name) for name in run_chapters.listed(root)}
        self.labels: dict[str, Place] = {}
        for name, notebook in self.chapters.items():
            for cell in notebook.cells:
                if figure := _figure(cell):
                    self.labels[figure["name"]] = Place(name, "")
                elif cell.cell_type == "markdown":
                    for label, title, equation in LABEL.findall(cell.source):
                        self.labels[label or equation] = Place(name, title)
        self.references = parse_file(root / "book" / "references.bib")
        self.glossary = dict(_terms((root / "book" / "glossary.md").read_text(encoding="utf-8")))

    def spelled_out(self, text: str, name: str) -> str:
        """The Markdown of chapter `name`, without what JupyterLab cannot follow."""

        def role(match: re.Match) -> str:
            kind, content = match[1], match[2]
            target, shown = _target(content), " ".join(content.split("<")[0].split()) if "<" in content else ""
            if kind == "numref" and target in self.labels:
                return f"[{number(target)}]({self._address(target, name)})"
            if kind == "ref" and target in self.labels:
                return f"[{shown or self.labels[target].title}]({self._address(target, name)})"
            if kind == "eq" and target in self.labels and self.labels[target].chapter != name:
                chapter = self.labels[target].chapter
                return f"[an equation of chapter {chapter[:2]}]({chapter}.ipynb)"
            if kind == "doc":
                return f"*{shown or target}*"
            if kind in ("cite:p", "cite:t"):
                cited = [self._citation(key.strip(), kind == "cite:t") for key in content.split(",")]
                return ", ".join(cited) if kind == "cite:t" else f"({'; '.join(cited)})"
            return match[0]

        text = ROLE.sub(role, text)
        return LOCAL_LINK.sub(lambda m: f"]({self._address(m[1], name)})" if m[1] in self.labels else m[0], text)

    def _address(self, label: str, name: str) -> str:
        chapter = self.labels[label].chapter
        return f"#{label}" if chapter == name else f"{chapter}.ipynb"

    def _citation(self, key: str, textual: bool) -> str:
        who, year = authors(self.references, key), self.references.entries[key].fields["year"]
        return f"[{who} ({year})](#ref-{key})" if textual else f"[{who}, {year}](#ref-{key})"


def _target(content: str) -> str:
    """What a role points to: the words <target>, or the target alone."""
    named = re.search(r"<([^>]+)>$", content)
    return named[1] if named else content


def authors(references: BibliographyData, key: str) -> str:
    """The authors of an entry, in Markdown."""
    return names(references.entries[key]).replace("et al.", "*et al.*")


def number(label: str) -> str:
    """What a figure is called: by its label, for the numbers of the pages count through the whole book."""
    short = label.removeprefix("fig-")
    return "Figure " + (short.upper() if re.match(r"[bc]\d\d", short) else short)


def _figure(cell: NotebookNode) -> dict | None:
    return cell.metadata.get("mystnb", {}).get("figure")


def _terms(glossary: str) -> Iterable[tuple[str, str]]:
    """Each term of the glossary with its meaning."""
    for entry in re.split(r"\n\n+(?=\S)", re.search(r"```\{glossary\}\n(.*?)\n```", glossary, re.DOTALL)[1]):
        term, *meaning = entry.splitlines()
        yield term.strip(), " ".join(line.strip() for line in meaning)


def copy_of(book: Book, name: str) -> NotebookNode:
    """The chapter as JupyterLab shows it best."""
    chapter = book.chapters[name]
    outputs = _outputs(book.root, name, chapter)
    cells = [nbformat.v4.new_markdown_cell(
        f"*This is a copy to play with: run it (Run ▸ Run All Cells), change it, break it; the book stays as it is. "
        f"The chapter itself is edited in* `notebooks/{name}.md`."
    )]  # fmt: skip
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(book.spelled_out(cell.source, name)))
            continue
        tags = cell.metadata.get("tags", [])
        hidden = {"source_hidden": bool(FOLDED & {*tags}), "outputs_hidden": bool(OUTPUT_FOLDED & {*tags})}
        jupyter = {key: True for key, value in hidden.items() if value}
        metadata = {"tags": tags} | ({"jupyter": jupyter} if jupyter else {})
        cells.append(nbformat.v4.new_code_cell(cell.source, metadata=metadata, outputs=next(outputs, [])))
        if figure := _figure(cell):
            caption = book.spelled_out(figure["caption"], name)
            cells.append(nbformat.v4.new_markdown_cell(f"({figure['name']})=\n**{number(figure['name'])}.** {caption}"))
    prose = "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    for appended in (_cited(book, prose), _defined(book, prose, name)):
        if appended:
            cells.append(nbformat.v4.new_markdown_cell(appended))
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position}"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": chapter.metadata["kernelspec"]})
    notebook.metadata[MADE_OF] = digest(notebook)
    return notebook


def _cited(book: Book, prose: str) -> str:
    """What the prose cites, a paragraph each."""
    keys = {
        key.strip() for kind, content in ROLE.findall(prose) if kind.startswith("cite:") for key in content.split(",")
    }
    lines = ["## Cited here"]
    for key in sorted(keys):
        fields = book.references.entries[key].fields
        title = re.sub(r"[{}]", "", fields["title"])
        arxiv = re.match(r"arXiv:(\d+\.\d+)", fields.get("note", ""))
        where = f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url", "")
        where = where or (f"https://arxiv.org/abs/{arxiv[1]}" if arxiv else "")
        shown = f"[{title}]({where})" if where else f"*{title}*"
        lines.append(f"(ref-{key})=\n{authors(book.references, key)}, {fields['year']}: {shown}.")
    return "\n\n".join(lines) if keys else ""


def _defined(book: Book, prose: str, name: str) -> str:
    """The entries of the glossary for the terms that the prose uses, and for those that these use."""
    meanings = {term.lower(): text for term, text in book.glossary.items()}
    used, found = set(), _used(prose)
    while found:  # a meaning uses terms itself
        used |= found
        found = set().union(*(_used(meanings[term]) for term in found)) - used
    entries = [
        f"{term}\n: {book.spelled_out(text, name)}" for term, text in book.glossary.items() if term.lower() in used
    ]
    return "## Terms\n\n```{glossary}\n" + "\n\n".join(entries) + "\n```" if entries else ""


def _used(text: str) -> set[str]:
    """The terms of the glossary that a text uses, in small letters."""
    return {_target(content).lower() for kind, content in ROLE.findall(text) if kind == "term"}


def _outputs(root: Path, name: str, chapter: NotebookNode) -> Iterable[list[NotebookNode]]:
    """The outputs of the last build for each code cell, if it ran these cells."""
    executed = root / "_build" / "chapters" / run_chapters.OWN / f"{name}.ipynb"
    if executed.exists():
        built = nbformat.read(executed, as_version=4)
        sources, ran = ([c.source for c in notebook.cells if c.cell_type == "code"] for notebook in (chapter, built))
        if sources == ran:
            yield from (cell.outputs for cell in built.cells if cell.cell_type == "code")


def digest(notebook: NotebookNode) -> str:
    """Of what a notebook says, whatever its outputs and however it is folded."""
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def bring_up_to_date(path: Path, new: NotebookNode) -> None:
    """Put the copy at `path`, unless it is there already; set aside first what someone made of an older one."""
    if path.exists():
        old = nbformat.read(path, as_version=4)
        made_of = old.metadata.get(MADE_OF)
        if made_of == new.metadata[MADE_OF]:
            return
        if made_of != digest(old):
            n = 1
            while (aside := path.with_name(f"{path.stem}-edited-{n}.ipynb")).exists():
                n += 1
            path.rename(aside)
    run_chapters.write(path, new)
    NotebookNotary().sign(new)  # JupyterLab runs the scripts of trusted outputs alone, and the sliders need theirs


def make_copies(root: Path) -> Path:
    """Bring every copy up to date; returns their folder."""
    folder, book = root / "_build" / "lab", Book(root)
    for name in book.chapters:
        bring_up_to_date(folder / f"{name}.ipynb", copy_of(book, name))
    return folder


if __name__ == "__main__":
    print(make_copies(Path(__file__).resolve().parents[1]))
