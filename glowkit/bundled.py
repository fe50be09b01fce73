"""What is bundled and where it lies: models in `data`, configs in `configs`."""

import tomllib
from pathlib import Path
from typing import Any

from glowkit.errors import GlowkitError
from glowkit.files import expanded

TOML_SIZE = 2**16  # characters, at most; the largest of ours has 3,000
TOML_DEPTH = 1000  # dots in a line


def root() -> Path:
    """The folder that holds `data` and `configs`: the installed package, or the top of the repository."""
    package = Path(__file__).resolve().parent
    return package if (package / "data").is_dir() else package.parent


def models() -> list[str]:
    """The names of the bundled models."""
    return sorted(file.parent.name for file in (root() / "data").glob("*/config.json"))


def read_toml(path: str | Path, example: str) -> tuple[Path, dict[str, Any]]:
    """Where the TOML file is, and its content. `example`, of those in `configs`, says in an error what it should be.

    A relative path that is not there is looked up beside what is bundled: configs/faces64.toml is found from anywhere.
    """
    path = expanded(path)
    if not path.exists() and (root() / path).is_file():
        path = root() / path
    try:
        with path.open(encoding="utf-8-sig") as file:  # as Windows writes it
            text = file.read(TOML_SIZE + 1)
        if len(text) > TOML_SIZE:
            raise ValueError(f"it has more than {TOML_SIZE:,} characters")
        if any(line.count(".") > TOML_DEPTH for line in text.splitlines()):  # tomllib would take hours
            raise RecursionError
        return path, tomllib.loads(text)
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no such file; {root() / 'configs' / example}") from None
    except RecursionError:
        raise GlowkitError(f"{path}: not a TOML file: nested too deep") from None
    except UnicodeDecodeError as error:
        raise GlowkitError(f"{path}: not a TOML file: save it as UTF-8 ({error})") from None
    except ValueError as error:  # whatever is not TOML, or a number of 5,000 digits
        raise GlowkitError(f"{path}: not a TOML file: {error}") from None
