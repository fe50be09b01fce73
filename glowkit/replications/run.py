"""Trains, studies and measures the runs of a plan, several at once; what was done before is not done again.

Each run has its folder, with the weights and what took long, and leaves one file of results. A run that was stopped
goes on from its last checkpoint; one whose file has all rows of the plan is done.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from glowkit import bundled, checkpoint, classifiers, intervals, linear, study, training, workers
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in, expanded, replacing
from glowkit.intervals import Estimate
from glowkit.linear import LinearConfig
from glowkit.measures import ROWS
from glowkit.measures.projections import LATENT, OPPOSITE, known, projections
from glowkit.measures.stage import Stage, batches, open_stage
from glowkit.randomness import stream
from glowkit.replications import examples
from glowkit.replications.plan import Plan, Run
from glowkit.replications.results import Result, read, write
from glowkit.study import NOISE

RUNS = Path("runs/replications")
SECONDS = "seconds.json"  # of a run whose model and study are done
BITS = 1000  # faces that bits/dim are measured on


def replicate(plan: Plan, out: Path, jobs: int = 1, runs: Path = RUNS, only: str | None = None) -> list[Path]:
    """Makes what is missing of the plan's results in the folder `out`; returns their files.

    jobs: how many processes, of one thread each. only: one cell or one run. Raises GlowkitError when all is done that
    could be, and something could not.
    """
    out = expanded(out)
    wanted = [run for run in plan.runs if only in (None, run.cell, run.name)]
    if not wanted:
        cells = ", ".join(dict.fromkeys(run.cell for run in plan.runs))
        raise GlowkitError(f"{plan.path}: no cell or run {only!r}; there are {cells}")
    todo = [run for run in wanted if not _done(out / f"{run.name}.json", plan.rows)]
    failed = []
    with alone_in(runs), _workers(jobs) as pool, tqdm(total=len(todo), desc=plan.path.stem, unit="run") as bar:
        for start in (False, True):  # what starts from another run comes after all of those
            wave = [run for run in todo if bool(run.start) is start]
            for told, ok in pool.imap_unordered(partial(_attempt, plan, runs, out), wave):
                if not ok:
                    failed.append(told)
                tqdm.write(told)
                bar.update()
    if failed:
        raise GlowkitError(f"{len(failed)} of {len(todo)} runs failed, the first: {failed[0]}")
    return [out / f"{run.name}.json" for run in wanted]


def _attempt(plan: Plan, runs: Path, out: Path, run: Run) -> tuple[str, bool]:
    """A line on what a run found, or on what went wrong; whether it went well."""
    try:
        result = one(plan, run, runs, out / f"{run.name}.json")
    except GlowkitError as error:
        return f"{run.name}: {error}", False
    bits, auc, seconds = result.bits_per_dim.estimate, result.auc.estimate, sum(result.seconds.values())
    return f"{run.name}: {bits:.3f} bits/dim, mean AUC {auc:.3f}, {seconds / 60:.0f} minutes of a core", True


def one(plan: Plan, run: Run, runs: Path, file: Path) -> Result:
    """Makes one run, from wherever it was stopped, and writes its result to `file`."""
    folder, clock = runs / run.name, Clock()
    before = read(file) if file.exists() else None
    spent = folder / SECONDS
    seconds = dict(before.seconds) if before else json.loads(spent.read_bytes()) if spent.exists() else {}
    if not _studied(folder):
        before_it_was_stopped = _logged(folder)
        _train(plan, run, folder)
        seconds["training"] = round(before_it_was_stopped + clock.lap(), 1)
        study.write_study(folder, run.data, n=plan.study, device="cpu")
        seconds["study"] = clock.lap()
        with replacing(spent) as unfinished:
            unfinished.write_text(json.dumps(seconds), encoding="utf-8")
    stage = open_stage(folder, run.data, plan.faces, plan.judges, plan.each)
    rows = dict(before.rows) if before else {}
    for id in plan.rows:
        if id not in rows:
            found = ROWS[id](stage)
            # Without details: those of dozens of runs would fill a repository.
            rows[id] = found and replace(found, date=f"{datetime.date.today()}", details={})
            if found and not np.isfinite([found.estimate.estimate, *found.estimate.ci]).all():
                raise GlowkitError(f"{id}: its number is {found.estimate}")
    if stage.drawn:  # a photograph, or an edit of one, is shown to nobody
        examples.write(stage, file.with_suffix(".webp"))
    bits, auc = bits_per_dim(stage), mean_auc(stage)
    seconds["measuring"] = round(seconds.get("measuring", 0.0) + clock.lap(), 1)
    result = Result(
        run.cell, run.seed, checkpoint.kind_of(run.shape), stage.flow.config.as_dict(), asdict(run.settings), run.data,
        len(stage.seen.subset("train")[: run.images]), stage.described, seconds, f"{datetime.date.today()}", _commit(),
        {"torch": torch.__version__, "threads": torch.get_num_threads()}, bits, auc, rows,
    )  # fmt: skip
    write(result, file)
    shutil.rmtree(stage.folder, ignore_errors=True)
    return result


class Clock:
    """clock.lap() -> seconds of computing since the last one, however long it waited for others."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def lap(self) -> float:
        before, self.last = self.last, time.process_time()
        return round(self.last - before, 1)


def _studied(folder: Path) -> bool:
    try:
        return bool(study.open_study(folder))
    except GlowkitError:  # there is none, or it is that of other weights
        return False


def _train(plan: Plan, run: Run, folder: Path) -> None:
    if isinstance(run.shape, LinearConfig):
        flow, _ = linear.fit(open_dataset(run.data), run.images, bits=run.shape.bits)
        checkpoint.save(flow, folder, run.data)
        return
    config = training.Config(run.shape, run.settings, run.data, plan.path)
    start = _prepared(run, folder) if run.start and not (folder / training.STATE).exists() else None
    training.train(config, out=folder, resume=True, device="cpu", start=start, n=run.images)


def _prepared(run: Run, folder: Path) -> Path:
    """The weights to start from, in a model of the run's own shape."""
    model = checkpoint.make(run.shape)
    model.load_state_dict(checkpoint.load(folder.parent / run.start).state_dict())
    start = folder.parent / f"{run.name}-start"
    checkpoint.save(model, start, run.data)
    return start


def _logged(folder: Path) -> float:
    """Seconds that a run's log tells of; 0 without a log."""
    path = folder / training.LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return round(sum(json.loads(line).get("seconds", 0.0) for line in lines), 1)


@torch.no_grad()
def bits_per_dim(stage: Stage) -> Estimate:
    """Of at most BITS of the stage's faces, each with one draw of noise."""
    parts = [
        stage.flow.bits_per_dim(stage.x[rows.start : rows.stop], stream(0, rows.start))
        for rows in batches(min(BITS, len(stage.where)))
    ]
    return intervals.mean(torch.cat(parts).double().numpy(), stage.people[:BITS])


def mean_auc(stage: Stage) -> Estimate:
    """Mean AUC of the opposite projection of latents over all attributes, with the interval of people."""
    scores = projections(stage, NOISE)[LATENT, OPPOSITE][:, known(stage)]
    above = classifiers.auc_difference(scores, np.zeros_like(scores), stage.labels[:, known(stage)], stage.people)
    return above.through(lambda difference: 0.5 + difference)


def _done(file: Path, rows: list[str]) -> bool:
    return file.exists() and set(rows) <= set(read(file).rows)


@contextmanager
def _workers(jobs: int) -> Iterator[Pool]:
    """Processes of one thread each; they end with this one."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    before = {key: os.environ.get(key) for key in threads}
    os.environ.update(threads)
    try:
        with multiprocessing.get_context("spawn").Pool(jobs, _quiet) as pool:
            yield pool
            pool.close()
            pool.join()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def _quiet() -> None:
    """In a worker: one thread, no progress bars, which would write over each other, and an end when its parent ends."""
    workers.begin()
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  as long as the process lives


def _commit() -> str:
    """Of this checkout, if it is one."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=bundled.root(), capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
