"""Sphinx extension: run every chapter of the table of contents through papermill, then let Sphinx read the
results.

A chapter is a pair in notebooks/: NN_name.md, the text that people edit, and NN_name.ipynb, the same without
outputs. Its executed copy goes to _build/chapters/MODEL/NN_name.ipynb, and from there to book/notebooks, which git
ignores and Sphinx reads. The copy carries a key of everything its outputs depend on: code cells and their tags, the
modules of the library that they import (and what those import), the bundled studies that they name, the Python and
package versions. While the key stays the same, only the prose is replaced; when it changes, the chapter runs again.

Chapters run several at a time, one thread each: on two cores that is faster than one after the other with two
threads, and the sums come out the same on every machine. The chapter with a cell tagged `every-verdict` gathers the
verdicts of the others (the files of `glowkit.book.claims`), so it waits for them; a copy keeps its chapter's verdicts
in its metadata, and _build/claims gets them all.

A chapter with a parameter `model` shows its default on its page. It is run with every other bundled model of the same
image size, too: for the verdicts, which the page has side by side on the card of each claim (`glowkit.book.cards`), and
for the figures tagged `every-model`, which it shows one beneath the other.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging

from glowkit.book import INLINE, cards
from glowkit.book.claims import entry_of

log = logging.getLogger(__name__)

CELL_SECONDS = 600  # a cell that takes longer is at fault
WORKER_BYTES = 2 * 2**30  # memory set aside for each chapter that runs
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "ipykernel", "ipywidgets")
WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT = ("tags", "mystnb")  # the cell metadata that the pages use
CLAIM = "claim"  # metadata of an output that shows an entry of the ledger: the entry
OWN = "own"  # folder of the executed copies whose model is the chapter's own
EVERY_MODEL = "every-model"  # tag of a figure that a page shows for each bundled model of the chapter's size
EVERY_VERDICT = "every-verdict"  # tag of the cell, in one chapter, that reads the verdicts of all others
COLOUR = re.compile(r"\x1b\[[\d;]*m")  # of IPython's tracebacks, for terminals
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
# What a reader has set for Python, IPython, Jupyter and matplotlib: it would change a chapter's outputs, or take its
# figures away, and the key does not see it.
READERS_OWN = re.compile("IPYTHON|JUPYTER|MPLBACKEND|MATPLOTLIBRC|PYTHON(STARTUP|WARNINGS|OPTIMIZE|INSPECT)")


class ChapterError(Exception):
    """A chapter that did not run, told in one line: notebook, cell, error."""


def listed(root: Path) -> list[str]:
    """Names of the chapters in _toc.yml, in order."""

    def files(entry: dict) -> Iterable[str]:
        if "file" in entry:
            yield entry["file"]
        for key in ("parts", "chapters", "sections"):
            for child in entry.get(key, []):
                yield from files(child)

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [file.removeprefix("notebooks/") for file in files(toc) if file.startswith("notebooks/")]


def content(notebook: NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    """What a notebook says, cell by cell: kind, source, tags."""
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", ()))) for c in notebook.cells]


def source(root: Path, name: str) -> NotebookNode:
    """The chapter as last edited: the text, or the .ipynb where that was edited later and says something
    else."""
    text, twin = (root / "notebooks" / f"{name}{suffix}" for suffix in (".md", ".ipynb"))
    notebook = jupytext.read(text)
    if twin.exists() and twin.stat().st_mtime > text.stat().st_mtime:
        other = nbformat.read(twin, as_version=4)
        if content(other) != content(notebook):
            log.info(f"chapters: {name}.ipynb is newer than {name}.md and differs, so it is used; "
                     f"before a commit: jupytext --sync notebooks/{name}.ipynb")  # fmt: skip
            notebook = other
    return notebook


def library_files(root: Path, code: str) -> set[Path]:
    """The files of the library that the code uses: modules it imports, what those import, tables that they name."""
    library = root / "glowkit"
    init = library / "__init__.py"
    home = _homes(init)
    found = {init} if init.exists() else set()
    queue = [code]
    while queue:
        try:
            nodes = list(ast.walk(ast.parse(queue.pop())))
        except SyntaxError:  # the run will say where; until then everything counts
            return {file for file in library.rglob("*.*") if file.suffix != ".pyc"}
        names: set[str] = set()  # dotted, below the library: faces.geometry
        texts: set[str] = set()
        for node in nodes:
            match node:
                case ast.Import():
                    names.update(alias.name.removeprefix("glowkit.") for alias in node.names)
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "glowkit":
                    package = module.removeprefix("glowkit").removeprefix(".")
                    names.update(f"{package}.{alias.name}".removeprefix(".") for alias in node.names)
                case ast.Attribute() if (dotted := ast.unparse(node)).startswith("glowkit."):
                    names.add(dotted.removeprefix("glowkit."))
                case ast.Constant(value=str(text)):
                    texts.add(text)
        tables = {file for file in library.rglob("*.*") if file.suffix not in (".py", ".pyc") and file.name in texts}
        new = {file for name in names for file in _modules(library, home.get(name, name))} - found
        found |= new | tables
        # The parameters' module only checks them; were it followed, a new face would count as news for chapters
        # without any.
        queue += [file.read_text(encoding="utf-8") for file in new if file != library / "book" / "parameters.py"]
    return found


def _modules(library: Path, name: str) -> Iterable[Path]:
    """The files that an import of a dotted name runs: its packages' and the module's own; what follows is no file."""
    place = library
    for part in name.split("."):
        place /= part
        yield from filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py"))


def _homes(init: Path) -> dict[str, str]:
    """Which module each lazy name of the package lives in, as the one table in its __init__ says."""
    tree = ast.parse(init.read_text(encoding="utf-8") if init.exists() else "")
    tables = [s.value for s in tree.body if isinstance(s, ast.Assign) and isinstance(s.value, ast.Dict)]
    return {name: module for table in tables for name, module in ast.literal_eval(table).items()}


def key(root: Path, notebook: NotebookNode, claims: Mapping[str, str]) -> str:
    """A digest of everything that the chapter's outputs depend on; claims: the verdict files it is given to
    read."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code = "\n".join(cell.source for cell in cells)
    files = library_files(root, code)
    for folder in (root / "data").glob("*"):
        if f'"{folder.name}"' in code or f"'{folder.name}'" in code:
            files |= {file for file in folder.rglob("*") if file.is_file() and file.suffix != ".md"}
    depends = {
        "cells": [[cell.source, cell.metadata.get("tags", [])] for cell in cells],
        "versions": [platform.python_version(), *map(version, PACKAGES)],
        "files": {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "claims": dict(claims),
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def run(root: Path, name: str, notebook: NotebookNode, claims: Mapping[str, str]) -> NotebookNode:
    """The executed notebook, its own verdict files in metadata.claims.

    Raises ChapterError for a cell that fails or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, executed, ledger = (Path(folder, part) for part in ("given.ipynb", "executed.ipynb", "claims"))
        nbformat.write(notebook, given)
        write_claims(ledger, claims)
        environment = environment_of(root) | {"GLOWKIT_CLAIMS": str(ledger)}
        environment |= {"JUPYTER_PREFER_ENV_PATH": "1"}  # the kernel of this Python, not another of the same name
        empty = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")
        environment |= {name: str(Path(folder, name.lower())) for name in empty}
        command = [sys.executable, "-m", "papermill", str(given), str(executed), "--cwd", str(root)]
        command += ["--kernel", "python3", "--no-progress-bar", "--execution-timeout", str(CELL_SECONDS)]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        result = nbformat.read(executed, as_version=4) if executed.exists() else None
        if done.returncode or result is None:
            raise ChapterError(f"notebooks/{name}: {_failure(result, done.stderr)}")
        own = {file.name: file.read_text(encoding="utf-8") for file in ledger.glob(f"{name}.*.json")}
        result.metadata["claims"] = dict(sorted(own.items()))
        return result


def environment_of(root: Path) -> dict[str, str]:
    """The environment that the book's parts are computed in: one thread each, and nothing READERS_OWN."""
    given = {name: value for name, value in os.environ.items() if not READERS_OWN.match(name)}
    # The library of this checkout, whether or not it is installed.
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return {**given, **ONE_THREAD, "TQDM_DISABLE": "1", "MPLBACKEND": INLINE, "PYTHONPATH": path}


def write_claims(folder: Path, claims: Mapping[str, str]) -> None:
    """Make the folder hold these verdict files and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, text in claims.items():
        (folder / name).write_text(text, encoding="utf-8")


def _failure(executed: NotebookNode | None, stderr: str) -> str:
    """Where and why a run stopped: the cell whose output is an error, else papermill's last word."""
    cells = [cell for cell in executed.cells if cell.cell_type == "code"] if executed else []
    for position, cell in enumerate(cells, 1):
        where = f"code cell {position} ({cell.source.strip().splitlines()[0]})"
        for output in cell.outputs:
            if output.output_type == "error" and output.ename == "KeyboardInterrupt":
                # Nobody else interrupts a cell here.
                return f"{where}: TimeoutError: stopped after {CELL_SECONDS} s"
            if output.output_type == "error":
                line = f"{where}: {output.ename}: {output.evalue}"
                # A GlowkitError shows itself as that one line; others bring their stack.
                stack = [COLOUR.sub("", frame) for frame in output.traceback]
                return "\n".join([line, *stack] if len(stack) > 1 else [line])
        if cell.metadata.get("papermill", {}).get("status") == "running":
            return f"{where}: {(stderr.strip().splitlines() or ['stopped'])[-1]}"
    return (stderr.strip().splitlines() or ["papermill failed"])[-1]


def without_picture(executed: NotebookNode, own: bool) -> str | None:
    """The first figure whose cell shows no picture, None if each has one.

    own: with the chapter's own model; with another, a cell may say in words that it has none.
    """
    kinds = {"image/png"} if own else {"image/png", "text/markdown"}
    for cell in executed.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if cell.cell_type == "code" and figure and not any(kinds & set(o.get("data", ())) for o in cell.outputs):
            return figure.get("name", "one without a name")
    return None


def merge(notebook: NotebookNode, executed: NotebookNode, digest: str) -> NotebookNode:
    """The chapter's present text with the outputs of its last run; both have the same code cells."""
    # A live widget is nothing without its kernel; here it can only be the progress bar of a library function
    # (tqdm's notebook bars do not heed TQDM_DISABLE).
    outputs = iter(
        [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for cell in executed.cells
        if cell.cell_type == "code"
    )
    metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "claims": executed.metadata["claims"],
        "key": digest,
    }
    merged = nbformat.v4.new_notebook(metadata=metadata)
    for number, cell in enumerate(notebook.cells):
        # Ids by position and no times: the file stays the same, byte for byte, while what it says does.
        same = {"id": f"cell-{number}", "metadata": {k: cell.metadata[k] for k in KEPT if k in cell.metadata}}
        if cell.cell_type == "code":
            merged.cells.append(nbformat.v4.new_code_cell(cell.source, outputs=next(outputs), **same))
        else:
            merged.cells.append(nbformat.v4.new_markdown_cell(cell.source, **same))
    return merged


def bring_up_to_date(root: Path, page: Path, claims: Mapping[str, str], model: str | None = None) -> dict[str, str]:
    """Make `page`, a file of the chapter's name, its executed copy, running it only if its key changed.

    claims: verdict files of other chapters that it reads; model: in the place of its own. Returns its own verdicts.
    """
    name = page.stem
    notebook = source(root, name)
    if model is not None:  # as papermill would give it
        notebook.cells.insert(_parameters(notebook) + 1, nbformat.v4.new_code_cell(f"# Parameters\nmodel = {model!r}"))
    digest = key(root, notebook, claims)
    before = nbformat.read(page, as_version=4) if page.exists() else None
    own = model is None
    if before is not None and before.metadata.get("key") == digest and not without_picture(before, own):
        executed = before
    else:
        told = name if own else f"{name} with {model}"
        log.info(f"chapters: {told} runs")
        start = time.monotonic()
        executed = run(root, name, notebook, claims)
        log.info(f"chapters: {told} ran in {time.monotonic() - start:.0f} s")
        if figure := without_picture(executed, own):
            raise ChapterError(f"notebooks/{told}: the cell of the figure {figure} shows no picture (image/png)")
    write(page, merge(notebook, executed, digest))
    return executed.metadata["claims"]


def write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, unless the file says so already: Sphinx reads again what is newer."""
    text = nbformat.writes(notebook)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def beside(page: NotebookNode, others: Mapping[str, NotebookNode]) -> NotebookNode:
    """The page, with what the same cells gave with each other model: figures tagged EVERY_MODEL, and every verdict,
    all those of a row on one card."""
    cells = []
    for cell in page.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        found = {model: next(c.outputs for c in o.cells if c.source == cell.source) for model, o in others.items()}
        cell.outputs = on_cards([cell.outputs, *found.values()])
        for model, outputs in found.items():
            images = [output for output in outputs if "image/png" in output.get("data", {})]
            if EVERY_MODEL in cell.metadata.get("tags", ()) and images:  # some need pictures that only one model has
                name = cell.metadata["mystnb"]["figure"]["name"]
                caption = f"As {{numref}}`{name}`, with the {{ref}}`other model <two-kinds>`, `{model}`."
                figure = {"figure": {"name": f"{name}-{model}", "caption": caption}}
                metadata = {"tags": ["remove-input"], "mystnb": {**cell.metadata["mystnb"], **figure}}
                shown = {"outputs": images, "metadata": metadata, "id": f"{cell.id}-{model}"}
                cells.append(nbformat.v4.new_code_cell(cell.source, **shown))
    return NotebookNode({**page, "cells": cells})


def on_cards(outputs: Sequence[Sequence[NotebookNode]]) -> list[NotebookNode]:
    """The outputs of a cell with one model, those that show a row's entry replaced by the card of that row.

    outputs: of the same cell with each model, that of the page first. A row that it does not show is added at the end.
    """
    entries = [
        entry_of(output.metadata[CLAIM]) for cell in outputs for output in cell if CLAIM in output.get("metadata", {})
    ]
    shown = {
        id: nbformat.v4.new_output("display_data", {"text/html": cards.card(found)})
        for id, found in cards.by_row(entries).items()
    }
    first = [
        shown.pop(output.metadata[CLAIM]["id"], None) if CLAIM in output.get("metadata", {}) else output
        for output in outputs[0]
    ]
    return [output for output in [*first, *shown.values()] if output is not None]


def gathering(root: Path, names: Iterable[str]) -> str:
    """The one chapter of `names` that reads the verdicts of the others; ExtensionError if none or several do."""
    found = [name for name in names if any(EVERY_VERDICT in tags for _, _, tags in content(source(root, name)))]
    if len(found) != 1:
        raise ExtensionError(f"one chapter has a cell tagged {EVERY_VERDICT}; here: {', '.join(found) or 'none'}")
    return found[0]


def other_models(root: Path, name: str) -> list[str]:
    """The bundled models, with study and judge, of the size of the chapter's own; none if it has no parameter `model`.

    Raises ExtensionError for a name that is not a plain word.
    """
    notebook = source(root, name)
    at = _parameters(notebook)
    own = re.search(r"""^model = ["'](\w+)["']""", notebook.cells[at].source if at >= 0 else "", re.MULTILINE)
    bundled = sorted(
        judge.parent.name
        for judge in (root / "data").glob("*/judge.safetensors")
        if (judge.parent / "study.safetensors").exists()
    )
    for model in bundled:  # a name becomes a label, a caption, a folder and a cell of code
        if not re.fullmatch(r"\w[\w-]*", model):
            raise ExtensionError(f"data/{model}: a bundled model is named by letters, digits, _ and - alone")
    return [m for m in bundled if m != own[1] and _image_size(root, m) == _image_size(root, own[1])] if own else []


def _image_size(root: Path, model: str) -> int:
    return json.loads((root / "data" / model / "config.json").read_text(encoding="utf-8"))["model"]["image_size"]


def _parameters(notebook: NotebookNode) -> int:
    """Where the cell of parameters is, -1 if there is none."""
    return next((i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", ())), -1)


def workers() -> int:
    """How many chapters run at a time: a core and two gigabytes each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2 * WORKER_BYTES
    return max(1, min(os.cpu_count() or 1, memory // WORKER_BYTES))


def build_chapters(app: Sphinx) -> None:
    """builder-inited: bring every chapter up to date, or fail the build with one line for each that did not
    run."""
    root = Path(os.fspath(app.srcdir)).parent
    executed, pages = root / "_build" / "chapters", root / "book" / "notebooks"
    chapters = listed(root)
    gatherer = gathering(root, chapters)
    names = [name for name in chapters if name != gatherer]
    runs = {name: {OWN: None} | {model: model for model in other_models(root, name)} for name in names}
    wanted = [(executed / kind / f"{name}.ipynb", model) for name in names for kind, model in runs[name].items()]
    last = executed / OWN / f"{gatherer}.ipynb"
    kept = {page for page, _ in wanted} | {last} | {pages / f"{name}.ipynb" for name in chapters}
    for old in {*pages.glob("*.ipynb"), *executed.glob("*/*.ipynb")} - kept:
        old.unlink()
    claims: dict[str, str] = {}
    errors = []
    with ThreadPoolExecutor(workers()) as pool:
        # The first chapters take the least time: begun last, they leave no core idle for long.
        begun = [pool.submit(bring_up_to_date, root, page, {}, model) for page, model in reversed(wanted)]
        for future in reversed(begun):
            try:
                claims = future.result() | claims  # of pure mathematics, what the page says
            except ChapterError as error:
                errors.append(str(error))
    if not errors:
        try:
            claims |= bring_up_to_date(root, last, claims)
        except ChapterError as error:
            errors.append(str(error))
    if errors:
        raise ExtensionError("\n".join(errors))
    for name in chapters:
        kinds = [kind for kind in runs.get(name, {}) if kind != OWN]
        own, *others = (nbformat.read(executed / kind / f"{name}.ipynb", as_version=4) for kind in (OWN, *kinds))
        write(pages / f"{name}.ipynb", beside(own, dict(zip(kinds, others, strict=True))))
    write_claims(root / "_build" / "claims", claims)


def configure(app: Sphinx, config: Config) -> None:
    """config-inited: settings that _config.yml has no way to say."""
    # The table of contents is the top-level file; Jupyter Book insists on one beside the index.
    config.external_toc_path = os.fspath(app.srcdir.parent / "_toc.yml")
    # MathJax is copied like _static but kept out of it: Jupyter Book links every script in there from every
    # page.
    config.html_static_path.append(os.fspath(app.srcdir / "vendor"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    if not (app.srcdir.parent / "_toc.yml").exists():
        # No exception of Sphinx's, which Jupyter Book shows with its stack.
        sys.exit(f"{app.srcdir}: the book is not here but in its folder book: jupyter-book build book/")
    app.connect("config-inited", configure, priority=800)  # sphinx-external-toc reads it at 900
    app.connect("builder-inited", build_chapters)
    return {"parallel_read_safe": True}
