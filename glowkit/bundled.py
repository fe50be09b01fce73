"""What is bundled and where it lies: models in `data`, configs in `configs`."""

from pathlib import Path


def root() -> Path:
    """The folder that holds `data` and `configs`: the installed package, or the top of the repository."""
    package = Path(__file__).resolve().parent
    return package if (package / "data").is_dir() else package.parent


def models() -> list[str]:
    """The names of the bundled models."""
    return sorted(file.parent.name for file in (root() / "data").glob("*/config.json"))
