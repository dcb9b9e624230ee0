"""Stages in forks of one process that has imported and composed everything, because a new process takes seconds for that."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kill_driver import contents, start, wait

from trak_cli.cli.app import app
from trak_cli.config import load as config

#: Two shards of training rows and one of targets: the fewest files that have a first and a second shard.
FEW_ROWS = "dataset.train.rows=20"

#: The stages and their overrides, in order. Shards and blocks are shared by all workers.
STAGES: Mapping[str, tuple[str, ...]] = {
    "featurize": ("checkpoints=checkpoints/a*",),
    "finalize": (),
    "score": ("score.target_block=4",),
    "score-top-k": ("score.target_block=4", "score.top_k=3", "estimator.name=kept"),
}


@dataclass(frozen=True)
class Pipeline:
    """An undisturbed run.

    Attributes:
        before: stage -> the project's folder as the stage finds it.
        after: stage -> everything in the store after it.
        workers: how many share the work of a stage.
    """

    before: dict[str, Path]
    after: dict[str, dict[str, Any]]
    workers: int

    def command(self, stage: str, worker: int | None = None) -> list[str]:
        """The command line of a stage, of one of the workers or of all of the work."""
        share = [] if worker is None else [f"worker.index={worker}", f"worker.count={self.workers}"]
        return [stage.removesuffix("-top-k"), "-d", ".", FEW_ROWS, *STAGES[stage], *share]

    def start(self, folder: Path, stage: str, worker: int | None = None, hook: Callable[..., None] | None = None) -> int:
        """The process of a worker."""
        return start(folder, self.command(stage, worker), hook)

    def finish(self, folder: Path, stage: str) -> list[str]:
        """Run a stage to its end, undisturbed; what is wrong, left over, or differs from the undisturbed run."""
        code = wait(self.start(folder, stage))
        faults = [] if code == 0 else [f"the last run left with {code}: {(folder / 'stderr').read_text()}"]
        faults += [f"{path.name} is left" for pattern in ("*.tmp", "*.damaged*") for path in folder.rglob(pattern)]
        found, expected = contents(folder), self.after[stage]
        return faults + [f"{name} differs" for name in sorted(expected | found) if expected.get(name) != found.get(name)]


def undisturbed(project: Path, work: Path, workers: int) -> Pipeline:
    """Run all stages in this process, on a copy of a new project; later forks find everything imported and composed."""
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    _compose_each_once()
    pipeline = Pipeline({}, {}, workers)
    folder = work / "undisturbed"
    shutil.copytree(project, folder)
    for stage in STAGES:
        pipeline.before[stage] = work / f"before-{stage}"
        shutil.copytree(folder, pipeline.before[stage])
        os.chdir(folder)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            for worker in (*range(workers), None):
                app(pipeline.command(stage, worker), standalone_mode=False)
        pipeline.after[stage] = contents(folder)
    gc.freeze()  # a collection in a child would copy the memory of everything imported
    return pipeline


def _compose_each_once() -> None:
    """Keep composed configurations: composing takes longer than all else."""
    compose = config.load
    composed: dict[str, config.Loaded] = {}

    def load(*arguments: Any, **options: Any) -> config.Loaded:
        key = repr((arguments, options))
        if key not in composed:
            composed[key] = compose(*arguments, **options)
        return dataclasses.replace(composed[key], base=Path.cwd())

    config.load = load
