"""Chapter parameters: right values pass, every kind of wrong one is one clear line, through papermill too."""

import os
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import torch

from glowkit import checkpoint
from glowkit.book import parameters
from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig

DECLARED = {"alpha": parameters.Real(0, 4), "n": parameters.Whole(1, 10), "full": parameters.Flag()}
RIGHT = {"alpha": 1.5, "n": 3, "full": False}


@pytest.mark.parametrize("changed", [{}, {"alpha": 2}, {"alpha": 0}, {"alpha": 4.0}, {"n": 10}, {"full": True}])
def test_right_values_pass(changed):
    parameters.check(RIGHT | changed, **DECLARED)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alpha": "two"}, "parameter alpha is 'two': it must be a number from 0 to 4"),
        ({"alpha": True}, "parameter alpha is True: it must be a number from 0 to 4"),
        ({"alpha": 4.1}, "parameter alpha is 4.1: it must be a number from 0 to 4"),
        ({"alpha": float("nan")}, "parameter alpha is nan: it must be a number from 0 to 4"),
        ({"alpha": None}, "parameter alpha is None: it must be a number from 0 to 4"),
        ({"n": 2.5}, "parameter n is 2.5: it must be a whole number from 1 to 10"),
        ({"n": 0}, "parameter n is 0: it must be a whole number from 1 to 10"),
        ({"full": 1}, "parameter full is 1: it must be true or false"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(changed, message):
    with pytest.raises(GlowkitError) as error:
        parameters.check(RIGHT | changed, **DECLARED)
    assert str(error.value) == message


def test_a_choice_lists_its_options():
    parameters.check({"space": "latent"}, space=parameters.OneOf(("latent", "pixel")))
    with pytest.raises(GlowkitError, match="one of latent, pixel$"):
        parameters.check({"space": "image"}, space=parameters.OneOf(("latent", "pixel")))


def test_a_folder_is_there_or_none_is_asked_for(tmp_path):
    for path in ("", str(tmp_path)):
        parameters.check({"tree": path}, tree=parameters.Folder())
    for wrong in (str(tmp_path / "nowhere"), 3):
        with pytest.raises(GlowkitError, match='it must be the path of a folder, or "" for none$'):
            parameters.check({"tree": wrong}, tree=parameters.Folder())


def test_an_unknown_name_in_papermills_cell_is_an_error_and_imports_are_not():
    cells = ["", "alpha = 1", "# Parameters\nalpah = 2\n", "from math import pi\nother = 3"]
    with pytest.raises(GlowkitError, match=r"unknown parameter alpah \(did you mean alpha\?\)"):
        parameters.check(RIGHT | {"In": cells, "alpah": 2, "pi": 3.14}, **DECLARED)
    cells[2] = "# Parameters\nalpha = 2\n"
    parameters.check(RIGHT | {"In": cells, "pi": 3.14, "other": 3}, **DECLARED)


def test_the_paths_that_papermill_adds_are_no_parameters_and_figures_show_with_any_backend(tmp_path):
    first = nbformat.v4.new_code_cell("alpha = 1.0", metadata={"tags": ["parameters"]})
    check = "from glowkit.book import parameters\nparameters.check(globals(), alpha=parameters.Real(0, 4))"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    cells = [first, *map(nbformat.v4.new_code_cell, (check, draw))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
    command += ["--inject-paths", "-p", "alpha", "2"]
    done = subprocess.run(command, env=os.environ | {"MPLBACKEND": "none such"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (shown,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert "image/png" in shown.data


def test_a_missing_parameter_is_named():
    with pytest.raises(GlowkitError, match="parameter n is missing"):
        parameters.check({"alpha": 1.0, "full": True}, **DECLARED)


def test_a_model_is_a_bundled_name_or_a_folder(tmp_path):
    checkpoint.save(Glow(GlowConfig(image_size=8, levels=1, steps=1, width=4)), tmp_path / "mine", "toy")
    parameters.check({"model": str(tmp_path / "mine")}, model=parameters.Model())
    with pytest.raises(GlowkitError, match="nothing-here: no model there"):
        parameters.check({"model": "nothing-here"}, model=parameters.Model())
    with pytest.raises(GlowkitError, match="parameter model is 64"):
        parameters.check({"model": 64}, model=parameters.Model())


def test_an_unknown_attribute_lists_those_of_the_study(monkeypatch):
    monkeypatch.setattr(parameters, "open_study", lambda name: SimpleNamespace(attributes=["Smiling", "Young"]))
    parameters.check({"model": "any", "attribute": "Young"}, attribute=parameters.Attribute("any"))
    with pytest.raises(GlowkitError) as error:
        parameters.check({"model": "any", "attribute": "Smirking"}, attribute=parameters.Attribute("any"))
    assert str(error.value) == "parameter attribute is 'Smirking': it must be one of Smiling, Young"


def test_the_seed_is_set():
    parameters.check({})
    first = torch.rand(3)
    parameters.check({})
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize(("name", "value", "line"), [
    ("alpah", "2", "GlowkitError: unknown parameter alpah (did you mean alpha?): this chapter has alpha"),
    ("alpha", "two", "GlowkitError: parameter alpha is 'two': it must be a number from 0 to 4"),
])  # fmt: skip
def test_papermill_stops_with_the_line_as_its_last_words(tmp_path, name, value, line):
    first = nbformat.v4.new_code_cell("alpha = 1.0", metadata={"tags": ["parameters"]})
    check = "from glowkit.book import parameters\nparameters.check(globals(), alpha=parameters.Real(0, 4))"
    cells = [first, nbformat.v4.new_code_cell(check), nbformat.v4.new_code_cell("print('went on')")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
    done = subprocess.run([*command, "-p", name, value], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == line
