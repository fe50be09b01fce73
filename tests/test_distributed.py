"""Several processes: what each gets, what they add up to, who goes first, and who tells of an error."""

import os
import subprocess
import sys

import torch

from glowkit import distributed

SCRIPT = """
import sys, time
from pathlib import Path
import torch
from glowkit import distributed
from glowkit.errors import GlowkitError

folder = Path(sys.argv[1])
try:
    with distributed.processes():
        k, n = distributed.rank(), distributed.size()
        with distributed.local_leader_first():
            if k == 0:
                time.sleep(0.5)
                (folder / "ready").touch()
            assert (folder / "ready").exists()
        sums = [torch.tensor([k, 10.0]), torch.tensor(1.0)]
        distributed.all_reduce_sum(*sums)
        share = distributed.shard(torch.arange(6))
        largest = distributed.all_reduce_max(torch.tensor(float("inf") if k else 1.0))
        (folder / f"process{k}").write_text(f"{n} {share.tolist()} {[s.tolist() for s in sums]} {largest}")
        if k == 1:
            raise GlowkitError("the second cannot go on")
        distributed.all_reduce_sum(*sums)  # waits for the second
except GlowkitError as error:
    print(f"told: {error}")
"""


def test_two_processes_share_work_and_one_tells_of_an_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, tmp_path]
    done = subprocess.run(
        command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=120
    )
    assert (tmp_path / "process0").read_text() == "2 [0, 1, 2] [[1.0, 20.0], 2.0] inf", done.stderr
    assert (tmp_path / "process1").read_text() == "2 [3, 4, 5] [[1.0, 20.0], 2.0] inf"
    assert done.stdout == "told: the second cannot go on\n"
    assert done.returncode != 0 and "Connection" not in done.stderr


def test_alone_there_is_nothing_to_share():
    x = torch.arange(4.0)
    with distributed.processes(), distributed.local_leader_first():
        assert (distributed.rank(), distributed.size()) == (0, 1)
        distributed.all_reduce_sum(x)
        assert distributed.shard(x).tolist() == distributed.all_reduce_max(x).tolist() == [0, 1, 2, 3]
