"""The examples in docstrings do what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import glowkit

ROOT = Path(glowkit.__file__).parent
MODULES = [
    "glowkit." + ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted(ROOT.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(import_module(name), extraglobs={"glowkit": glowkit})
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", [name for name in glowkit.__all__ if name != "__version__"])
def test_every_public_name_has_one(name):
    assert ">>> " in getattr(glowkit, name).__doc__
