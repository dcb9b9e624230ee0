"""Random SIGKILLs of the workers of featurize, finalize and score: nothing may be lost, wrong or left over.

    python scripts/kill_storm.py                 200 kills of three workers, a few minutes
    python scripts/kill_storm.py --kills 20 --workers 2 --seed 7

Each stage runs in several worker processes on a tiny project. Workers are killed at random moments and started again, until
all of them end by themselves. Then the store must equal that of an undisturbed run, without temporary files. Exits with 1 if
it does not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stage_forks import Pipeline

TESTS = Path(__file__).resolve().parents[1] / "tests" / "integration"


def storm(work: Path, kills: int, workers: int, seed: int) -> tuple[Counter[str], int, list[str]]:
    """How many workers were killed in each stage, how many pipelines were run, and everything that went wrong."""
    sys.path.insert(0, str(TESTS))
    from stage_forks import STAGES, undisturbed
    from tiny_project import write_project

    write_project(work / "project")
    pipeline = undisturbed(work / "project", work, workers)
    rng = random.Random(seed)
    killed: Counter[str] = Counter()
    faults: list[str] = []
    runs = 0
    lengths = {stage: _length(pipeline, stage, work / "timed") for stage in STAGES}
    while killed.total() < kills:
        folder = work / f"run-{runs}"
        shutil.copytree(work / "project", folder)
        for stage in STAGES:
            killed[stage] += _disturbed(pipeline, folder, stage, lengths[stage], rng, kills - killed.total())
            faults += [f"run {runs}, {stage}: {fault}" for fault in pipeline.finish(folder, stage)]
        shutil.rmtree(folder)
        runs += 1
        print(f"{runs} runs, {killed.total()} kills, {len(faults)} faults", file=sys.stderr, flush=True)
    return killed, runs, faults


def _length(pipeline: Pipeline, stage: str, folder: Path) -> float:
    """Seconds of one undisturbed worker."""
    shutil.copytree(pipeline.before[stage], folder)
    begun = time.monotonic()
    os.waitpid(pipeline.start(folder, stage, 0), 0)
    shutil.rmtree(folder)
    return time.monotonic() - begun


def _disturbed(pipeline: Pipeline, folder: Path, stage: str, length: float, rng: random.Random, kills: int) -> int:
    """Run a stage in several workers, kill them at random moments and start them again; how many were killed."""
    running = {pipeline.start(folder, stage, worker): worker for worker in range(pipeline.workers)}
    killed = 0
    while killed < min(kills, 2 * pipeline.workers) and _run_for(running, rng.uniform(0, length / 2)):
        child = rng.choice(sorted(running))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        worker = running.pop(child)
        running[pipeline.start(folder, stage, worker)] = worker
    _run_for(running, 600)
    return killed


def _run_for(running: dict[int, int], seconds: float) -> bool:
    """Let workers run, and forget those that end; whether some are left. One that is refused leaves work to the last run."""
    deadline = time.monotonic() + seconds
    while running and time.monotonic() < deadline:
        for child in list(running):
            if os.waitpid(child, os.WNOHANG)[0]:
                del running[child]
        time.sleep(0.001)
    return bool(running)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        killed, runs, faults = storm(Path(work).resolve(), options.kills, options.workers, options.seed)
    for fault in faults:
        print(fault)
    stages = ", ".join(f"{count} in {stage}" for stage, count in killed.items())
    print(f"{killed.total()} kills ({stages}) in {runs} runs: {len(faults)} faults, {time.monotonic() - begun:.0f} s")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
