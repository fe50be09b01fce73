"""The campaigns: a sample of each, and that they see what they are there to see."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import results
from tests.campaigns.results import OTHER

ROOT = Path(__file__).parent.parent


def python(*arguments):
    # A process of its own: only one that has a single thread can be forked.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


SAMPLES = {
    "kills": ("kills", "--n", "9"),
    "interrupts": ("kills", "--interrupt", "--n", "3", "--kind", "train", "--kind", "crop", "--kind", "study"),
    "damage": ("damage", "--n", "1"),
    "disks": ("disks", "--n", "1", "--kind", "train", "--kind", "crop", "--kind", "publish", "--kind", "study"),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_of_a_campaign_finds_nothing(sample):
    campaign, *options = SAMPLES[sample]
    status, out, err = python("-m", f"tests.campaigns.{campaign}", *options)
    assert status == 0, out + err
    rows = [line.split() for line in out.splitlines() if line and line[-1].isdigit()]
    assert f"{OTHER}\n" in out and len(rows) > 2 and all(row[-1] == "0" for row in rows)


PLANTED = """
import json, os, sys, tempfile, time
from pathlib import Path
from tests.campaigns import child, kills

def leaves():
    with open(".part", "w") as file:
        file.write("x" * 5000)
    os.replace(".part", "whole")

def refuses():
    sys.exit("glowkit: no")

def two_lines():
    sys.exit("glowkit: no\\nno")

endings = {
    "well": lambda: None, "refusal": refuses, "two lines": two_lines, "stack": lambda: 1 / 0,
    "hang": lambda: time.sleep(9), "crash": os.abort, "memory": lambda: bytes(2**31),
    "warning": lambda: print("Warning", file=sys.stderr),
}
told = {}
with tempfile.TemporaryDirectory() as place:
    for name, action in endings.items():
        told[name] = child.run(action, Path(place), memory=2**30, patience=1).fault()
    told["wrong"] = child.run(lambda: None, Path(place), check=lambda: "not finite").fault()
    for name, kill in (("open", child.Kill(1)), ("write", child.Kill(1, 100)), ("rename", child.Kill(2))):
        done = child.run(leaves, Path(place), kill)
        told[name] = [done.status, {path.name: path.stat().st_size for path in Path(place).iterdir()}]
    right = {"whole": "a"}
    found = (right, {}, {"whole": "b"}, right | {".part": ""})
    told["difference"] = [kills.difference(one, right) for one in found]
print(json.dumps(told))
"""


def test_a_table_is_put_together_from_parts(tmp_path):
    file = tmp_path / "new" / "kills.csv"
    header = ("command", "tried", "right", OTHER)
    results.keep(file, {"train": (3, 2, 1), "crop": (4, 4, 0)}, header, seed=0)
    results.keep(file, {"train": (5, 5, 0)}, header, seed=7)
    first, train, crop, total = [line.split(",") for line in file.read_text().splitlines()]
    assert first == [*header, "seed", "date"]
    assert results.there(file, "train", 0, 5, seed=7) and not results.there(file, "train", 0, 6, seed=7)
    assert not results.there(file, "train", 0, 5, seed=0) and not results.there(file, "edit", 0, 1, seed=0)
    assert not results.there(None, "train", 0, 1, seed=7) and results.there(file, "crop", 1, 4, seed=0)
    assert (train[:5], crop[:5]) == (["train", "5", "5", "0", "7"], ["crop", "4", "4", "0", "0"])
    assert total == ["all", "9", "9", "0", "", ""] and train[5] == f"{datetime.date.today()}"


def test_a_campaign_sees_faults():
    status, out, err = python("-c", PLANTED)
    assert status == 0, err
    told = json.loads(out)
    assert (told["well"], told["refusal"]) == ("", "")
    assert told["two lines"].startswith("status 1, 2 lines") and "ZeroDivisionError" in told["stack"]
    assert (told["hang"], told["crash"]) == ("it hangs", "it dies of SIGABRT")
    assert "MemoryError" in told["memory"] and "Warning" in told["warning"] and told["wrong"] == "not finite"
    # Killed before the file is opened, when 100 bytes are written, and before the renaming.
    assert (
        told["open"] == [-9, {}] and told["write"] == [-25, {".part": 100}] and told["rename"] == [-9, {".part": 5000}]
    )
    assert told["difference"] == ["", "missing: whole", "different: whole", "left behind: .part"]
