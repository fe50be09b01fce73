"""A chapter in JupyterLab, as `make lab` opens it: read, run and played with in a real browser."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import lab
import nbformat
import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

(ch-small)=
# A small chapter

It cites {cite:t}`glow`, uses the word {term}`judge` and points to {numref}`fig-c11`.

```{code-cell} ipython3
:tags: [remove-cell]

import torch
from glowkit.book import claims
from glowkit.book.playground import playground
from glowkit.book.widgets import control

claims.forget("01_small", "none")
```

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A figure of the word {term}`judge`.
    name: fig-c11
tags: [hide-input]
---
control([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)], [0, 1], "grey", alt="A square")
```

```{code-cell} ipython3
:tags: [remove-cell]

playground()
```
"""


@pytest.fixture
def book(tmp_path):
    """The sources of a book of one chapter, and the ledger of its last build."""
    (tmp_path / "_toc.yml").write_text("root: index\nchapters:\n  - file: notebooks/01_small\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_small.md").write_text(CHAPTER, encoding="utf-8")
    (tmp_path / "book").mkdir()
    for name in ("references.bib", "glossary.md"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book" / name)
    # As in the project: were jupytext asked, it would write a .md beside each notebook that is saved.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
def server(book):
    """The address of a JupyterLab on the copies."""
    folder = lab.make_copies(book)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=secret", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    environment = {name: value for name, value in os.environ.items() if name != "GLOWKIT_CLAIMS"}
    environment |= {"JUPYTER_CONFIG_PATH": str(ROOT / "book" / "jupyter"), "PYTHONPATH": str(ROOT)}
    with open(book / "jupyter.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (book / "jupyter.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/tree/01_small.ipynb?token=secret&reset"
    finally:
        process.terminate()
        process.wait(30)


def sources(book):
    """Every file but the copies and the server's own log."""
    files = [
        file for file in book.rglob("*") if file.is_file() and "_build" not in file.parts and file.suffix != ".log"
    ]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_chapter_is_read_run_played_with_and_saved(book, server, tmp_path):
    before, ledger = sources(book), ROOT / "_build" / "claims"
    verdicts = {file: file.read_bytes() for file in ledger.glob("*.json")}
    own = io.BytesIO()
    Image.new("RGB", (178, 218), "tan").save(own, "png")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(server)
        notebook = page.locator(".jp-Notebook")

        # Read: code is folded, what is cited and referred to is spelled out.
        notebook.get_by_role("heading", name="Cited here").wait_for()
        assert notebook.locator(".jp-CodeCell .jp-Placeholder").count() == 3
        text = notebook.inner_text()
        assert "It cites Kingma and Dhariwal (2018a), uses the word judge and points to Figure C11." in text
        assert not re.search(r"\{\w+(:\w)?\}`|gimenez2021|fig-c11", text)

        # Run, and play: pictures follow, with words for readers who do not see them.
        page.get_by_role("menuitem", name="Run").first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        picture = notebook.locator("img[alt^='A square']")
        picture.wait_for()
        assert picture.get_attribute("alt") == "A square; grey 0"
        dark = picture.get_attribute("src")
        notebook.locator(".noUi-handle").first.press("ArrowRight")
        notebook.locator("img[alt='A square; grey 1']").wait_for()
        assert picture.get_attribute("src") != dark
        edited = notebook.locator("img[alt*='in the latent space']")
        edited.wait_for()
        assert edited.get_attribute("alt") == "The same face with 1.00 × Smiling in the latent space"
        panel = notebook.locator(".jp-Cell", has=page.get_by_role("button", name="another face"))
        panel.locator(".noUi-handle").first.press("ArrowRight")
        notebook.locator("img[alt='The same face with 1.05 × Smiling in the latent space']").wait_for()
        with page.expect_file_chooser() as chooser:
            panel.get_by_role("button", name="a face of your own").click()
        chooser.value.set_files({"name": "me.png", "mimeType": "image/png", "buffer": own.getvalue()})
        notebook.locator("img[alt^='Your picture']").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("menuitem", name="File").first.click()
        page.get_by_text("Save Notebook", exact=True).click()
        copy = book / "_build" / "lab" / "01_small.ipynb"
        for _ in range(100):
            if "grey 1" in copy.read_text(encoding="utf-8"):
                break
            time.sleep(0.2)

        # Without the kernel, the notebook shows what was seen last.
        page.goto(server)
        notebook.locator("img[alt='A square; grey 1']").wait_for()
        browser.close()
    saved = nbformat.read(copy, as_version=4)
    kinds = [
        {kind for output in cell.outputs for kind in output.get("data", {})}
        for cell in saved.cells
        if "outputs" in cell
    ]
    assert ["text/html" in kind for kind in kinds] == [False, True, True]
    assert sources(book) == before and {file: file.read_bytes() for file in ledger.glob("*.json")} == verdicts
