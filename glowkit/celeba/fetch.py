"""`glowkit celeba fetch`: the official files, with their official md5 sums, through downloads that can go on later."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from glowkit import __version__
from glowkit.celeba.facts import DRIVE, MOST, is_official
from glowkit.errors import GlowkitError
from glowkit.files import expanded, naming

# Large files come with a page that asks for confirmation unless `confirm` is there.
GOOGLE_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id={id}"
HOME_PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"  # of CelebA, with links to browse its files
ATTEMPTS = 5  # connections in a row that bring nothing
PAUSE = 2  # seconds before another one
CHUNK = 2**18  # bytes


def fetch(out: str | Path, mirror: str | None = None) -> list[Path]:
    """Fetch the aligned images and all lists of CelebA to the folder `out`, laid out as officially; returns the files.

    A file that is there already is checked and kept. mirror: the address of a folder with the files under their
    official names, to use instead of Google Drive. An unfinished download stays as NAME.part, and a second call goes
    on with it. Raises GlowkitError if a file cannot be had, or is not the official one.
    """
    if mirror is not None and not _is_address(mirror):
        raise GlowkitError(f"mirror {mirror}: give the address of a folder, such as https://example.org/celeba")
    out = expanded(out)
    fetched = []
    for name, (folder, key) in DRIVE.items():
        target = out / folder / name
        if not target.exists():
            Download(target).fetch(f"{mirror.rstrip('/')}/{name}" if mirror else GOOGLE_DRIVE.format(id=key))
        elif not is_official(target, name):
            raise GlowkitError(f"{target}: is there, but is not the official file by its md5 sum; move it away")
        fetched.append(target)
    return fetched


def _is_address(mirror: str) -> bool:
    """Whether there is a server that this can be the address of, or a path of a folder on this machine."""
    try:
        parts = urllib.parse.urlsplit(mirror)
        host = (parts.hostname or "").encode("idna")
        if parts.scheme == "file":
            return mirror.isprintable() and parts.path not in ("", "/")
        plain = mirror.isprintable() and " " not in mirror and parts.port != 0  # a port that is no number raises
        return parts.scheme in ("http", "https", "ftp") and plain and host != b""
    except ValueError:  # a port that is no number, say, or a name too long
        return False


class Download:
    """The download of an official file to `target`, which keeps what it has got beside it, as NAME.part, and goes on
    from there. No library for downloads does: they begin anew, and a kill leaves a file under a name that is not known
    any more."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = target.with_name(target.name + ".part")

    def fetch(self, url: str) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._complete(url)
        if not self._size():
            raise GlowkitError(self._by_hand(f"{url} answers, but sends nothing"))
        if not is_official(self.part, self.target.name):
            self.part.unlink(missing_ok=True)
            raise GlowkitError(
                f"{self.target}: what came from {url} is not the official file by its md5 sum, and was not kept"
            )
        os.replace(self.part, self.target)

    def _complete(self, url: str) -> None:
        failures = 0
        with tqdm(desc=self.target.name, unit="B", unit_scale=True) as bar:
            while True:
                before = self._size()
                try:
                    if self._go_on(url, bar):
                        return
                    why = "the connection was cut"
                except urllib.error.HTTPError as error:
                    if error.code < 500:
                        raise GlowkitError(self._by_hand(f"{url} answers {error.code} {error.reason}")) from error
                    why = f"{error.code} {error.reason}"
                except (OSError, http.client.HTTPException) as error:
                    if isinstance(error, OSError) and error.filename:  # our own disk, not the connection
                        raise
                    why = str(getattr(error, "reason", error)) or type(error).__name__
                except GlowkitError:
                    raise
                except ValueError as error:  # the server sends on to what is no address, say
                    raise GlowkitError(self._by_hand(f"{url}: {error}")) from None
                failures = 0 if self._size() > before else failures + 1
                if failures == ATTEMPTS:
                    raise GlowkitError(self._by_hand(f"{url}: {why}"))
                time.sleep(PAUSE)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _go_on(self, url: str, bar: tqdm) -> bool:
        """Append what is still to come to the part; whether it is whole then."""
        have = self._size()
        headers = {"User-Agent": f"glowkit/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            # Nothing from there on: the part is whole, or it is no part of this file, which the sum will show.
            return True
        with response:
            if response.headers.get_content_type() == "text/html":
                raise GlowkitError(self._by_hand(f"{url} answers with a page, not with the file"))
            if response.status != 206:
                have = 0  # the server begins again
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
            self._check(url, have if total is None else total)
            bar.total, bar.n = total, have
            bar.refresh()
            if not have:
                self.part.unlink(missing_ok=True)
            while block := response.read(CHUNK):
                have += len(block)
                self._check(url, have)
                with naming(self.part), self.part.open("ab") as file:
                    file.write(block)
                bar.update(len(block))
        return total is None or self._size() >= total

    def _check(self, url: str, size: int) -> None:
        """Stop before there is more than the official file has."""
        most = MOST[self.target.name]
        if size > most:
            self.part.unlink(missing_ok=True)
            raise GlowkitError(
                f"{self.target}: {url} sends more than {most:,} bytes, which the official file does not have, and "
                "nothing was kept; try another mirror"
            )

    def _by_hand(self, why: str) -> str:
        """What went wrong, and how to get the file without us."""
        return (
            f"{why}; run again to go on, or download {self.target.name} with a browser (its folder is linked on "
            f"{HOME_PAGE}; Google Drive limits the downloads of a day) and put it at {self.target}"
        )
