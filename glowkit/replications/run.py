"""Trains, studies and measures the runs of a plan, several at once; what was done before is not done again.

Each run has its folder, with the weights and what took long, and leaves one file of results. A run that was stopped
goes on from its last checkpoint; one whose file has all rows of the plan is done. Both say what the model is made of,
and are refused where the plan says something else by now.
"""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from glowkit import bundled, checkpoint, classifiers, fields, intervals, linear, study, training
from glowkit.dataset import open_dataset
from glowkit.errors import GlowkitError
from glowkit.files import alone_in, expanded, replacing
from glowkit.intervals import Estimate
from glowkit.linear import LinearConfig
from glowkit.measured import Found, as_json, estimate_of, found_of, listed
from glowkit.measures import ROWS
from glowkit.measures.projections import LATENT, OPPOSITE, known, projections
from glowkit.measures.stage import Stage, batches, open_stage
from glowkit.randomness import stream
from glowkit.replications import examples
from glowkit.replications.plan import Plan, Run
from glowkit.replications.processes import each
from glowkit.replications.recipe import claim, found_before, recipe
from glowkit.replications.results import Result, write
from glowkit.study import NOISE

RUNS = Path("runs/replications")
SECONDS = "seconds.json"  # of a run whose model and study are done
BITS = 1000  # faces that bits/dim are measured on
KILLED = "its process was ended from outside, for want of memory perhaps; give fewer --jobs, and run again to go on"


def replicate(plan: Plan, out: Path, jobs: int = 1, runs: Path = RUNS, only: str | None = None) -> list[Path]:
    """Makes what is missing of the plan's results in the folder `out`; returns their files.

    jobs: how many processes, of one thread each. only: one cell or one run. Raises GlowkitError when all is done that
    could be, and something could not.
    """
    out = expanded(out)
    files = {run: out / f"{run.name}.json" for run in plan.runs if only in (None, run.cell, run.name)}
    if not files:
        cells = ", ".join(dict.fromkeys(run.cell for run in plan.runs))
        raise GlowkitError(f"{plan.path}: no cell or run {only!r}; there are {cells}")
    todo: dict[Run, Path | None] = {}
    failed = []
    with alone_in(runs):
        for run, file in files.items():
            try:
                before = found_before(run, file)
            except GlowkitError as error:
                failed.append(f"{run.name}: {error}")
                tqdm.write(failed[-1])
            else:
                if not before or not before.rows.keys() >= set(plan.rows):
                    todo[run] = file
        # What others start from is made again where it is gone, as in a fresh clone; its result stays as it is.
        starts = {run.start for run in todo if not _spent(runs / run.name)}
        gone = [run for run in plan.runs if run.name in starts and not _spent(runs / run.name)]
        todo = dict.fromkeys(gone) | todo
        with tqdm(total=len(todo), desc=plan.path.stem, unit="run") as bar:
            for start in (False, True):  # what starts from another run comes after all of those
                wave = [item for item in todo.items() if bool(item[0].start) is start]
                for (run, _), told in each(partial(_attempt, plan, runs), wave, jobs):
                    line, ok = told or (f"{run.name}: {KILLED}", False)
                    if not ok:
                        failed.append(line)
                    tqdm.write(line)
                    bar.update()
    if failed:
        raise GlowkitError(f"failed runs: {len(failed)}, the first: {failed[0]}")
    return list(files.values())


def _attempt(plan: Plan, runs: Path, task: tuple[Run, Path | None]) -> tuple[str, bool]:
    """A line on what a run found, or on what went wrong; whether it went well. Without a file it is made alone."""
    (run, file), notes = task, []
    try:
        if file is None:
            make(plan, run, runs)
            return f"{run.name}: made again, for others start from it", True
        result = one(plan, run, runs, file, notes.append)
    except Exception as error:  # whatever it is, it is this run's, and the others go on
        return f"{run.name}: {error if isinstance(error, GlowkitError) else repr(error)}", False
    bits, auc, seconds = result.bits_per_dim.estimate, result.auc.estimate, sum(result.seconds.values())
    found = f"{bits:.3f} bits/dim, mean AUC {auc:.3f}, {seconds / 60:.0f} minutes of a core"
    return "; ".join([f"{run.name}: {found}", *notes]), True


def one(plan: Plan, run: Run, runs: Path, file: Path, tell: Callable[[str], None] = tqdm.write) -> Result:
    """Makes one run, from wherever it was stopped, and writes its result to `file`; tells what it has to leave out."""
    before, seconds, clock = found_before(run, file), make(plan, run, runs), Clock()
    stage = open_stage(runs / run.name, run.data, plan.faces, plan.judges, plan.each)
    bits = estimate_of(listed(bits_per_dim(stage)), "bits_per_dim")
    auc = estimate_of(listed(mean_auc(stage)), "auc")
    if before and (before.bits_per_dim, before.auc) != (bits, auc):
        before = None  # made again on another machine it is another model, of which no row is known
    rows = dict(before.rows) if before else {}
    for id in plan.rows:
        if id not in rows:
            rows[id] = _row(id, stage, tell)
    if stage.drawn:  # a photograph, or an edit of one, is shown to nobody
        try:
            examples.write(stage, file.with_suffix(".webp"))
        except GlowkitError as error:
            tell(f"no strip of edits: {error}")
    seconds["measuring"] = round((before.seconds.get("measuring", 0.0) if before else 0.0) + clock.lap(), 1)
    made_of = recipe(run) | {"model": stage.flow.config.as_dict()}
    result = Result(
        run.cell, run.seed, **made_of, faces=stage.described, seconds=seconds, date=f"{datetime.date.today()}",
        commit=_commit(), machine={"torch": torch.__version__, "threads": torch.get_num_threads()},
        bits_per_dim=bits, auc=auc, rows=rows,
    )  # fmt: skip
    write(result, file)
    shutil.rmtree(stage.folder, ignore_errors=True)
    return result


def make(plan: Plan, run: Run, runs: Path) -> dict[str, float]:
    """Makes a run's model and its study, from wherever that was stopped; returns the seconds that they took."""
    folder, clock = runs / run.name, Clock()
    claim(plan, run, folder)
    if _spent(folder) is None:
        before_it_was_stopped = _logged(folder)
        _train(plan, run, folder)
        seconds = {"training": round(before_it_was_stopped + clock.lap(), 1)}
        study.write_study(folder, run.data, n=plan.study, device="cpu")
        seconds["study"] = clock.lap()
        with replacing(folder / SECONDS) as unfinished:
            unfinished.write_text(json.dumps(seconds), encoding="utf-8")
    return _spent(folder)


def _spent(folder: Path) -> dict[str, float] | None:
    """The seconds that a folder's model and study took; None until both are there whole."""
    try:
        study.open_study(folder)
        return fields.from_json((folder / SECONDS).read_bytes())
    except (OSError, ValueError):  # there is none, or it is that of other weights
        return None


def _train(plan: Plan, run: Run, folder: Path) -> None:
    if isinstance(run.shape, LinearConfig):
        flow, _ = linear.fit(open_dataset(run.data), run.images, bits=run.shape.bits)
        checkpoint.save(flow, folder, run.data)
        return
    config = training.Config(run.shape, run.settings, run.data, plan.path)
    start = _prepared(plan, run, folder) if run.start and not (folder / training.STATE).exists() else None
    training.train(config, out=folder, resume=True, device="cpu", start=start, n=run.images)


def _prepared(plan: Plan, run: Run, folder: Path) -> Path:
    """The weights to start from, in a model of the run's own shape."""
    first = plan.start_of(run)
    made, start = folder.with_name(first.name), folder.with_name(f"{run.name}-start")
    if _spent(made) is None:  # a model lies there from the first checkpoint on
        raise GlowkitError(f"it starts from {first.name}, which is not made yet in {made.parent}")
    claim(plan, first, made)
    model, weights = checkpoint.make(run.shape), checkpoint.load(made).state_dict()
    try:
        checkpoint.check_tensors(weights, checkpoint.forms_of(model.state_dict()))
    except GlowkitError as error:
        raise GlowkitError(f"it starts from {first.name}, which has another shape: {error}") from None
    model.load_state_dict(weights)
    checkpoint.save(model, start, run.data)
    return start


def _logged(folder: Path) -> float:
    """Seconds that a run's log tells of; 0 without a log. A line that a kill has cut tells of none."""
    path = folder / training.LOG
    lines = path.read_bytes().splitlines() if path.exists() else []
    return round(sum(training.logged(line, "seconds") or 0.0 for line in lines), 1)


def _row(id: str, stage: Stage, tell: Callable[[str], None]) -> Found | None:
    """What a row found, as its file will have it; None, as in `measures.measure`, where it cannot be decided."""
    try:
        found = ROWS[id](stage)
    except GlowkitError as error:
        tell(f"{id} is left out: {error}")
        return None
    # Without details: those of dozens of runs would fill a repository.
    return found and found_of(id, as_json(replace(found, date=f"{datetime.date.today()}", details={})))


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


class Clock:
    """clock.lap() -> seconds of computing since the last one, however long it waited for others."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def lap(self) -> float:
        before, self.last = self.last, time.process_time()
        return round(self.last - before, 1)


def _commit() -> str:
    """Of this checkout, if it is one: an installed package may lie in the repository of something else."""
    root = bundled.root()
    if not (root / ".git").exists() or not shutil.which("git"):
        return "unknown"
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
