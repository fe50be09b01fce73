"""What readers cite: CITATION.cff, the page that says how, the bibliography, and where the book is hosted."""

import re
import tomllib
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import author_year
import hosting
import pytest
import yaml
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[1]
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRIES = parse_file(ROOT / "book" / "references.bib").entries


def test_citation_cff_says_what_the_package_says():
    assert CFF["cff-version"] == "1.2.0" and CFF["type"] == "software"
    assert CFF["version"] == PROJECT["version"] and CFF["license"] == PROJECT["license"]
    assert [author["name"] for author in CFF["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert CFF["authors"][0]["name"] == CONFIG["author"]
    assert {"message", "title", "abstract", "keywords", "references"} <= CFF.keys()
    date.fromisoformat(CFF["date-released"])


def test_the_page_says_the_same():
    page = (ROOT / "book" / "cite.md").read_text(encoding="utf-8")
    bib = re.search(r"```bibtex\n(.*?)```", page, re.DOTALL)[1]
    for value in (CFF["title"], CFF["version"], CFF["date-released"], CFF["license"], CFF["authors"][0]["name"]):
        assert f"{{{value}}}" in bib
    thesis = CFF["references"][0]
    assert f"title  = {{{thesis['title']}}}" in bib and ENTRIES["gimenez2021"].fields["title"] == thesis["title"]
    released = date.fromisoformat(CFF["date-released"])
    assert f"Version {CFF['version']}, of {released:%-d %B %Y}" in page


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_can_be_found(key):
    fields = ENTRIES[key].fields
    if key not in ("gimenez2021", "dombrowski2021"):  # which have no number, or none that we could confirm
        assert {"doi", "eprint", "url"} & fields.keys()
    assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "10.1000/x"))
    assert re.fullmatch(r"\d{4}\.\d{4,5}", fields.get("eprint", "1000.0000"))
    assert fields.get("archiveprefix", "arXiv") == "arXiv"
    assert "arXiv" not in fields.get("note", "")


def test_a_label_is_what_is_cited():
    labels = dict(zip(ENTRIES, author_year.Labels().format_labels(list(ENTRIES.values())), strict=True))
    assert labels["glow"] == "Kingma and Dhariwal, 2018a"
    assert labels["realnvp"] == "Dinh et al., 2017"
    assert labels["white2016"] == "White, 2016"
    assert labels["gimenez2021"] == "Gimenez Funes, 2021"
    assert len(set(labels.values())) == len(labels)


@pytest.mark.parametrize("url", ["", "https://github.com/someone/glowkit"])
def test_one_variable_turns_the_launch_buttons_on(url):
    assert CONFIG["repository"] == {"url": ""}
    assert {"binderhub_url", "colab_url"} <= CONFIG["launch_buttons"].keys()
    config = SimpleNamespace(html_theme_options={"repository_url": url, "launch_buttons": CONFIG["launch_buttons"]})
    hosting.launch(None, config)
    assert ("launch_buttons" in config.html_theme_options) == bool(url)


def test_binder_gets_the_pins():
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "-r ../requirements.txt" in lines
    (torch,) = [line.removesuffix("+cpu") for line in lines if line.startswith("torch==")]
    assert torch in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"][0]
    assert (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip() == conda.replace("=", "-")
