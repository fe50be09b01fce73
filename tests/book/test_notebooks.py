"""The chapters as they are committed: pairs agree, no outputs, parameters declared, every claim in its
place."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml

from glowkit.book import claims

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "00_introduction", "01_glow", "02_celeba", "03_gaussianity", "04_affine",
    "05_classifiers", "06_corruption", "07_grounding", "08_heuristics", "09_conclusions",
    "10_why", "11_size",
]  # fmt: skip


def text(name):
    return jupytext.read(ROOT / "notebooks" / f"{name}.md")


def code(name):
    return [cell for cell in text(name).cells if cell.cell_type == "code"]


def content(notebook):
    kept = ("tags", "mystnb")
    return [(c.cell_type, c.source, {k: c.metadata[k] for k in kept if k in c.metadata}) for c in notebook.cells]


def test_the_table_of_contents_lists_the_chapters_and_no_other_is_there():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [file for file in files if file.startswith("notebooks/")] == [f"notebooks/{name}" for name in NAMES]
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_says_the_same(name):
    assert content(text(name)) == content(jupytext.read(ROOT / "notebooks" / f"{name}.ipynb"))


def test_the_pair_is_as_jupytext_writes_it(tmp_path):
    """So an edit of a word changes that word, in both files."""
    for name in NAMES:
        assert jupytext.writes(text(name), "md:myst") == (ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for file in (tmp_path / "notebooks").glob("*.md"):
        source = file.read_text(encoding="utf-8")
        file.write_text(source.replace("\n# ", "\n# New ", 1), encoding="utf-8")
    texts = sorted(str(file) for file in (tmp_path / "notebooks").glob("*.md"))
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", *texts], check=True, capture_output=True)
    for name in NAMES:
        for suffix in (".md", ".ipynb"):
            old, new = (root / "notebooks" / f"{name}{suffix}" for root in (ROOT, tmp_path))
            lines = [file.read_text(encoding="utf-8").splitlines() for file in (old, new)]
            assert len(lines[0]) == len(lines[1]), new.name
            changed = [(a, b) for a, b in zip(*lines, strict=True) if a != b]
            assert len(changed) == 1 and changed[0][0] == changed[0][1].replace("# New ", "# "), new.name


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_carries_no_outputs(name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cells_give_and_declare_the_same_parameters(name):
    first, second = code(name)[:2]
    assert first.metadata.get("tags") == ["parameters"]
    given = [s.targets[0].id for s in ast.parse(first.source).body]
    calls = [
        node
        for node in ast.walk(ast.parse(second.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "parameters.check"
    ]
    assert [keyword.arg for keyword in calls[0].keywords] == given


@pytest.mark.parametrize("name", NAMES)
def test_no_chapter_defines_a_model_or_trains_one(name):
    for cell in code(name):
        tree = ast.parse(cell.source)
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
        assert not re.search(r"\.backward\(|torch\.optim|nn\.Module", cell.source)


def test_no_function_is_defined_in_two_chapters():
    home = {}
    for name in NAMES:
        for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(name)))):
            if isinstance(node, ast.FunctionDef):
                home.setdefault(node.name, set()).add(name)
    assert home and {function: where for function, where in home.items() if len(where) > 1} == {}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "01_glow"])  # its `flow` is the module it is about
def test_chapters_have_one_word_for_each_thing(name):
    """What is opened has the same name everywhere, and what a data set is, it says itself."""
    words = {"open_study": "study", "open_judge": "judge", "open_pictures": "album", "checkpoint.load": "flow"}
    for cell in code(name):
        assert not re.search(r"FACES_SEED|\.name\.startswith", cell.source)
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Assign):
                pair = node.targets[0], node.value
                if all(isinstance(side, ast.Tuple) for side in pair):
                    pairs = zip(*(side.elts for side in pair), strict=False)  # values may be starred
                else:
                    pairs = [pair]
                for target, value in pairs:
                    opener = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
                    assert ast.unparse(target) == words.get(opener, ast.unparse(target)), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_code_that_can_be_seen_fits_the_page(name):
    """A column of text is 80 characters of code wide."""
    shown = [cell for cell in code(name) if not {"remove-cell", "remove-input"} & set(cell.metadata.get("tags", ()))]
    assert [line for cell in shown for line in cell.source.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("row", claims.rows().values(), ids=lambda row: row.id)
def test_every_claim_has_its_section(row):
    markdown = (ROOT / "notebooks" / f"{row.chapter}.md").read_text(encoding="utf-8")
    assert f"\n({row.section})=\n#" in markdown


RECORDED = ("claims.record", "claims.measured")
LIVE = ("C05", "B08", "B09")  # findings that no one model of latents decides


def test_every_verdict_names_a_figure_that_is_there():
    labels = {
        label
        for name in NAMES
        for label in re.findall(
            r"^    name: ([\w-]+)$", (ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    seen = set()
    for name in NAMES:
        for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(name)))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in RECORDED:
                given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                row = claims.rows()[node.args[0].value]
                assert given.get("figure", f"fig-{row.section}") in labels, row.id
                assert row.kind == claims.CHECK or row.id in LIVE or ast.unparse(node.func) == "claims.measured", row.id
                seen.add(row.id)
    assert seen == set(claims.rows())


def test_no_label_stands_twice():
    """Figures, sections and equations share one name space over the whole book."""
    labels = [
        label
        for name in NAMES
        for found in re.findall(
            r"^    name: ([\w-]+)$|^\(([\w-]+)\)=$|^\$\$ \(([\w-]+)\)$",
            (ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        for label in found
        if label
    ]
    assert len(labels) > 50
    assert sorted(set(labels)) == sorted(labels)


def test_the_bibliography_is_what_the_book_cites():
    """Each citation has an entry, each entry is cited, and no key stands twice."""
    pages = [*(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").glob("*.md")]
    cited = {
        key.strip()
        for page in pages
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text(encoding="utf-8"))
        for key in keys.split(",")
    }
    entries = re.findall(
        r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(cited) == sorted(entries)


def test_each_figure_of_the_thesis_is_listed_with_one_of_this_book():
    pages = "".join((ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8") for name in NAMES)
    listed = re.findall(r"^\| (\d+) \| [^|]+ \| (.*numref.*) \|$", pages, re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(1, 32))
    labels = set(re.findall(r"^    name: ([\w-]+)$", pages, re.MULTILINE))
    assert {label for _, here in listed for label in re.findall(r"\{numref\}`([\w-]+)`", here)} <= labels
