"""Combining solved blocks into score files, with a report of how they were solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from trak_cli.attribution.topk import TopBottom
from trak_cli.plurals import counted
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.refining.opening import RefineRun
from trak_cli.stages.refining.scores import combined, extremes_of
from trak_cli.stages.scoring.score_notes import write_notes
from trak_cli.store.atomic_write import remove, remove_empty_folders
from trak_cli.store.failures import MissingError
from trak_cli.store.publish import write_image


@dataclass(frozen=True)
class CheckpointReport:
    """How the systems of one checkpoint were solved.

    Attributes:
        ridge: λ itself.
        iterations: of conjugate gradients, mean and maximum over the systems.
        residual: the largest, relative to the right-hand side.
        unsolved: systems whose residual is above the tolerance.
    """

    checkpoint: str
    ridge: float
    mean_iterations: float
    most_iterations: int
    residual: float
    unsolved: int


def combine(run: RefineRun, blocks_done: set[int]) -> bool:
    """Combine the solved blocks into scores; whether all scores are complete."""
    files, units = run.files, run.units
    left = [number for number in range(len(files.blocks)) if number not in blocks_done]
    try:
        if left and not all(unit.stored() for unit in units if unit.block in left):
            return False
        if left:
            report = _reports(run)
            write_notes(
                files.layout, files.estimator, files.split, _warnings(run, report), {"checkpoints": list(map(asdict, report))}
            )
        ends = [_write_block(run, number) for number in left]
    except MissingError:  # another worker has combined them and removed the units
        if not all(files.is_done(unit) for unit in files.units()):
            raise
        ends = []
    if ends and run.candidates is not None:
        arrays = [end.arrays() for end in ends if end is not None]
        whole = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
        write_image(files.complete_path, whole, files.fingerprint, provenance())
    complete = files.complete()
    if complete:
        for path in files.layout.refined_files(files.split, [files.estimator]):
            remove(path)
        remove_empty_folders(files.layout.refined_folder(files.estimator, files.split))
    return complete


def _write_block(run: RefineRun, number: int) -> TopBottom | None:
    """Write the scores of a block; or return its highest and lowest scores, if only candidates are scored."""
    files, units = run.files, [unit for unit in run.units if unit.block == number]
    scores = combined(run.settings, run.estimator, run.inventory, units)
    if run.candidates is not None:
        chosen = run.candidates[units[0].systems.start : units[0].systems.stop]
        return extremes_of(scores, chosen, run.settings.refine.candidates or 1)
    for unit in files.units_of(number):
        if not files.is_done(unit):
            files.write(unit, [(unit.rows, scores[:, unit.rows.start : unit.rows.stop])])
    return None


def _reports(run: RefineRun) -> list[CheckpointReport]:
    reports = []
    for checkpoint in run.inventory.checkpoints:
        found = [unit.read() for unit in run.units if unit.checkpoint == checkpoint]
        residuals, iterations = (np.concatenate([getattr(one, name) for one in found]) for name in ("residuals", "iterations"))
        unsolved = int((residuals > run.settings.refine.tolerance).sum())
        numbers = float(found[0].ridge[0]), float(iterations.mean()), int(iterations.max()), float(residuals.max())
        reports.append(CheckpointReport(checkpoint, *numbers, unsolved))
    return reports


def _warnings(run: RefineRun, reports: Sequence[CheckpointReport]) -> list[str]:
    unsolved = sum(report.unsolved for report in reports)
    if not unsolved:
        return []
    settings, worst = run.settings.refine, max(report.residual for report in reports)
    return [
        f"{unsolved} of {counted(run.settings.systems * len(reports), 'system')}"
        f" did not converge: residuals up to {worst:.2g} after"
        f" {counted(settings.iterations, 'iteration')}, instead of"
        f" {settings.tolerance:g}; raise refine.iterations or refine.ridge"
    ]
