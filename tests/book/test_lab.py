"""Copies for JupyterLab: what they say, and that nobody's edits are lost."""

import re
from pathlib import Path

import lab
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def copies():
    book = lab.Book(ROOT)
    return {name: lab.copy_of(book, name) for name in book.chapters}


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_nothing_points_where_jupyterlab_cannot_follow(copies):
    for name, notebook in copies.items():
        text = prose(notebook)
        here = {*re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE), *re.findall(r"\$\$ \(([\w-]+)\)", text)}
        assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= here, name
        assert set(re.findall(r"\{eq\}`([^`]+)`", text)) <= here, name
        assert {kind for kind, _ in lab.ROLE.findall(text)} <= {"eq", "term"}, name
        assert {file for file in re.findall(r"\]\((\w+)\.ipynb\)", text)} <= copies.keys(), name


def test_every_term_used_is_defined_at_the_end(copies):
    for name, notebook in copies.items():
        used = {lab._target(content).lower() for kind, content in lab.ROLE.findall(prose(notebook)) if kind == "term"}
        assert used <= {term.lower() for term in re.findall(r"^(.+)\n: ", prose(notebook), re.MULTILINE)}, name


def test_what_the_page_hides_is_folded_and_figures_have_captions(copies):
    for notebook in copies.values():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                hidden = any(tag.endswith(("-input", "-cell")) for tag in cell.metadata.get("tags", []))
                assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == hidden
    captions = re.findall(r"\(fig-c11\)=\n\*\*Figure C11\.\*\* (.+)", prose(copies["04_affine"]))
    assert len(captions) == 1 and captions[0].startswith("Straight paths between three pairs")


def test_code_cells_are_the_chapter_s_own(copies):
    for name, notebook in copies.items():
        chapter = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        wanted, found = ([c.source for c in n.cells if c.cell_type == "code"] for n in (chapter, notebook))
        assert found == wanted


def made(text):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    notebook.metadata[lab.MADE_OF] = lab.digest(notebook)
    return notebook


def source(path):
    return nbformat.read(path, as_version=4).cells[0].source


def test_a_copy_follows_its_chapter_and_keeps_outputs_while_that_stays(tmp_path):
    path = tmp_path / "01.ipynb"
    lab.bring_up_to_date(path, made("first"))
    ran = nbformat.read(path, as_version=4)
    ran.cells[0].execution_count = 3
    nbformat.write(ran, path)
    lab.bring_up_to_date(path, made("first"))
    assert nbformat.read(path, as_version=4).cells[0].execution_count == 3
    lab.bring_up_to_date(path, made("second"))
    assert source(path) == "second" and [file.name for file in tmp_path.iterdir()] == ["01.ipynb"]


def test_an_edited_copy_is_never_lost(tmp_path):
    path = tmp_path / "01.ipynb"
    for round in (1, 2):
        lab.bring_up_to_date(path, made(f"chapter {round}"))
        mine = nbformat.read(path, as_version=4)
        mine.cells[0].source = f"mine {round}"
        nbformat.write(mine, path)
        lab.bring_up_to_date(path, made(f"chapter {round}"))
        assert source(path) == f"mine {round}"
    lab.bring_up_to_date(path, made("chapter 3"))
    assert source(path) == "chapter 3"
    assert [source(tmp_path / f"01-edited-{n}.ipynb") for n in (1, 2)] == ["mine 1", "mine 2"]
