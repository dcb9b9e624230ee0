"""``trak featurize``: projected gradients, written to shards. The only stage that runs models over the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.config.schema import ClusterConfig, TrakConfig, WorkerConfig
from trak_cli.gradients.tuning.clock import clock_of, timed, undisturbed
from trak_cli.plugins.checkpoints.member import AUTOMATIC, leftover_members
from trak_cli.plurals import counted
from trak_cli.projection.factored import describe_factors
from trak_cli.stages.diagnosis.checks import single_start
from trak_cli.stages.diagnosis.model_quality import model_quality, quality_warnings
from trak_cli.stages.featurizing.adam_scales import scales_of, stored_scales
from trak_cli.stages.featurizing.code_check import check_same_code
from trak_cli.stages.featurizing.engine_selection import EngineSelector, settle_plan
from trak_cli.stages.featurizing.engines import make_featurizer
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.model_checks import check_model
from trak_cli.stages.featurizing.replaced_splits import replace_splits
from trak_cli.stages.featurizing.second_look import look_again
from trak_cli.stages.featurizing.setup import FeatureSetup, make_setup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.featurizing.units import Unit, Work, list_work
from trak_cli.stages.index.fingerprints import check_fingerprints, record_fingerprint
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.index.run_plan import RunPlan
from trak_cli.stages.index.split_sizes import check_rows, first_rows, lengths_recorded
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.probes import Probes, choose_probes
from trak_cli.stages.inputs.run_inputs import RunInputs, can_have_blends, open_inputs
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.atomic_write import write_once
from trak_cli.store.layout import Layout
from trak_cli.store.shards import Condition, write_features
from trak_cli.store.temp_files import sweep
from trak_cli.types import TRAIN, Meter, Reporter, listed
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class SplitSummary:
    """Shards of one split, over all checkpoints; ``left_to_others``: in the share of other workers."""

    name: str
    rows: int
    written: int
    already_there: int
    left_to_others: int


@dataclass(frozen=True)
class FeaturizeSummary:
    """The result of a call of featurize; ``kernel`` is null if nothing was projected."""

    store: Path
    checkpoints: list[str]
    splits: list[SplitSummary]
    parameters: int
    dim: int
    engine: str
    microbatch: int
    kernel: str | None
    device: str


@dataclass(frozen=True)
class FeaturizeRun:
    """A featurize run after its inputs are checked and its plan is stored."""

    inputs: RunInputs
    setup: FeatureSetup
    plan: RunPlan
    selector: EngineSelector
    cache: StatisticsCache
    work: Work
    dtype: str


def featurize(loaded: Loaded, reporter: Reporter) -> FeaturizeSummary:
    """Write every shard of this process's share that is not stored yet.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes; nothing that is stored is changed, except the
            splits in ``dataset.replace``.
    """
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    share = worker_share(config.worker, reporter)
    inputs = open_inputs(config, loaded.base, first_rows(layout, TRAIN))
    with report_user_errors("model", library=True):
        setup = make_setup(config, inputs)
    fingerprints = {checkpoint.name: features_fingerprint(config, setup, checkpoint) for checkpoint in inputs.checkpoints}
    replaced = [split for split in inputs.splits if split.name in config.dataset.replace]
    check_fingerprints(layout, fingerprints)
    for split in inputs.splits:
        if split not in replaced:
            check_rows(layout, split.name, split.rows)
    cache = StatisticsCache(layout, inputs.train, fingerprints)
    probes = [choose_probes(split) for split in inputs.splits]
    with report_user_errors("model", library=True):
        bind_context(cache, inputs.components, inputs.checkpoints[0], store=False)
        check_model(setup, probes, reporter.log)
        _log_quality(setup, probes, reporter)
        _log_setup(setup, reporter)
        first, length = inputs.checkpoints[0], config.features.shard_rows
        selector = EngineSelector(setup, inputs.train, first, inputs.samples, length, reporter)
        plan = settle_plan(layout, selector)
    for name, fingerprint in fingerprints.items():
        record_fingerprint(layout, name, fingerprint)
    write_once(layout.config, _of_all_workers(loaded).yaml.encode())  # for people
    replace_splits(layout, replaced, reporter)
    work = list_work(layout, inputs, fingerprints, plan.shard_rows, share, reporter)
    reporter.log(
        f"{counted(len(inputs.checkpoints), 'checkpoint')}, {counted(len(work.units), 'shard')}, {share};"
        f" {len(work.own) - len(work.pending)} already stored, {len(work.pending)} to compute on {inputs.device_name}"
    )
    _log_members(config, inputs, layout, reporter)
    run = FeaturizeRun(inputs, setup, plan, selector, cache, work, config.features.dtype)
    with lengths_recorded(layout, {split.name: split.rows for split in inputs.splits}):  # list_work has checked their samples
        kernel = _compute(run, reporter)
    sweep(layout.root)
    return FeaturizeSummary(
        layout.root,
        [checkpoint.name for checkpoint in inputs.checkpoints],
        _per_split(inputs.splits, work),
        setup.parameters,
        setup.spec.dim,
        plan.engine,
        plan.microbatch,
        kernel,
        inputs.device_name,
    )


def _of_all_workers(loaded: Loaded) -> Loaded:
    """The configuration without what differs between workers, so that it does not tell which one was first."""
    return replace(loaded, config=replace(loaded.config, worker=WorkerConfig(), cluster=ClusterConfig()))


def _log_setup(setup: FeatureSetup, reporter: Reporter) -> None:
    if setup.optimizer.line:
        reporter.log(f"optimizer: {setup.optimizer.line}")
    if setup.matrices:
        reporter.log(f"projection=factored: {describe_factors(setup.spec, setup.sizes, setup.matrices)}")


def _log_quality(setup: FeatureSetup, probes: Sequence[Probes], reporter: Reporter) -> None:
    qualities = model_quality(setup, probes)
    reporter.log("quality under the first checkpoint: " + ", ".join(map(str, qualities)))
    for warning in quality_warnings(qualities):
        reporter.log(f"warning: {warning}")
    start = single_start(setup, probes)
    if not start.held:
        reporter.log(f"warning: {start.found}; {start.remedy}")


def _log_members(config: TrakConfig, inputs: RunInputs, layout: Layout, reporter: Reporter) -> None:
    """Say what was decided about the members of a single checkpoint, and which members in the store are of another decision."""
    chosen, names = config.ensemble, [checkpoint.name for checkpoint in inputs.checkpoints]
    if chosen.members is None and inputs.checkpoints[-1].member is not None:
        reporter.log(
            f"only one checkpoint, trained from random weights: {AUTOMATIC} blends with new random weights are averaged with"
            " it, which usually improves scores and takes five times as long to featurize; ensemble.members=0 leaves them out"
        )
    elif chosen.members is None and len(names) == 1:
        hint = "; add ensemble.kind=fresh if training starts from random weights that the model plugin returns"
        reporter.log(
            f"only one checkpoint: ensemble.members={AUTOMATIC} usually improves scores, and takes five times as long to"
            f" featurize{hint if chosen.kind is None and can_have_blends(config, inputs) else ''}"
        )
    if leftover := leftover_members(layout.checkpoints(), names):
        reporter.log(
            f"warning: the store also holds {listed(leftover)}, which this run leaves out; scores average them too, unless"
            " later stages have 'estimator.average_over=[*-????????]', which chooses the checkpoints without members"
        )


def _compute(run: FeaturizeRun, reporter: Reporter) -> str | None:
    """Compute the pending shards, one checkpoint after another; returns the name of the projection kernel."""
    kernel, pending = None, run.work.pending
    with reporter.meter("featurize", sum(len(unit.rows) for unit in pending), "samples") as meter:
        for checkpoint in run.inputs.checkpoints:
            units = [unit for unit in pending if unit.checkpoint is checkpoint]
            if units:
                kernel = _compute_units(units, run, checkpoint, reporter, meter)
    return kernel


def _compute_units(
    units: Sequence[Unit], run: FeaturizeRun, checkpoint: Checkpoint, reporter: Reporter, meter: Meter
) -> str | None:
    """Compute shards of one checkpoint; the model is released at the end, before the next one is built."""
    with report_user_errors(f"model with {checkpoint.name}", library=True):
        featurizer = _load_featurizer(run, checkpoint, reporter)
    check_same_code([unit for unit in run.work.units if unit.checkpoint is checkpoint], featurizer)
    kernel = featurizer.projector.kernel
    reporter.log(f"{checkpoint.name}: engine {run.plan.engine}, microbatch {run.plan.microbatch}, projection kernel {kernel}")
    for unit in units:
        with unit_of_work():
            reading = timed(partial(_write, unit, featurizer, run, meter), clock_of(run.inputs.device.type))
        if unit is run.work.pending[0]:
            passes = 1 + (run.setup.curvature is not None and unit.split is run.inputs.train)
            left = sum(len(later.rows) for later in run.work.pending[1:])
            look_again(run.selector, run.plan, undisturbed([reading]) / (len(unit.rows) * passes), left)
    return kernel


def _load_featurizer(run: FeaturizeRun, checkpoint: Checkpoint, reporter: Reporter) -> Featurizer:
    """Load a checkpoint into a new model and return its featurizer."""
    setup, plan = run.setup, run.plan
    setup.components.models.load(checkpoint)
    if setup.components.models.key != ".":
        reporter.log(f"{checkpoint.name}: weights read from the key {setup.components.models.key} of {checkpoint.path.name}")
    bind_context(run.cache, setup.components, checkpoint, store=True)
    estimated = partial(stored_scales, run.cache, setup, checkpoint.name, plan.microbatch, reporter)
    return make_featurizer(setup, plan, checkpoint, partial(scales_of, setup, checkpoint, estimated))


def _write(unit: Unit, featurizer: Featurizer, run: FeaturizeRun, meter: Meter) -> None:
    if unit.inspect().condition is Condition.WHOLE:  # another worker has written it since this one started
        meter.advance(len(unit.rows))
        return
    write_features(
        unit.path,
        featurizer.rows(unit.split, unit.rows, meter.advance),
        unit.fingerprint,
        provenance(
            run.setup.device, kernel=featurizer.projector.kernel, engine=run.plan.engine, microbatch=run.plan.microbatch
        ),
        run.dtype,
        overwrite=unit.replaces_shorter,
    )


def _per_split(splits: Sequence[Split], work: Work) -> list[SplitSummary]:
    every, own, pending = (Counter(unit.split.name for unit in units) for units in (work.units, work.own, work.pending))
    return [
        SplitSummary(
            split.name,
            split.rows,
            pending[split.name],
            own[split.name] - pending[split.name],
            every[split.name] - own[split.name],
        )
        for split in splits
    ]
