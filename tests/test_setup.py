"""requirements.txt, its lock, environment.yml and pyproject.toml name the same packages at the same versions."""

import re
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
PINS = [line for line in LINES if line and not line.startswith("#")]


@pytest.mark.parametrize("pin", PINS)
def test_every_requirement_is_pinned_and_installed(pin):
    name, exact = re.fullmatch(r"([\w.-]+)==([\w.]+)", pin).groups()
    # A local part such as +cpu names a build of the same version.
    assert version(name).split("+")[0] == exact


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert python == "python=3.11" and pip == "pip"
    assert packages["pip"] == [*PINS, "-e ."]


LOCKED = re.findall(
    r"^([\w.-]+)==(\S+)(?: ; (.+))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    (ROOT / "requirements.lock").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_every_pin_but_that_of_torch_has_hashes_and_so_has_what_it_needs():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert len(LOCKED) == len(re.findall("^[^ ]", text, re.MULTILINE))  # nothing else is in there
    assert {f"{name}=={exact}" for name, exact, _, _ in LOCKED} >= set(PINS) - {PINS[0]} and PINS[0][:7] == "torch=="
    here = {canonicalize_name(name) for name, _, where, _ in LOCKED if not where or Marker(where).evaluate()}
    for name in here - {"setuptools", "wheel"}:
        needs = map(Requirement, requires(name) or ())
        needs = {canonicalize_name(r.name) for r in needs if not r.marker or r.marker.evaluate({"extra": ""})}
        assert needs <= here | {"torch"}


def test_what_the_library_imports_is_pinned_under_library():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    library = LINES[LINES.index("# library") + 1 : LINES.index("# book")]
    pinned = [line.split("==")[0] for line in library if line]
    assert [re.match(r"[\w.-]+", dependency)[0] for dependency in project["dependencies"]] == pinned


def test_a_wheel_takes_every_package_and_what_is_bundled():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in ROOT.glob("glowkit/**/__init__.py")}
    assert set(project["packages"]) == packages | {"glowkit.data", "glowkit.configs"}
    places = {package: ROOT / folder for package, folder in project["package-dir"].items()}
    assert places == {"glowkit": ROOT / "glowkit", "glowkit.data": ROOT / "data", "glowkit.configs": ROOT / "configs"}
    patterns = project["package-data"]
    taken = {file for pattern in patterns["glowkit.data"] for file in places["glowkit.data"].glob(pattern)}
    assert taken == {file for file in places["glowkit.data"].rglob("*") if file.is_file()}
    files = [file for file in (ROOT / "glowkit").rglob("*") if file.is_file()]
    tables = {file.name for file in files if file.suffix not in (".py", ".pyc")}
    assert all(any(fnmatch(name, pattern) for pattern in patterns["*"]) for name in tables)


def test_the_console_script_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, name = project["scripts"]["glowkit"].split(":")
    assert hasattr(__import__(module, fromlist=[name]), name)
