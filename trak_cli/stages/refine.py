"""``trak refine``: scores of chosen targets, by solving linear systems in the space of all parameters.

The unit of work is one block of systems under one checkpoint. Once all checkpoints of a block are solved, any worker combines
them into scores, which are stored like those of ``trak score``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trak_cli.config.load import Loaded
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.transforms.adam import Scales
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.adam_scales import scales_of, stored_scales
from trak_cli.stages.featurizing.engines import build_engine
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.device import refuse_device_map
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.refining.combining import CheckpointReport, combine
from trak_cli.stages.refining.directions import combinations, simulated_weights
from trak_cli.stages.refining.opening import RefineRun, open_run
from trak_cli.stages.refining.scores import RefinedUnit
from trak_cli.stages.refining.systems import Refined, Systems
from trak_cli.stages.scoring.gram_store import require_gram
from trak_cli.stages.scoring.score_notes import read_notes
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.safety.records import understanding
from trak_cli.types import Meter, Reporter
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class RefineSummary:
    """The result of one call.

    Attributes:
        systems: of each checkpoint: one for each target, or one for a group.
        solved, already_there, left_to_others: blocks of systems.
        reports: of every checkpoint, once the scores are complete.
        path: holds the scores once they are ``complete``.
    """

    store: Path
    estimator: str
    split: str
    targets: int
    systems: int
    rows: int
    solved: int
    already_there: int
    left_to_others: int
    complete: bool
    path: Path
    tolerance: float
    reports: list[CheckpointReport]
    warnings: list[str]


def refine(loaded: Loaded, reporter: Reporter) -> RefineSummary:
    """Solve the systems of this worker's share; combine them into scores once all workers are done.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    refuse_device_map(loaded.config, "refine")
    share = worker_share(loaded.config.worker, reporter)
    run = open_run(loaded, reporter)
    settings, files = run.settings, run.files
    done = files.require_ours()
    blocks_done = set(range(len(files.blocks))) - {unit.block for unit in files.units() if unit not in done}
    mine = share.of(run.units)
    pending = [unit for unit in mine if unit.block not in blocks_done and not unit.stored()]
    reporter.log(_plan(run, len(pending)))
    solved = _solve(run, pending, reporter)
    complete = combine(run, blocks_done)
    notes = read_notes(files.layout, files.estimator, files.split) if complete else {}
    with understanding(files.layout.scores_notes(files.estimator, files.split), "the notes of trak refine"):
        reports = [CheckpointReport(**report) for report in notes.get("checkpoints", [])]
    return RefineSummary(
        store=files.layout.root,
        estimator=settings.name,
        split=settings.split,
        targets=len(settings.targets),
        systems=settings.systems,
        rows=run.inventory.rows,
        solved=solved,
        already_there=len(mine) - solved,
        left_to_others=len(run.units) - len(mine),
        complete=complete,
        path=files.complete_path,
        tolerance=settings.refine.tolerance,
        reports=reports,
        warnings=[str(warning) for warning in notes.get("warnings", [])],
    )


def _plan(run: RefineRun, pending: int) -> str:
    settings = run.settings
    rows = len(settings.curvature_rows)
    sampled = "" if rows == run.inventory.rows else f" of a sample of {rows:,} of {counted(run.inventory.rows, 'training row')}"
    return (
        f"{counted(settings.systems, 'system')} of {counted(run.setup.parameters, 'unknown')}"
        f" under {counted(len(run.inputs.checkpoints), 'checkpoint')},"
        f" with the Gauss-Newton matrix of the loss{sampled}; {settings.block} at a time with a preconditioner of rank"
        f" {settings.rank}, {settings.columns} in one pass of {counted(settings.microbatch, 'sample')};"
        f" {counted(pending, 'block')} to solve"
        f" on {run.inputs.device_name}"
    )


def _solve(run: RefineRun, pending: Sequence[RefinedUnit], reporter: Reporter) -> int:
    """Solve the pending blocks; returns how many were solved here."""
    solved = 0
    with reporter.meter("refine", sum(len(unit.systems) for unit in pending), "systems") as meter:
        for checkpoint in run.inputs.checkpoints:
            units = [unit for unit in pending if unit.checkpoint == checkpoint.name]
            if any(not unit.stored() for unit in units):
                solved += _solve_units(run, checkpoint, units, reporter, meter)
    return solved


def _solve_units(run: RefineRun, checkpoint: Checkpoint, units: Sequence[RefinedUnit], reporter: Reporter, meter: Meter) -> int:
    """Solve some blocks under one checkpoint."""
    setup = run.setup
    solved = 0
    with report_user_errors(f"model with {checkpoint.name}", library=True):
        setup.components.models.load(checkpoint)
        bind_context(run.cache, setup.components, checkpoint, store=True)
        if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in setup.selected.values()):
            setup.model.float()
            reporter.log(f"{checkpoint.name}: computed in float32")
        systems = _systems(run, checkpoint, reporter)
        way = (
            "several vectors at once" if systems.vectorised else "one vector at a time, because the model refuses forward mode"
        )
        reporter.log(f"{checkpoint.name}: λ = {systems.ridge:.3g}; products with {way}")
        for unit in units:
            if not unit.stored():  # meanwhile by another worker
                with unit_of_work():
                    refined = systems.refine(unit.systems, _wanted(run, unit), reporter.log)
                    _require_finite(refined, checkpoint)
                    unit.write(refined)
                solved += 1
                worst = float(refined.residuals.max())
                reporter.log(f"{checkpoint.name}: {counted(len(unit.systems), 'system')}, residuals up to {worst:.2g}")
            meter.advance(len(unit.systems))
    return solved


def _systems(run: RefineRun, checkpoint: Checkpoint, reporter: Reporter) -> Systems:
    """The systems of a checkpoint that is loaded, with the weights and directions of the estimator's Gram matrix."""
    splits, scales = (run.inputs.train, run.targets), _scales(run, checkpoint, reporter)
    if not run.estimator.needs_gram:
        return Systems(run.setup, run.settings, splits, scales, combinations=None, weights=None)
    found = require_gram(run.inventory, run.estimator, checkpoint.name)
    rank = run.settings.rank
    directions = combinations(run.inventory, run.estimator, checkpoint.name, found, rank) if rank else None
    return Systems(run.setup, run.settings, splits, scales, directions, simulated_weights(found))


def _scales(run: RefineRun, checkpoint: Checkpoint, reporter: Reporter) -> Scales | None:
    """The scales by which features were multiplied, for models trained by Adam."""
    setup, plan = run.setup, run.inventory.plan
    if not setup.optimizer.scaled:
        return None
    estimated = partial(stored_scales, run.cache, setup, checkpoint.name, plan.microbatch, reporter)
    return scales_of(setup, checkpoint, estimated, build_engine(setup, plan.engine, plan.strategies))


def _wanted(run: RefineRun, unit: RefinedUnit) -> list[int] | None:
    """The training rows that the systems of a block are multiplied by; None for all."""
    if run.candidates is None:
        return None
    return sorted({row for chosen in run.candidates[unit.systems.start : unit.systems.stop] for row in chosen})


def _require_finite(refined: Refined, checkpoint: Checkpoint) -> None:
    if not np.isfinite(refined.residuals).all():
        remedy = "raise refine.ridge, or look at the model with trak doctor"
        raise InputError(Problem(f"systems of {checkpoint.name}", "residuals that are not finite", "finite numbers", remedy))
