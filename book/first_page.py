"""Sphinx extension: what the models give to the first page, computed again only when it may have changed.

`glowkit.book.first_page` writes the page's parts and pictures to _build/first_page. Beside them lies a key of what they
depend on: the modules of the library that make them, the two models with their studies, the package versions.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from run_chapters import PACKAGES, environment_of, library_files
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging

log = logging.getLogger(__name__)

MODELS = ("faces64", "celeba64")
COMMAND = "glowkit.book.first_page"


def key(root: Path) -> str:
    """A digest of everything that the parts depend on."""
    files = library_files(root, f"import {COMMAND}")
    files |= {file for model in MODELS for file in (root / "data" / model).iterdir() if file.suffix != ".md"}
    digest = hashlib.sha256(repr([platform.python_version(), *map(version, PACKAGES)]).encode())
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def folder(app: Sphinx) -> Path:
    """Where the parts are."""
    return Path(os.fspath(app.srcdir)).parent / "_build" / "first_page"


def configure(app: Sphinx, config: Config) -> None:
    """config-inited: the pictures go to _static with the rest."""
    pictures = folder(app) / "static"
    pictures.mkdir(parents=True, exist_ok=True)
    config.html_static_path.append(os.fspath(pictures))


def build(app: Sphinx) -> None:
    """builder-inited: bring the parts up to date, or fail the build with the last line of what went wrong."""
    out = folder(app)
    root, made = out.parent.parent, out / "key"
    digest = key(root)
    if made.exists() and made.read_text(encoding="utf-8") == digest:
        return
    start = time.monotonic()
    command = [sys.executable, "-m", COMMAND, os.fspath(out)]
    done = subprocess.run(command, env=environment_of(root), capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ExtensionError(f"the first page: {(done.stderr.strip().splitlines() or ['stopped'])[-1]}")
    made.write_text(digest, encoding="utf-8")
    log.info(f"the first page: its pictures took {time.monotonic() - start:.0f} s")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", configure, priority=800)
    app.connect("builder-inited", build, priority=600)  # after the chapters, which keep the samples that it needs
    return {"parallel_read_safe": True}
