"""Commands on a disk that fills up, in folders that cannot be written to, and two at once in one folder.

Each has to do what it does undisturbed, byte for byte, or end in one line that says why not. Then nothing is there
that is not whole, but for what an interrupted command goes on with, and all that was there before still is; and with
room on the disk the same command ends as if nothing had been.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from . import child, stage
from .kills import Campaign, contents, difference, kinds, memory, mirror
from .results import OTHER, keep, table

HEADER = ("command", "tried", "right", "one line", OTHER)
PAGE = os.sysconf("SC_PAGESIZE")
RIGHT, ONE_LINE = "right", "one line"
NEW_USERS, NEW_MOUNTS, REMOUNT, READ_ONLY, DETACH = 0x10000000, 0x20000, 32, 1, 2  # of Linux
Found = tuple[str, str]  # RIGHT, ONE_LINE or "", and what is wrong


# ------------------------------------------------------------------------------------------------------- small disks


def own_mounts() -> bool:
    """Let this process mount what no other sees; whether it may."""
    libc, users, groups = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare((0 if users == 0 else NEW_USERS) | NEW_MOUNTS):
        return False
    if users:
        for file, line in (("setgroups", "deny"), ("uid_map", f"0 {users} 1"), ("gid_map", f"0 {groups} 1")):
            Path("/proc/self", file).write_text(line)
    return not libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None)  # private, all of it


def _mount(folder: Path, options: str, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", bytes(folder), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))


@contextmanager
def disk(campaign: Campaign) -> Iterator[Path]:
    """A disk of its own with what a command needs."""
    with tempfile.TemporaryDirectory(dir=campaign.base) as place:
        folder = Path(place)
        _mount(folder, "size=1g")
        try:
            campaign.fill(folder)
            yield folder
        finally:
            ctypes.CDLL(None).umount2(bytes(folder), DETACH)


# --------------------------------------------------------------------------------------------------------- obstacles


def closed_folder(folder: Path, target: Path, chance: random.Random) -> None:
    """Nothing can be made, removed or renamed in the folder that a file goes to."""
    next(parent for parent in target.parents if parent.exists()).chmod(0o555)


def read_only_disk(folder: Path, target: Path, chance: random.Random) -> None:
    _mount(folder, "size=1g", REMOUNT | READ_ONLY)


def closed_file(folder: Path, target: Path, chance: random.Random) -> None:
    """The file is there and may not be written to."""
    _instead(target, lambda: target.write_text("x"))
    target.chmod(0o444)


def folder_for_file(folder: Path, target: Path, chance: random.Random) -> None:
    _instead(target, target.mkdir)


def file_for_folder(folder: Path, target: Path, chance: random.Random) -> None:
    place = [target, *target.parents][-len(folder.parents) - 2]  # the topmost below `folder`
    _instead(place, lambda: place.write_text("x"))


def loop(folder: Path, target: Path, chance: random.Random) -> None:
    """A link to itself."""
    _instead(target, lambda: target.symlink_to(target.name))


def link_to_nowhere(folder: Path, target: Path, chance: random.Random) -> None:
    _instead(target, lambda: target.symlink_to("nowhere/file"))


def unreadable(folder: Path, target: Path, chance: random.Random) -> None:
    """Something that was there before may not be read."""
    if there := sorted(folder.rglob("*")):
        chance.choice(there).chmod(0)


def _instead(target: Path, make: Callable[[], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    make()


OBSTACLES = (
    closed_folder, read_only_disk, closed_file, folder_for_file, file_for_folder, loop, link_to_nowhere, unreadable,
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the cases


def full(campaign: Campaign, chance: random.Random) -> Found:
    """The disk has room for a part of what the command writes, or for some of its files."""
    with disk(campaign) as folder:
        before, used = contents(folder), os.statvfs(folder)
        if chance.random() < 0.7:
            room = f"size={(used.f_blocks - used.f_bfree + chance.randrange(campaign.pages)) * PAGE}"
        else:
            room = f"nr_inodes={used.f_files - used.f_ffree + chance.randrange(len(campaign.right) + 2)}"
        _mount(folder, room, REMOUNT)
        found, wrong = _judged(campaign, before, folder, child.run(campaign.kind.action, folder, patience=60))
        if found == ONE_LINE:
            _mount(folder, "size=1g,nr_inodes=100000", REMOUNT)
            again = child.run(campaign.kind.action, folder, patience=60)
            if wrong := again.fault() or difference(contents(folder), campaign.right):
                found, wrong = "", f"with room: {wrong}; {again.err}"
        return found, wrong and f"{room}: {wrong}"


def barred(campaign: Campaign, chance: random.Random) -> Found:
    """Something that the command writes to, or reads, is not as it should be."""
    obstacle = chance.choice(OBSTACLES)
    with disk(campaign) as folder:
        target = folder / chance.choice(sorted(campaign.right))
        obstacle(folder, target, chance)
        before = contents(folder)
        done = child.run(campaign.kind.action, folder, patience=60, powerless=True)
        found, wrong = _judged(campaign, before, folder, done)
        return found, wrong and f"{obstacle.__name__}, {target.relative_to(folder)}: {wrong}"


def together(campaign: Campaign, chance: random.Random) -> Found:
    """A second run begins, and ends, while the first is about to make some change to the disk."""
    with campaign.folder() as folder:
        at = chance.randint(1, campaign.undisturbed.changes)
        first = child.begin(campaign.kind.action, folder, child.Kill(at, signal=signal.SIGSTOP))
        first.wait_until_stopped()
        second = child.run(campaign.kind.action, folder, patience=60)
        first.go_on()
        both = child.end(first, patience=120), second
        wrong = both[0].fault() or both[1].fault()
        if not wrong and all(done.status for done in both):
            wrong = f"neither works: {both[0].err}; {both[1].err}"
        wrong = wrong or difference(contents(folder), campaign.right)
        found = ONE_LINE if any(done.status for done in both) else RIGHT
        return ("", f"the second at change {at}: {wrong}") if wrong else (found, "")


def _judged(campaign: Campaign, before: dict[str, str], folder: Path, done: child.Outcome) -> Found:
    """It ended well and its result is right, or in one line and left nothing that is not whole."""
    if wrong := done.fault():
        return "", wrong
    after, right = contents(folder), campaign.right
    if done.status == 0:
        wrong = difference(
            {name: digest for name, digest in after.items() if name in right or name not in before}, right
        )
        return ("", f"it ends well, but: {wrong}") if wrong else (RIGHT, "")
    halves = [
        name
        for name in {**before, **after}
        if after.get(name) not in (before.get(name), right.get(name)) and not re.search(campaign.kind.kept, name)
    ]
    return ("", f"{done.err.strip()}; not whole: {', '.join(sorted(halves)[:4])}") if halves else (ONE_LINE, "")


WAYS = {"full": full, "barred": barred, "together": together}


def campaign(
    ways: tuple[str, ...], n: int, seed: int, only: tuple[str, ...], number: int | None, out: Path | None
) -> tuple[dict[str, dict[str, list[int]]], list[str]]:
    """n cases of each command and way: tables by way, kept in the folder `out` row by row, and what was wrong."""
    tables, wrong = {way: {} for way in ways}, []
    with tempfile.TemporaryDirectory(dir=memory()) as name, mirror() as url:
        base = stage.make(Path(name))
        chosen = {kind: made for kind, made in kinds(base, url).items() if not only or kind in only}
        with child.Bar(total=n * len(chosen) * len(ways), desc="disks", unit="case") as bar:
            for kind, made in chosen.items():
                undisturbed = Campaign(kind, made, base, seed)
                for way, rows in tables.items():
                    row = rows[kind] = [0, 0, 0, 0]
                    for k in range(n) if number is None else (number,):
                        found, fault = WAYS[way](undisturbed, random.Random(f"{seed} {way} {kind} {k}"))
                        row[0] += 1
                        row[1 + (RIGHT, ONE_LINE, "").index(found)] += 1
                        wrong += [f"{way}: {kind} {k}, {fault}"] if fault else []
                        bar.update()
                    if out:
                        keep(out / f"{way}.csv", {kind: row}, HEADER, seed)
    return tables, wrong


@click.command()
@click.argument("ways", nargs=-1, type=click.Choice(list(WAYS)))
@click.option("--n", default=20, show_default=True, help="How many cases of each command, in each way.")
@click.option("--seed", default=0, show_default=True, help="Another seed has other cases.")
@click.option("--kind", multiple=True, help="This kind of command alone; may be given again.")
@click.option("--case", type=int, help="One case alone, as a fault names it.")
@click.option(
    "--out", type=Path, help="Put the tables' rows into full.csv, barred.csv and together.csv of this folder."
)
def main(ways: tuple[str, ...], n: int, seed: int, kind: tuple[str, ...], case: int | None, out: Path | None) -> None:
    """A full disk, folders that cannot be written to, or two runs at once: right, or one line, and nothing half."""
    ways = ways or tuple(WAYS)
    if set(ways) != {"together"} and not own_mounts():
        click.echo("disks: this system lets nobody mount a small disk of their own: two runs at once alone are tried")
        ways = ("together",)
    tables, wrong = campaign(ways, n, seed, kind, case, out)
    click.echo("\n".join([*wrong, *(f"{way}\n{table(rows, HEADER)}" for way, rows in tables.items())]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
