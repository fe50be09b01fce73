"""Kill commands at random moments, run them again until they end, and compare every byte with an undisturbed run.

A command dies by SIGKILL at a change to the disk that it is about to make (a file opened to write, a renaming, a
removal), in the middle of a write, or at any time; often the run after it dies, too. What is there at the end has to
be what a run that nobody disturbed leaves, file for file, and nothing else. With --interrupt they get Ctrl-C instead,
and have to end in one line besides.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click

from . import child, stage
from .results import OTHER, keep, table, there

ALWAYS_MORE = 0.4  # chance that the run after a kill is killed, too
MOST = 6  # kills in a row


@dataclass(frozen=True)
class Kind:
    """A command to kill, what it needs to find in the folder that it runs in, and what it may leave there that is not
    whole when it cannot end, a pattern."""

    action: child.Action
    brings: tuple[str, ...] = ()
    kept: str = "^$"


def kinds(base: Path, mirror: str) -> dict[str, Kind]:
    model = ("model/config.json", "model/model.safetensors")
    known = (*model, *(f"model/{file}.safetensors" for file in ("study", "judge", "second-judge")))
    half = tuple(f"half/{file}" for file in ("config.json", "model.safetensors", "state.safetensors", "log.jsonl"))
    edit = ("edit", base / "face.png", "--model", base / "model", "-a", "Smiling", "-o")
    crops = r"^out\.part(/|$)"
    return {
        "train": Kind(stage.train(base / "config.toml", base / "packed", "run"), kept=r"^run/"),
        "train, resumed": Kind(stage.train(base / "config.toml", base / "packed", "half"), half, kept="^half/"),
        "linear": Kind(child.command("linear", "out", "--data", base / "packed", "--n", 100)),
        "crop": Kind(stage.crop(base / "tree", "out"), kept=crops),
        "crop, packed": Kind(stage.crop(base / "tree", "out", "--packed"), kept=crops),
        "study": Kind(stage.study("model", base / "packed"), model),
        "judge": Kind(stage.judge("model", base / "packed"), model),
        "second judge": Kind(stage.judge("model", base / "packed", second=True), model),
        "measure": Kind(stage.measure("model", base / "packed"), known, kept=r"^model/measures\.json$"),
        "faces": Kind(child.command("faces", "out", "--n", 1, "--size", 32)),
        "publish": Kind(child.command("publish", base / "run", "out")),
        "fetch": Kind(_fetch(mirror), kept=r"\.part$"),
        "sample": Kind(child.command("sample", base / "model", "-o", "grid.png", "--n", 4)),
        "edit": Kind(child.command(*edit, "strip.png")),
        "edit, animated": Kind(child.command(*edit, "strip.gif")),
        "ledger": Kind(stage.record("ledger")),
    }


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder by its path, and an entry for every folder and link."""
    return {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*")}


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return "folder" if path.is_dir() else hashlib.sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    """What the file holds, without the times that it took."""
    if path.suffix not in (".jsonl", ".json"):
        return path.read_bytes()
    return re.sub(rb'"(images_per_s|seconds)": ([\d.]+|{[^}]*})', b"", path.read_bytes())


def difference(found: dict[str, str], right: dict[str, str]) -> str:
    """What is wrong with a folder's contents, in words."""
    left = [name for name in found if name not in right]
    lost = [name for name in right if name not in found]
    other = [name for name in right if found.get(name, right[name]) != right[name]]
    said = (("left behind", left), ("missing", lost), ("different", other))
    return "; ".join(f"{what}: {', '.join(sorted(names)[:4])}" for what, names in said if names)


class Campaign:
    """One kind of command, its undisturbed run, and its kills."""

    def __init__(self, name: str, kind: Kind, base: Path, seed: int, signal: signal.Signals = signal.SIGKILL) -> None:
        self.name, self.kind, self.base, self.seed, self.signal = name, kind, base, seed, signal
        with self.folder() as folder:
            self.undisturbed = child.run(kind.action, folder, patience=300)
            if self.undisturbed.status:
                raise RuntimeError(f"{name} fails undisturbed: {self.undisturbed.err}")
            self.right = contents(folder)
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            self.largest, self.pages = max(sizes), sum(size // 4096 + 1 for size in sizes) + 2

    @contextmanager
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.base) as name:
            self.fill(Path(name))
            yield Path(name)

    def fill(self, folder: Path) -> None:
        for file in self.kind.brings:
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(self.base / file, folder / file)

    def case(self, number: int) -> tuple[int, str]:
        """How many kills there were in case `number`, and what was wrong after them."""
        chance = random.Random(f"{self.seed} {self.name} {number}")
        kills: list[child.Kill] = []
        with self.folder() as folder:
            while True:
                again = len(kills) < MOST and (not kills or chance.random() < ALWAYS_MORE)
                kill = child.random_kill(chance, self.undisturbed, self.largest, self.signal) if again else None
                done = child.run(self.kind.action, folder, kill, patience=120)
                if kill and self._stopped(done):
                    kills.append(kill)
                elif kills or done.fault():
                    break
                else:  # it was over before: once more
                    shutil.rmtree(folder)
                    folder.mkdir()
                    self.fill(folder)
            # Killed after its last change, a command has nothing left to do, and may say so.
            missed = difference(contents(folder), self.right)
            wrong = done.fault() or (missed and f"{missed}; {done.err}".strip("; \n"))
        return len(kills), wrong and self._told(number, kills, wrong)

    def _stopped(self, done: child.Outcome) -> bool:
        """As it should be, before its end."""
        if self.signal == signal.SIGKILL:
            return done.status in (-signal.SIGKILL, -signal.SIGXFSZ) and not done.late
        return done.one_line

    def _told(self, number: int, kills: list[child.Kill], wrong: str) -> str:
        return f"{self.name} {number}, killed {', then '.join(map(str, kills))}: {wrong}"


# ------------------------------------------------------------------------------------------------------- fetch


def _files() -> dict[str, bytes]:
    rng = random.Random(0)
    names = child.facts.DRIVE
    return {name: rng.randbytes(700_000 if name.endswith(".zip") else 300) for name in names}


def _fetch(mirror: str) -> child.Action:
    """`glowkit celeba fetch` from a mirror whose small files it takes for the official ones."""
    sums = {name: hashlib.md5(data).hexdigest() for name, data in _files().items()}

    def action() -> None:
        child.facts.MD5.update(sums)
        child.fetch.PAUSE = 0
        child.command("celeba", "fetch", "out", "--mirror", mirror)()

    return action


class _Handler(BaseHTTPRequestHandler):
    files = _files()

    def do_GET(self) -> None:
        data, asked = self.files[self.path.split("/")[-1]], self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first and first >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        try:
            self.wfile.write(data[first:])
        except OSError:
            pass  # who asked was killed

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def mirror() -> Iterator[str]:
    """A server of those files in a process of its own."""
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    process = os.fork()
    if not process:
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    try:
        yield f"http://127.0.0.1:{server.server_port}/celeba"
    finally:
        server.server_close()
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


# -------------------------------------------------------------------------------------------------------- main


HEADER = ("command", "tried", "kills", "right", OTHER)


def campaign(
    n: int,
    seed: int,
    only: tuple[str, ...],
    number: int | None,
    signal: signal.Signals,
    out: Path | None,
    resume: bool = False,
) -> tuple[dict[str, list[int]], list[str]]:
    """n kills spread over all kinds of commands: a table, kept in `out` row by row, and what was wrong."""
    rows, wrong = {}, []
    with tempfile.TemporaryDirectory(dir=memory()) as name, mirror() as url:
        base = stage.make(Path(name))
        chosen = {kind: made for kind, made in kinds(base, url).items() if not only or kind in only}
        with child.Bar(total=n, desc="kills", unit="kill") as bar:
            for i, (kind, made) in enumerate(chosen.items()):
                share = n // len(chosen) + (i < n % len(chosen))
                if resume and there(out, kind, 1, share, seed):
                    bar.update(share)
                    continue
                killed, one = Campaign(kind, made, base, seed, signal), number
                row = rows[kind] = [0, 0, 0, 0]  # cases, kills, right, anything else
                while row[1] < share:
                    kills, fault = killed.case(row[0] if one is None else one)
                    for k, more in enumerate((1, kills, not fault, bool(fault))):
                        row[k] += more
                    wrong += [fault] if fault else []
                    bar.update(kills)
                    if one is not None:
                        break
                if out:
                    keep(out, {kind: row}, HEADER, seed)
    return rows, wrong


def memory() -> str | None:
    """Where files are fastest."""
    return next((place for place in ("/dev/shm",) if os.access(place, os.W_OK)), None)


@click.command()
@click.option("--n", default=200, show_default=True, help="How many kills.")
@click.option("--seed", default=0, show_default=True, help="Another seed kills at other moments.")
@click.option("--kind", multiple=True, help="This kind of command alone; may be given again.")
@click.option("--case", type=int, help="One case alone, as a fault names it.")
@click.option("--interrupt", is_flag=True, help="Ctrl-C in place of kills; each has to end in one line, too.")
@click.option("--out", type=Path, help="Put the table's rows into this CSV file.")
@click.option("--resume", is_flag=True, help="Leave out kinds of which that file has so many, of this seed.")
def main(
    n: int, seed: int, kind: tuple[str, ...], case: int | None, interrupt: bool, out: Path | None, resume: bool
) -> None:
    """Kill commands at random moments; what they leave when run again must be what an undisturbed run leaves."""
    rows, wrong = campaign(n, seed, kind, case, signal.SIGINT if interrupt else signal.SIGKILL, out, resume)
    click.echo("\n".join([*wrong, table(rows, HEADER)]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
