"""Latent vector arithmetic in normalizing flows: a Glow, its data and the studies of a book that runs.

The names below and every module (`glowkit.training`, ...) load on first use: `import glowkit` is immediate.
"""

from importlib import import_module
from importlib.util import find_spec

__version__ = "0.1.0"

_HOME = {
    "load": "checkpoint",
    "Glow": "flow",
    "GlowConfig": "flow",
    "open_dataset": "dataset",
    "open_study": "study",
    "GlowkitError": "errors",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
