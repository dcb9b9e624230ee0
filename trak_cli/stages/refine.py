"""``trak refine``: scores of chosen targets, by solving linear systems in the space of all parameters.

The unit of work is one block of systems under one checkpoint. Once all checkpoints of a block are solved, any worker combines
them into scores, which are stored like those of ``trak score``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.topk import TopBottom
from trak_cli.cluster.share import Share
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, InputError, Problem, StoreError
from trak_cli.gradients.transforms.adam import Scales
from trak_cli.stages.featurizing.adam_scales import scales_of, stored_scales
from trak_cli.stages.featurizing.engines import build_engine
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.setup import FeatureSetup, make_setup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.featurizing.units import list_work
from trak_cli.stages.index.fingerprints import check_fingerprints
from trak_cli.stages.index.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.microbatches import largest
from trak_cli.stages.inputs.run_inputs import RunInputs, open_inputs
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.refining.scores import RefinedUnit, combined, extremes_of
from trak_cli.stages.refining.settings import Settings, make_settings
from trak_cli.stages.refining.systems import Refined, Systems
from trak_cli.stages.scoring.score_notes import read_notes, write_notes
from trak_cli.stages.scoring.score_reader import read_extremes, stored_scores
from trak_cli.stages.scoring.score_store import ScoreFiles
from trak_cli.store.chosen_targets import ChosenTargets, positions
from trak_cli.store.failures import MissingError
from trak_cli.store.fingerprint import digest
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.types import TRAIN, Json, Meter, Reporter, listed
from trak_cli.user_errors import report_user_errors


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


@dataclass(frozen=True)
class RefineRun:
    """A run whose inputs are checked.

    Attributes:
        units: blocks of systems under every checkpoint, in an order on which all workers agree.
        candidates: for every system, the training rows that are scored; None for all.
    """

    inputs: RunInputs
    setup: FeatureSetup
    cache: StatisticsCache
    inventory: Inventory
    estimator: EstimatorSpec
    settings: Settings
    files: ScoreFiles
    units: list[RefinedUnit]
    candidates: list[list[int]] | None

    @property
    def folder(self) -> Path:
        """The folder of the units."""
        return self.inventory.layout.refined_folder(self.settings.name, self.settings.split)


def refine(loaded: Loaded, reporter: Reporter) -> RefineSummary:
    """Solve the systems of this worker's share; combine them into scores once all workers are done.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    share = worker_share(loaded.config.worker, reporter)
    run = _open(loaded, reporter)
    settings, files = run.settings, run.files
    done = files.require_ours()
    blocks_done = {number for number in range(len(files.blocks)) if {u for u in files.units() if u.block == number} <= done}
    mine = share.of(run.units)
    pending = [unit for unit in mine if unit.block not in blocks_done and not unit.stored()]
    reporter.log(_plan(settings, run, len(pending)))
    solved = _solve(run, pending, reporter)
    complete = _combine(run, blocks_done)
    notes = read_notes(files.layout, files.estimator, files.split) if complete else {}
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


def _open(loaded: Loaded, reporter: Reporter) -> RefineRun:
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    inventory = take_inventory(layout, config.estimator.average_over)
    inputs = _with_checkpoints(open_inputs(config, loaded.base), inventory)
    with report_user_errors("model", library=True):
        setup = make_setup(config, inputs)
    _require_gradients(setup)
    fingerprints = {checkpoint.name: features_fingerprint(config, setup, checkpoint) for checkpoint in inputs.checkpoints}
    check_fingerprints(layout, fingerprints)
    cache = StatisticsCache(layout, inputs.train, fingerprints)
    sample = largest(inputs.train, 1)
    with report_user_errors("model", library=True):
        bind_context(cache, inputs.components, inputs.checkpoints[0], store=True)
        settings = make_settings(config.refine, config.estimator.spec, inventory, setup, inputs.train.batch(sample.samples))
    require_shards(inventory, [TRAIN, settings.split])
    _require_features(list_work(layout, inputs, fingerprints, inventory.plan.shard_rows, Share(), reporter).pending)
    fingerprint, candidates = settings.fingerprint(inventory, config.estimator.spec), None
    if config.refine.candidates is not None:
        candidates, source = _candidates(layout, config.estimator.name, settings)
        fingerprint |= {"candidates_of": digest(source)}
    files = ScoreFiles(
        layout=layout,
        estimator=settings.name,
        split=settings.split,
        top_k=config.refine.candidates,
        blocks=settings.blocks,
        shards=inventory.shards(TRAIN),
        fingerprint=fingerprint,
        overwrite=config.refine.overwrite,
    )
    units = [
        RefinedUnit(
            checkpoint.name,
            number,
            systems,
            layout.refined(settings.name, settings.split, checkpoint.name, number),
            {**fingerprint, "kind": "refined", "checkpoint": checkpoint.name},
        )
        for checkpoint in inputs.checkpoints
        for number, systems in enumerate(settings.blocks)
    ]
    return RefineRun(inputs, setup, cache, inventory, config.estimator.spec, settings, files, units, candidates)


def _with_checkpoints(inputs: RunInputs, inventory: Inventory) -> RunInputs:
    """The inputs with the checkpoints of the inventory only.

    Raises:
        ConfigError: the config has no file for one of them.
    """
    known = {checkpoint.name: checkpoint for checkpoint in inputs.checkpoints}
    if absent := [name for name in inventory.checkpoints if name not in known]:
        found = f"no file of {listed(absent)}, whose features are averaged over"
        remedy = "name the files in checkpoints, or choose checkpoints with estimator.average_over"
        raise ConfigError(Problem("checkpoints", found, "the files of these checkpoints", remedy))
    checkpoints = [known[name] for name in inventory.checkpoints]
    inputs.components.models.load(checkpoints[0])
    return replace(inputs, checkpoints=checkpoints)


def _require_gradients(setup: FeatureSetup) -> None:
    """Raise ConfigError if features are no gradients, or if a parameter is complex."""
    if not setup.uses_gradients:
        expected = "features that are gradients: a representation has no parameters"
        raise ConfigError(Problem("gradients.engine", "representation", expected, "use a store with gradients=auto"))
    if names := [name for name, value in setup.selected.items() if value.is_complex()]:
        remedy = f"leave them out: parameters.exclude=[{','.join(names)}]"
        raise ConfigError(Problem("parameters", f"{listed(names)}, which are complex", "real parameters", remedy))


def _require_features(pending: Sequence[object]) -> None:
    if pending:
        found = f"{len(pending)} shard(s) of features that are missing or end before the data set does"
        raise StoreError(Problem("features", found, "features of every sample", "run trak featurize first"))


def _candidates(layout: Layout, estimator: str, settings: Settings) -> tuple[list[list[int]], Json]:
    """For every target, the training rows with its highest and lowest scores; and the fingerprint of these scores."""
    path, fingerprint = stored_scores(layout, estimator, settings.split)
    try:
        rows = positions(ChosenTargets.of(fingerprint), settings.targets)
    except ValueError as error:
        remedy = f"run trak score with this estimator first, or choose other targets with refine.targets ({error})"
        raise StoreError(Problem(str(path), "scores of other targets", "scores of all targets to refine", remedy)) from error
    ends = read_extremes(layout, estimator, settings.split, rows, settings.refine.candidates or 1)
    return [sorted({*end.top.indices[0].tolist(), *end.bottom.indices[0].tolist()}) for end in ends], fingerprint


def _plan(settings: Settings, run: RefineRun, pending: int) -> str:
    rows = len(settings.curvature_rows)
    sampled = "" if rows == run.inventory.rows else f" of a sample of {rows:,} of {run.inventory.rows:,} training rows"
    return (
        f"{settings.systems} system(s) of {run.setup.parameters:,} unknowns under {len(run.inputs.checkpoints)} checkpoint(s),"
        f" with the Gauss-Newton matrix of the loss{sampled}; {settings.block} at a time with a preconditioner of rank"
        f" {settings.rank}, {settings.columns} in one pass of {settings.microbatch} samples; {pending} block(s) to solve"
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
    setup, settings = run.setup, run.settings
    solved = 0
    with report_user_errors(f"model with {checkpoint.name}", library=True):
        setup.components.models.load(checkpoint)
        bind_context(run.cache, setup.components, checkpoint, store=True)
        systems = Systems(setup, settings, run.inputs.train, _targets(run), _scales(run, checkpoint, reporter))
        way = (
            "several vectors at once" if systems.vectorised else "one vector at a time, because the model refuses forward mode"
        )
        reporter.log(f"{checkpoint.name}: λ = {systems.ridge:.3g}; products with {way}")
        for unit in units:
            if not unit.stored():  # meanwhile by another worker
                refined = systems.refine(unit.systems, _wanted(run, unit))
                _require_finite(refined, checkpoint)
                unit.write(refined)
                solved += 1
                worst = float(refined.residuals.max())
                reporter.log(f"{checkpoint.name}: {len(unit.systems)} system(s), residuals up to {worst:.2g}")
            meter.advance(len(unit.systems))
    return solved


def _targets(run: RefineRun) -> Split:
    return next(split for split in run.inputs.splits if split.name == run.settings.split)


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


def _combine(run: RefineRun, blocks_done: set[int]) -> bool:
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
        shutil.rmtree(run.folder, ignore_errors=True)
    return complete


def _write_block(run: RefineRun, number: int) -> TopBottom | None:
    """Write the scores of a block; or return its highest and lowest scores, if only candidates are scored."""
    files, units = run.files, [unit for unit in run.units if unit.block == number]
    scores = combined(run.settings, run.estimator, run.inventory, units)
    if run.candidates is not None:
        chosen = run.candidates[units[0].systems.start : units[0].systems.stop]
        return extremes_of(scores, chosen, run.settings.refine.candidates or 1)
    for unit in files.units():
        if unit.block == number and not files.is_done(unit):
            files.write(unit, scores[:, unit.rows.start : unit.rows.stop])
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
        f"{unsolved} of {run.settings.systems * len(reports)} systems did not converge: residuals up to {worst:.2g} after"
        f" {settings.iterations} iterations, instead of {settings.tolerance:g}; raise refine.iterations or refine.ridge"
    ]
