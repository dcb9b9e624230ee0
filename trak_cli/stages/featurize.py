"""``trak featurize``: gradients, projected, into shards. The only stage that runs models over the data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.prepare import Job, Unit, prepare
from trak_cli.stages.featurizing.resume import check_same_code, is_done, pending_units
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.index.split_sizes import noted
from trak_cli.stages.inputs.device import device_name
from trak_cli.store.shards import write_features
from trak_cli.store.temp_files import sweep
from trak_cli.types import Meter, Reporter


@dataclass(frozen=True)
class SplitSummary:
    """Shards of one split, over all checkpoints."""

    name: str
    rows: int
    written: int
    already_there: int
    left_to_others: int


@dataclass(frozen=True)
class FeaturizeSummary:
    """What a call of featurize found and did; ``kernel`` is null when there was nothing to project."""

    store: Path
    checkpoints: list[str]
    splits: list[SplitSummary]
    parameters: int
    dim: int
    engine: str
    microbatch: int
    kernel: str | None
    device: str


def featurize(loaded: Loaded, reporter: Reporter) -> FeaturizeSummary:
    """Write every shard of this process's share that is not there yet.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes; nothing already written is touched.
    """
    job = prepare(loaded, reporter)
    mine = job.share.of(job.units)
    pending = pending_units(job, mine, reporter)
    reporter.log(
        f"{len(job.checkpoints)} checkpoint(s), {len(job.units)} shards, {job.share}; {len(mine) - len(pending)} there already,"
        f" {len(pending)} to do on {device_name(job.recipe.device)}"
    )
    if len(job.checkpoints) == 1:
        reporter.log("a single checkpoint: scores gain much from members derived from it in memory, e.g. ensemble.members=4")
    with noted(job.layout, {split.name: split.rows for split in job.splits}):  # their samples are those of the shards
        kernel = _work(job, pending, reporter)
    sweep(job.layout.root)
    return FeaturizeSummary(
        job.layout.root,
        [one.name for one in job.checkpoints],
        _per_split(job, mine, pending),
        job.recipe.parameters,
        job.recipe.spec.dim,
        job.plan.engine,
        job.plan.microbatch,
        kernel,
        device_name(job.recipe.device),
    )


def _work(job: Job, pending: list[Unit], reporter: Reporter) -> str | None:
    """Compute the pending shards, one checkpoint after another; returns the projection kernel that ran."""
    kernel = None
    with reporter.meter("featurize", sum(len(unit.rows) for unit in pending), "samples") as meter:
        for checkpoint in job.checkpoints:
            todo = [unit for unit in pending if unit.checkpoint is checkpoint]
            if not todo:
                continue
            featurizer = job.featurizer(checkpoint)
            check_same_code(job, featurizer, checkpoint)
            kernel = featurizer.projector.kernel
            reporter.log(
                f"{checkpoint.name}: engine {job.plan.engine}, microbatch {job.plan.microbatch}, projection kernel {kernel}"
            )
            for unit in todo:
                _write(job, featurizer, unit, meter)
    return kernel


def _write(job: Job, featurizer: Featurizer, unit: Unit, meter: Meter) -> None:
    if is_done(job.layout, unit):  # by another worker, meanwhile
        meter.advance(len(unit.rows))
        return
    write_features(
        job.layout.features(unit.checkpoint.name, unit.split.name, unit.index),
        featurizer.rows(unit.split, unit.rows, meter.advance),
        unit.fingerprint,
        provenance(job.recipe.device, kernel=featurizer.projector.kernel),
        job.recipe.config.features.dtype,
        overwrite=unit.shorter,
    )


def _per_split(job: Job, mine: list[Unit], pending: list[Unit]) -> list[SplitSummary]:
    every, own, written = (Counter(unit.split.name for unit in units) for units in (job.units, mine, pending))
    return [
        SplitSummary(
            split.name,
            split.rows,
            written[split.name],
            own[split.name] - written[split.name],
            every[split.name] - own[split.name],
        )
        for split in job.splits
    ]
