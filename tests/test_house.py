"""How the library is built: no circle among its imports, and the low does not know the high."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "glowkit"
# From the bottom up: a module may import from its own line and from those before it.
FLOORS = (
    {"errors", "randomness", "escaping", "precision", "devices", "workers"},
    {"files", "bundled", "fields", "intervals", "jacobian", "gaussian_maps"},
    {"layers", "kernels", "image_flow", "flow", "ablations", "autoregressive", "faces", "celeba"},
    {"memory", "distributed", "moments", "dataset", "linear", "checkpoint", "certificate"},
)


def modules() -> dict[str, Path]:
    """Every module of the library by its dotted name below it."""
    found = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in found.items() if name != "__init__"}


def imported(name: str) -> set[str]:
    """The modules that a module imports, at its top or inside a function."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "glowkit":
            package = node.module.removeprefix("glowkit").removeprefix(".")
            for alias in node.names:
                dotted = f"{package}.{alias.name}".removeprefix(".")
                found.add(dotted if dotted in known else package)
    return found & known.keys() - {name}


def test_no_circle_among_imports():
    left = {name: imported(name) for name in modules()}
    # A package's __init__ gathers its modules; they may not ask it back, which a circle would show.
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_the_low_does_not_know_the_high(floor):
    allowed = set.union(*FLOORS[: floor + 1])
    for name in modules():
        if name.split(".")[0] in FLOORS[floor]:
            assert {need.split(".")[0] for need in imported(name)} <= allowed, name


def test_text_has_an_encoding():
    """Else it is that of the machine, and what is written on one cannot be read on another."""
    files = [*ROOT.rglob("*.py"), *(ROOT.parent / "book").glob("*.py")]
    calls = ((file, node) for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    for file, call in calls:
        if isinstance(call, ast.Call) and "encoding" not in {keyword.arg for keyword in call.keywords}:
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            # The mode comes second, in a path's own method first; other things that are opened have none.
            builtin = isinstance(call.func, ast.Name)
            mode = [a.value for a in call.args[builtin : builtin + 1] if isinstance(a, ast.Constant)]
            opened = name == "open" and (builtin or mode) and "b" not in str(*mode)
            assert not (opened or name in ("read_text", "write_text")), f"{file} line {call.lineno}"
