"""The extension that runs the chapters, on a book of three chapters with a library of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import run_chapters
from jupytext import reads
from PIL import Image

EXTENSION = Path(run_chapters.__file__).parent

MEASURE = """\
---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

(measure)=
# Measure

Some prose.

```{code-cell} ipython3
:tags: [parameters]

model = "tiny"
```

```{code-cell} ipython3
import os, pathlib
from glowkit import double
pathlib.Path(os.environ["GLOWKIT_CLAIMS"], f"00_measure.{model}.json").write_text(f'["{model}"]')
print("twice", double.of(21))
```

```{code-cell} ipython3
from IPython.display import Markdown, display
number = {"estimate": 0.0, "ci": [0.0, 0.0], "n": 2, "control": "c", "readings": {}}
entry = {"id": "C01", "verdict": "reproduced", "model": model, "chapter": "01_glow", "figure": "f", **number}
display(Markdown(f"**C01: reproduced** with {model}."), metadata={"claim": entry})
```

```{code-cell} ipython3
---
tags: [every-model]
mystnb:
  figure: {name: fig-square, caption: A square.}
  image: {alt: A square}
---
from IPython.display import Image
Image(pathlib.Path("data", model, "square.png").read_bytes())
```
"""
GATHER = """\
---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# Gather

```{code-cell} ipython3
:tags: [every-verdict]

import os, pathlib
print("read", *[f.read_text() for f in pathlib.Path(os.environ["GLOWKIT_CLAIMS"]).glob("*.json")])
```

Back to {ref}`measure`.
"""
AFTER = """\
---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# After

```{code-cell} ipython3
print("no verdict is read here")
```
"""
FILES = {
    "_config.yml": f"""\
title: Tiny
execute: {{execute_notebooks: "off"}}
sphinx:
  local_extensions: {{run_chapters: "{EXTENSION}"}}
""",
    "_toc.yml": """\
format: jb-book
root: index
chapters: [{file: notebooks/00_measure}, {file: notebooks/01_gather}, {file: notebooks/02_after}]
""",
    "book/_toc.yml": "format: jb-book\nroot: index\n",
    "book/index.md": "(two-kinds)=\n# Tiny\n",
    "book/vendor/nothing.txt": "",
    "notebooks/00_measure.md": MEASURE,
    "notebooks/01_gather.md": GATHER,
    "notebooks/02_after.md": AFTER,
    "glowkit/__init__.py": '_HOME = {"of": "double"}\n',
    "glowkit/double.py": "from glowkit.add import add\n\n\ndef of(x):\n    return add(x, x)\n",
    "glowkit/add.py": 'TABLE = "add.toml"\n\n\ndef add(x, y):\n    return x + y\n',
    "glowkit/add.toml": "",
    "glowkit/apart.py": "",
    "data/tiny/config.json": '{"model": {"image_size": 4}}',
    "data/other/config.json": '{"model": {"image_size": 4}}',
    "data/tiny/model.safetensors": "weights",
    "data/tiny/README.md": "card",
    "data/other/model.safetensors": "weights",
}


def write(root):
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for model, colour in (("tiny", "red"), ("other", "blue")):
        Image.new("RGB", (4, 4), colour).save(root / "data" / model / "square.png")
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


def key(root, name="00_measure", claims=None):
    return run_chapters.key(root, run_chapters.source(root, name), claims or {})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("notebooks/00_measure.md", "of(21)", "of(22)"),
        ("notebooks/00_measure.md", 'model = "tiny"', 'model = "other"'),
        ("notebooks/00_measure.md", ":tags: [parameters]", ":tags: [parameters, remove-cell]"),
        ("glowkit/double.py", "add(x, x)", "add(x, +x)"),
        ("glowkit/add.py", "x + y", "y + x"),
        ("glowkit/add.toml", "", "row = 1"),
        ("data/tiny/model.safetensors", "weights", "others"),
    ],
)
def test_what_the_outputs_depend_on_changes_the_key(root, file, old, new):
    before = key(root)
    text = (root / file).read_text(encoding="utf-8")
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    assert key(root) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("notebooks/00_measure.md", "Some prose.", "Some other prose.\n\nAnd more."),
        ("glowkit/apart.py", "", "x = 1"),
        ("data/tiny/README.md", "card", "other card"),
        ("data/other/model.safetensors", "weights", "others"),
    ],
)
def test_nothing_else_does(root, file, old, new):
    before = key(root)
    text = (root / file).read_text(encoding="utf-8")
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    assert key(root) == before


def test_verdicts_that_a_chapter_reads_count(root):
    assert key(root, "01_gather", {"00_measure.tiny.json": "1"}) != key(root, "01_gather")


@pytest.mark.parametrize(
    "code",
    [
        "import glowkit.double", "from glowkit import double as d", "from glowkit.double import of",
        "import glowkit\nglowkit.double.of(1)", "import glowkit\nglowkit.of(1)", "from glowkit import of",
    ],
)  # fmt: skip
def test_every_way_to_import_is_seen(root, code):
    names = {file.name for file in run_chapters.library_files(root, code)}
    assert names == {"__init__.py", "double.py", "add.py", "add.toml"}


@pytest.mark.parametrize(
    "code",
    [
        "from glowkit.shapes import area",
        "from glowkit import shapes",
        "import glowkit.shapes.square",
        "import glowkit\nglowkit.shapes.square.area(3)",
        "from glowkit.shapes.square import area as other",
    ],
)
def test_packages_are_followed_to_their_modules(root, code):
    package = root / "glowkit" / "shapes"
    package.mkdir()
    (package / "__init__.py").write_text("from glowkit.shapes.square import area\n")
    (package / "square.py").write_text("from glowkit import double\narea = open('sides.txt')\n")
    (package / "sides.txt").write_text("4")
    (package / "other.py").write_text("")
    found = {file.relative_to(root / "glowkit").as_posix() for file in run_chapters.library_files(root, code)}
    assert {"shapes/__init__.py", "shapes/square.py", "shapes/sides.txt", "double.py"} <= found
    assert "shapes/other.py" not in found


def test_prose_is_replaced_and_outputs_stay():
    old, new = (
        reads(MEASURE, "md:myst"),
        reads(MEASURE.replace("Some prose.", "One.\n\n+++\n\nTwo."), "md:myst"),
    )
    executed = reads(MEASURE, "md:myst")
    executed.metadata["claims"] = {}
    said = nbformat.v4.new_output("stream", text="twice 42\n")
    bar = nbformat.v4.new_output("display_data", {run_chapters.WIDGET: {"model_id": "1"}, "text/plain": "0%"})
    executed.cells[-3].outputs = [bar, said]
    merged = run_chapters.merge(new, executed, "digest")
    nbformat.validate(merged)
    assert run_chapters.content(merged) == run_chapters.content(new) != run_chapters.content(old)
    assert merged.cells[-3].outputs == [said]  # not the progress bar


def test_the_half_of_a_pair_that_was_edited_last_counts(root):
    text, twin = root / "notebooks" / "00_measure.md", root / "notebooks" / "00_measure.ipynb"
    notebook = reads(MEASURE.replace("of(21)", "of(5)"), "md:myst")
    nbformat.write(notebook, twin)
    os.utime(text, (1000, 1000))
    assert "of(5)" in run_chapters.source(root, "00_measure").cells[-3].source
    os.utime(twin, (900, 900))
    assert "of(21)" in run_chapters.source(root, "00_measure").cells[-3].source


def build(root):
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        "-W",
        "-n",
        "--keep-going",
        "book/",
    ]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    return done.returncode, done.stdout


def page(root, name):
    html = (root / "_build" / "html" / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    return re.sub(r"<[^>]*>", "", html)


def colours(root, name):
    """Colours of the pictures on a page, in order."""
    html = (root / "_build" / "html" / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    files = re.findall(r'src="../(_images/[^"]*)"', html)
    return [Image.open(root / "_build" / "html" / file).convert("RGB").getpixel((0, 0)) for file in files]


def test_a_book_is_built_rebuilt_after_prose_and_stopped_by_a_failing_cell(root):
    status, output = build(root)
    assert status == 0, output
    runs = re.findall(r"chapters: (\w+) runs", output)
    assert sorted(runs[:2]) == ["00_measure", "02_after"] and runs[2:] == ["01_gather"]  # which reads what others found
    assert (root / "_build" / "html" / "index.html").exists()
    assert "twice 42" in page(root, "00_measure")
    assert 'read ["tiny"]' in page(root, "01_gather")
    assert colours(root, "00_measure") == [(255, 0, 0)]
    assert (root / "_build" / "claims" / "00_measure.tiny.json").read_text() == '["tiny"]'

    chapter = root / "notebooks" / "00_measure.md"
    chapter.write_text(MEASURE.replace("Some prose.", "Better prose."), encoding="utf-8")
    status, output = build(root)
    assert status == 0, output
    assert "runs" not in output
    assert "Better prose." in page(root, "00_measure") and "twice 42" in page(root, "00_measure")

    # A second model with a study: only its run is new, and the page shows the first, the tagged figure with both.
    (root / "data/other/study.safetensors").write_text("means")
    (root / "data/other/judge.safetensors").touch()
    status, output = build(root)
    assert status == 0, output
    assert re.findall(r"chapters: (.+) runs", output) == ["00_measure with other", "01_gather"]
    assert {'["tiny"]', '["other"]'} == {file.read_text() for file in (root / "_build" / "claims").glob("*.json")}
    assert '["other"]' in page(root, "01_gather")
    assert colours(root, "00_measure") == [(255, 0, 0), (0, 0, 255)]
    cards = re.findall(r"C01 ✓ reproduced.*?Numbers", page(root, "00_measure"), re.DOTALL)
    assert len(cards) == 1 and re.search(r"✓tiny.*✓other", cards[0])
    assert "C01: reproduced with" not in page(root, "00_measure")
    assert "As Fig. 1, with the other model, other." in page(root, "00_measure")
    (root / "data/other/study.safetensors").unlink()
    status, output = build(root)
    assert status == 0 and not list((root / "_build" / "chapters" / "other").glob("*"))
    assert colours(root, "00_measure") == [(255, 0, 0)]

    chapter.write_text(MEASURE.replace("double.of(21)", "double.off(21)"), encoding="utf-8")
    status, output = build(root)
    assert status != 0
    assert "notebooks/00_measure: code cell 2 (import os, pathlib): AttributeError: module" in output
    assert "01_gather runs" not in output


def output(id, model, **change):
    """What a cell shows of a row measured with a model."""
    entry = {"id": id, "verdict": "reproduced", "estimate": 0.0, "ci": [0.0, 0.0], "n": 2, "control": "c",
             "model": model, "chapter": "01_glow", "figure": "f", "readings": {}}  # fmt: skip
    return nbformat.v4.new_output("display_data", {"text/markdown": id}, metadata={"claim": entry | change})


def test_a_row_stands_once_on_a_page_with_every_model_side_by_side():
    text = nbformat.v4.new_output("stream", text="before\n")
    opened = output("C01", "other", verdict="open", estimate=None, ci=None, n=None, control="")
    own = [text, output("C27", "none"), output("C01", "tiny")]
    other = [text, output("C27", "none"), opened, output("C04", "other")]
    before, *shown = run_chapters.on_cards([own, other])
    assert before == text
    html = [card.data["text/html"] for card in shown]
    assert [re.search(r"<b>([BC]\d\d)</b>", card)[1] for card in html] == ["C27", "C01", "C04"]
    models = [re.findall(r'title="([^"]*): [a-z]+"', card) for card in html]
    assert models == [["no model needed"], ["tiny", "other"], ["other"]]
    assert run_chapters.on_cards([[text]]) == [text]


def test_a_cell_that_takes_too_long_is_named(root, monkeypatch):
    monkeypatch.setattr(run_chapters, "CELL_SECONDS", 1)
    notebook = reads(MEASURE.replace('print("twice"', 'import time; time.sleep(60); print("twice"'), "md:myst")
    with pytest.raises(run_chapters.ChapterError, match=r"00_measure: code cell 2 .*: stopped after 1 s$"):
        run_chapters.run(root, "00_measure", notebook, {})


def test_one_chapter_reads_the_verdicts(root):
    names = run_chapters.listed(root)
    assert run_chapters.gathering(root, names) == "01_gather"
    with pytest.raises(run_chapters.ExtensionError, match="every-verdict; here: none"):
        run_chapters.gathering(root, ["00_measure", "02_after"])


def test_a_chapter_is_run_with_models_of_its_own_size(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_measure.md").write_text(MEASURE)
    for name, size in (("tiny", 32), ("other-2", 32), ("larger", 64), ("unjudged", 32)):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "config.json").write_text(f'{{"model": {{"image_size": {size}}}}}')
        for file in ("study.safetensors", "judge.safetensors"):
            (tmp_path / "data" / name / file).touch()
    (tmp_path / "data" / "unjudged" / "judge.safetensors").unlink()
    assert run_chapters.other_models(tmp_path, "00_measure") == ["other-2"]


def test_a_bundled_model_has_a_plain_name(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_measure.md").write_text(MEASURE)
    for name in ("tiny", "other-2"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "config.json").write_text('{"model": {"image_size": 32}}')
        for file in ("study.safetensors", "judge.safetensors"):
            (tmp_path / "data" / name / file).touch()
    assert run_chapters.other_models(tmp_path, "00_measure") == ["other-2"]
    (tmp_path / "data" / 'x"; y = "`<b>').mkdir()
    for file in ("study.safetensors", "judge.safetensors"):
        (tmp_path / "data" / 'x"; y = "`<b>' / file).touch()
    with pytest.raises(run_chapters.ExtensionError, match="letters, digits"):
        run_chapters.other_models(tmp_path, "00_measure")


DRAW = """\
---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell} ipython3
---
mystnb:
  figure: {name: fig-line, caption: A line.}
---
import matplotlib.pyplot as plt
plt.plot([1, 2]);
```
"""


def test_no_setting_of_the_reader_takes_a_figure_away(root, monkeypatch):
    profile, startup = root / "ipython" / "profile_default", root / "startup.py"
    (profile / "startup").mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("c.InlineBackend.figure_formats = {'svg'}\n")
    spoil = "import matplotlib\nmatplotlib.use('agg')\nprint('spoilt')\n"
    for file in (startup, profile / "startup" / "00.py"):
        file.write_text(spoil)
    kernel = root / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    (root / "matplotlibrc").write_text("backend: svg\n")
    for name, value in {
        "MPLBACKEND": "Agg", "MATPLOTLIBRC": root / "matplotlibrc", "IPYTHONDIR": root / "ipython",
        "PYTHONSTARTUP": startup, "JUPYTER_PATH": root / "jupyter", "JUPYTER_DATA_DIR": root / "jupyter",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    executed = run_chapters.run(root, "drawn", reads(DRAW, "md:myst"), {})
    (output,) = executed.cells[0].outputs
    assert "image/png" in output.data and run_chapters.without_picture(executed, own=True) is None


def test_a_figure_without_a_picture_stops_the_build_and_is_never_kept(root, monkeypatch):
    (root / "notebooks" / "00_drawn.md").write_text(DRAW)
    page = root / "00_drawn.ipynb"

    def runs(*outputs):
        executed = reads(DRAW, "md:myst")
        executed.metadata["claims"], executed.cells[0].outputs = {}, list(outputs)
        monkeypatch.setattr(run_chapters, "run", lambda *_: executed)
        run_chapters.bring_up_to_date(root, page, {})

    text = nbformat.v4.new_output("display_data", {"text/plain": "<Figure>", "image/svg+xml": "<svg/>"})
    for outputs in ([], [text]):
        with pytest.raises(run_chapters.ChapterError, match="notebooks/00_drawn: .* fig-line shows"):
            runs(*outputs)
        assert not page.exists()
    runs(nbformat.v4.new_output("display_data", {"image/png": "=="}))
    lost = nbformat.read(page, as_version=4)  # as one was left by earlier builds, its key that of the chapter
    lost.cells[0].outputs = [text]
    nbformat.write(lost, page)
    runs(nbformat.v4.new_output("display_data", {"image/png": "=="}))
    assert "image/png" in nbformat.read(page, as_version=4).cells[0].outputs[0].data


def test_with_another_model_a_cell_may_say_why_it_has_no_figure():
    executed = reads(DRAW, "md:myst")
    executed.cells[0].outputs = [nbformat.v4.new_output("display_data", {"text/markdown": "*Needs drawn faces.*"})]
    assert run_chapters.without_picture(executed, own=False) is None
    assert run_chapters.without_picture(executed, own=True) == "fig-line"
    executed.cells[0].outputs = []
    assert run_chapters.without_picture(executed, own=False) == "fig-line"


def test_a_build_of_the_whole_repository_is_one_line_that_says_what_to_build(root):
    with pytest.raises(SystemExit, match="jupyter-book build book/$"):
        run_chapters.setup(SimpleNamespace(srcdir=root))
