"""Fetching CelebA from a server of our own: whole, cut off, wrong, refused."""

import hashlib
import os
import resource
import threading
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from glowkit.celeba import facts, fetch
from glowkit.errors import GlowkitError

FILES = {
    name: np.random.default_rng(i).bytes(400_000 if name.endswith(".zip") else 300)
    for i, name in enumerate(facts.DRIVE)
}
ZIP = "img_align_celeba.zip"


class Handler(BaseHTTPRequestHandler):
    """Serves FILES with ranges; `server.cut` bytes into a large file it hangs up, that many times."""

    def do_GET(self) -> None:
        name = self.path.split("/")[-1]
        self.server.asked.append((name, self.headers.get("Range")))
        self.server.seen += left(self.server.out) if self.server.out else []
        data, first = self.server.files[name], 0
        if wanted := self.headers.get("Range"):
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if self.server.page:
            data, first = b"<html>Too many users</html>", 0
        if first and first >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if first and self.server.ranges else 200)
        data = data[first:] if self.server.ranges else data
        if (length := self.server.lengths.get(name, len(data))) is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "text/html" if self.server.page else "application/octet-stream")
        self.end_headers()
        if len(data) > self.server.cut and self.server.cuts:
            self.server.cuts -= 1
            data = data[: self.server.cut]
            self.close_connection = True
        self.wfile.write(data)
        with suppress(OSError):  # until the reader leaves
            while name == self.server.endless:
                self.wfile.write(bytes(10_000))

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name, data in FILES.items():
        monkeypatch.setitem(facts.MD5, name, hashlib.md5(data).hexdigest())
    monkeypatch.setattr(fetch, "PAUSE", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.page, server.ranges, server.cuts, server.cut = dict(FILES), [], False, True, 0, 0
    server.out, server.seen, server.lengths, server.endless = None, [], {}, None
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/celeba/"
    yield server
    server.shutdown()
    server.server_close()


def left(out: Path) -> list[str]:
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())


OFFICIAL = sorted(f"{folder}/{name}" for name, (folder, _) in facts.DRIVE.items())


def test_all_files_in_the_official_folders(server, tmp_path):
    files = fetch.fetch(tmp_path, server.url)
    assert left(tmp_path) == OFFICIAL and all(file.read_bytes() == FILES[file.name] for file in files)
    assert len(server.asked) == len(FILES)
    fetch.fetch(tmp_path, server.url)
    assert len(server.asked) == len(FILES)  # what is there is not asked for again


def test_cut_connections_are_taken_up_where_they_broke(server, tmp_path):
    server.cut, server.cuts = 100_000, 2
    fetch.fetch(tmp_path, server.url)
    assert left(tmp_path) == OFFICIAL and (tmp_path / "Img" / ZIP).read_bytes() == FILES[ZIP]
    assert [wanted for name, wanted in server.asked if name == ZIP] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_second_run_goes_on(server, tmp_path, ranges, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.cut, server.cuts = 0, 99
    server.files = {**FILES, "list_attr_celeba.txt": FILES["list_attr_celeba.txt"]}
    (tmp_path / "Img").mkdir()
    (tmp_path / "Img" / f"{ZIP}.part").write_bytes(FILES[ZIP][:150_000])
    with pytest.raises(GlowkitError) as caught:
        fetch.fetch(tmp_path, server.url)
    assert "\n" not in str(caught.value) and "the connection was cut; run again to go on" in str(caught.value)
    assert not any((tmp_path / place).exists() for place in OFFICIAL)
    server.cuts, server.ranges = 0, ranges
    fetch.fetch(tmp_path, server.url)
    assert left(tmp_path) == OFFICIAL and (tmp_path / "Img" / ZIP).read_bytes() == FILES[ZIP]
    assert server.asked[-1] == (ZIP, "bytes=150000-")


def test_a_wrong_sum_leaves_nothing(server, tmp_path):
    server.files[ZIP] = b"other"
    with pytest.raises(GlowkitError, match="not the official file by its md5 sum"):
        fetch.fetch(tmp_path, server.url)
    server.files[ZIP] = FILES[ZIP][:-1] + b"x"
    with pytest.raises(GlowkitError) as caught:
        fetch.fetch(tmp_path, server.url)
    assert "\n" not in str(caught.value) and "not the official file by its md5 sum, and was not kept" in str(
        caught.value
    )
    assert left(tmp_path) == [place for place in OFFICIAL if ZIP not in place]
    # A part that is whole, or longer, is judged by its sum, too.
    for part in (FILES[ZIP] + b"more", FILES[ZIP]):
        (tmp_path / "Img" / f"{ZIP}.part").write_bytes(part)
        if part == FILES[ZIP]:
            fetch.fetch(tmp_path, server.url)
        else:
            with pytest.raises(GlowkitError, match="md5"):
                fetch.fetch(tmp_path, server.url)
    assert left(tmp_path) == OFFICIAL


def test_nothing_but_parts_is_there_on_the_way(server, tmp_path):
    """A kill would leave it behind."""
    server.out, server.cut, server.cuts = tmp_path, 100_000, 1
    fetch.fetch(tmp_path, server.url)
    assert set(server.seen) - set(OFFICIAL) == {f"Img/{ZIP}.part"} and left(tmp_path) == OFFICIAL


@pytest.mark.parametrize("length", [None, 10**15])
def test_a_mirror_that_sends_without_end_is_left(server, tmp_path, monkeypatch, length):
    monkeypatch.setitem(facts.MOST, ZIP, 1_000_000)
    server.endless, server.lengths = ZIP, {ZIP: length}
    with pytest.raises(GlowkitError) as caught:
        fetch.fetch(tmp_path, server.url)
    for words in (f"{ZIP} sends more than 1,000,000 bytes", str(tmp_path / "Img" / ZIP), "try another mirror"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value) and left(tmp_path) == [place for place in OFFICIAL if ZIP not in place]


def test_a_length_that_is_no_number_is_no_length(server, tmp_path):
    server.lengths = {"list_attr_celeba.txt": "many"}
    fetch.fetch(tmp_path, server.url)
    assert left(tmp_path) == OFFICIAL


def test_a_file_longer_than_the_official_one_is_not_summed(tmp_path):
    mine = tmp_path / "Anno" / "list_attr_celeba.txt"
    mine.parent.mkdir()
    mine.touch()
    os.truncate(mine, 2**40)  # it takes no room, but an hour to sum
    with pytest.raises(GlowkitError, match="list_attr_celeba.txt: is there, but is not the official file"):
        fetch.fetch(tmp_path, "http://127.0.0.1:1/nobody")


def test_a_full_disk_is_told_with_the_file(server, tmp_path, capsys):
    """The system itself refuses to write on."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            fetch.fetch(tmp_path, server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert caught.value.filename == str(tmp_path / "Anno" / "list_attr_celeba.txt.part")
    assert len(server.asked) == 1


def test_a_page_in_place_of_a_file_is_told(server, tmp_path):
    server.page = True
    with pytest.raises(GlowkitError) as caught:
        fetch.fetch(tmp_path, server.url)
    for words in ("answers with a page", "with a browser", str(tmp_path / "Anno" / "list_attr_celeba.txt")):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value) and left(tmp_path) == []


def test_what_is_in_the_way_or_out_of_reach_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "Eval").mkdir()
    mine = tmp_path / "Eval" / "list_eval_partition.txt"
    mine.write_text("000001.jpg 0\n")
    with pytest.raises(GlowkitError, match="list_eval_partition.txt: is there, but is not the official file"):
        fetch.fetch(tmp_path, server.url)
    assert mine.read_text() == "000001.jpg 0\n"
    with pytest.raises(GlowkitError, match="mirror nonsense: give the address of a folder"):
        fetch.fetch(tmp_path / "other", "nonsense")
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with pytest.raises(GlowkitError, match="put it at .*list_attr_celeba.txt"):
        fetch.fetch(tmp_path / "other", "http://127.0.0.1:1/nobody")


def test_google_drive_is_asked_by_identifier(tmp_path, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise OSError("no network")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with pytest.raises(GlowkitError, match="no network"):
        fetch.fetch(tmp_path)
    assert (
        asked[0].startswith("https://drive.usercontent.google.com/") and "id=0B7EVK8r0v71pblRyaVFSWGxPY0U" in asked[0]
    )


@pytest.mark.parametrize("mirror", [
    "", "celeba", "http://", "HTTPS:///celeba", "http:example.org", "http://[", "http://.", "http://example..org",
    "http://" + "a" * 300, "http://example.org:port", "http://example.org:99999", "http://ex ample.org", "http://a\n/x",
    "file://", "file:///", "file:///a\0b", "gopher://example.org",
])  # fmt: skip
def test_a_mirror_that_is_no_address_is_refused_at_once(mirror, tmp_path):
    with pytest.raises(GlowkitError, match="^mirror .*: give the address of a folder, such as https://"):
        fetch.fetch(tmp_path / "out", mirror)
    assert not list(tmp_path.iterdir())


def test_a_mirror_that_sends_nothing_is_not_said_to_send_another_file(server, tmp_path):
    name = next(iter(facts.DRIVE))
    server.files[name] = b""
    with pytest.raises(GlowkitError, match=f"{name} answers, but sends nothing; run again"):
        fetch.fetch(tmp_path / "out", server.url)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(b"")
    with pytest.raises(GlowkitError, match="sends nothing"):
        fetch.fetch(tmp_path / "out", f"file://{tmp_path}/folder")
