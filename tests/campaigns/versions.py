"""The library at the ends of what pyproject.toml allows: the oldest packages, and the newest that there are.

Each end is installed into a folder that comes before the rest, and the library's tests run there. PyTorch stays as it
is unless --torch: its oldest and its newest take gigabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import click
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# Numbers, files, commands: each package is used by one of these.
TESTS = (
    *("test_affine", "test_checkpoint", "test_cli", "test_directions", "test_files", "test_flow", "test_intervals"),
    *("test_linear", "test_strips", "test_study", "celeba", "faces", "book/test_widgets", "book/test_figures"),
)


def ends(torch: bool) -> dict[str, list[str]]:
    """What pip is asked for, at each end: the lower bound of each dependency, and whatever is newest within bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted = [requirement for requirement in wanted if torch or requirement.name != "torch"]
    return {"oldest": [str(r).replace(">=", "==").split(",")[0] for r in wanted], "newest": list(map(str, wanted))}


def run(end: str, wanted: list[str], tests: list[str]) -> bool:
    """Whether the tests pass there."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder]
        # Those that torch and the tests bring along are the environment's.
        subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "--upgrade", *wanted], check=True)
        there = sorted(path.name.removesuffix(".dist-info") for path in Path(folder).glob("*.dist-info"))
        click.echo(f"{end}: {', '.join(there)}")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((folder, str(ROOT)))}
        command = [sys.executable, "-m", "pytest", "-x", *tests]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


@click.command()
@click.option("--torch", is_flag=True, help="PyTorch's oldest and newest, too.")
@click.option("--end", "only", type=click.Choice(["oldest", "newest"]), help="One end alone.")
@click.argument("tests", nargs=-1)
def main(torch: bool, only: str | None, tests: tuple[str, ...]) -> None:
    """Run TESTS, by default those of the library, with the oldest and the newest packages that are allowed."""
    files = [str(path) for name in TESTS for path in (ROOT / "tests").glob(f"{name}*")]
    failed = [
        end for end, wanted in ends(torch).items() if only in (None, end) and not run(end, wanted, list(tests) or files)
    ]
    sys.exit(f"failed with the {' and the '.join(failed)} packages" if failed else 0)


if __name__ == "__main__":
    main()
