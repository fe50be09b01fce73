"""Names of attributes as a reader says them."""

from __future__ import annotations

_SAID = {"5_o_Clock_Shadow": "Five-o'clock shadow"}


def words(name: str) -> str:
    """CelebA's name of an attribute in words, for tables and figures.

    >>> words("Blond_Hair")
    'Blond hair'
    >>> words("Male")
    'Male'
    """
    return _SAID.get(name) or name.replace("_", " ").capitalize()
