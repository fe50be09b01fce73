"""What the first page shows that a model has to compute: `python -m glowkit.book.first_page OUT`.

OUT gets hero.html and argument.html, parts of a page, and static/hero, the pictures that the first of them refers to as
`_static/hero`.
"""

import sys
from pathlib import Path

from glowkit.book import argument, hero
from glowkit.files import replacing


def write(out: Path) -> None:
    """Compute and write all of it."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("hero.html", hero.write(out / "static" / hero.FOLDER, f"_static/{hero.FOLDER}")),
        ("argument.html", argument.html()),
    ):
        with replacing(out / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
