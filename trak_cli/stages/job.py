"""A featurize call, prepared: everything is loaded and checked here, before the first gradient."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trak_cli.cluster import Share, share_from
from trak_cli.config import Loaded, TrakConfig
from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.gradients import ModelOutput, check_independence, check_reach, make_engine, select, with_autocast
from trak_cli.projection import ProjectionSpec, Projector, describe_factors, make_projector
from trak_cli.stages.gradient_plan import Bench, plan_gradients
from trak_cli.stages.identity import check_fingerprint, features_fingerprint, record_fingerprint, shard_fingerprint
from trak_cli.stages.machine import choose_device, use_threads
from trak_cli.stages.microbatches import Featurizer, Split
from trak_cli.stages.parts import Checkpoint, Parts, find_checkpoints, load_checkpoint, make_parts
from trak_cli.stages.projecting import Matrices, matrices_of, projection_spec
from trak_cli.stages.run_plan import RunPlan, settle_plan
from trak_cli.stages.splits import record_rows
from trak_cli.stages.validation import validate
from trak_cli.store import Layout, write_once
from trak_cli.types import Json, Reporter, Rows, shards_of

#: Samples that are compared alone and together, to see whether a model's outputs depend on the rest of the batch.
INDEPENDENCE_SAMPLES = 4


@dataclass(frozen=True)
class Unit:
    """One shard to be computed: the unit of work. ``shorter``: one of fewer rows is there, and is to be replaced."""

    checkpoint: Checkpoint
    split: Split
    index: int
    rows: Rows
    fingerprint: Json
    shorter: bool = False


@dataclass(frozen=True)
class Job:
    """A prepared featurize call.

    Attributes:
        function: the output function of the task, under the autocast of the config.
        sizes: canonical parameter name -> number of coordinates, of the selected parameters.
        matrices: those of them that the projection takes from both sides, with their shapes.
        units: every shard of the store, in the order on which all workers agree.
    """

    config: TrakConfig
    layout: Layout
    device: torch.device
    share: Share
    parts: Parts
    function: ModelOutput
    checkpoints: list[Checkpoint]
    splits: list[Split]
    spec: ProjectionSpec
    sizes: Mapping[str, int]
    matrices: Matrices
    plan: RunPlan
    units: list[Unit]

    @property
    def parameters(self) -> int:
        """p, the number of selected parameters."""
        return sum(self.sizes.values())

    def featurizer(self, checkpoint: Checkpoint) -> Featurizer:
        """The model with this checkpoint's weights, its gradient engine and its projection."""
        load_checkpoint(self.parts.model, checkpoint, self.device)
        gradients = self.config.gradients
        selected = select(self.parts.model, gradients.include, gradients.exclude)
        engine = make_engine(self.plan.engine, self.parts.model, self.function, selected, self.plan.routes, self.matrices)
        projector = _projector(self.config, self.spec, checkpoint, self.sizes, self.matrices, self.device)
        return Featurizer(self.parts.model, self.parts.task, engine, projector, self.parameters, self.plan.microbatch)


def prepare(loaded: Loaded, reporter: Reporter) -> Job:
    """Load and check everything, settle the run plan, and number the work.

    Raises:
        ConfigError, InputError, StoreError, MachineError: nothing that the store holds was changed.
    """
    config = loaded.config
    device = choose_device(config.device)
    use_threads(config.threads)
    share = share_from(config.worker.index, config.worker.count, os.environ)
    layout = Layout(Path(config.store))
    checkpoints = find_checkpoints(config, loaded.base)
    parts = make_parts(config)
    splits = [Split(name, dataset, len(dataset), parts.collate, device) for name, dataset in parts.splits.items()]
    _load_each(parts, checkpoints, device)
    selected = select(parts.model, config.gradients.include, config.gradients.exclude)
    spec = projection_spec(config, sum(tensor.numel() for tensor in selected.values()))
    matrices = matrices_of(spec, parts.model, selected)
    fingerprints = {one.name: features_fingerprint(config, one.sha256, selected, spec, matrices) for one in checkpoints}
    _check_store(layout, fingerprints)
    function = with_autocast(parts.task, parts.model, device, config.gradients.autocast)
    _check_batches(parts, function, splits[0])
    check_reach(parts.model, function, splits[0].batch(splits[0].samples(Rows(0, 1))), selected)
    sizes = {name: tensor.numel() for name, tensor in selected.items()}
    if matrices:
        reporter.log(f"projection=factored: {describe_factors(spec, sizes, matrices)}")
    projector = partial(_projector, config, spec, checkpoints[0], sizes, matrices, device)
    bench = Bench(config, parts.model, function, splits[0], selected, matrices, projector)
    plan = settle_plan(layout, config, lambda: plan_gradients(bench, reporter))
    for split in splits:
        record_rows(layout, split.name, split.rows)
    for one in checkpoints:
        record_fingerprint(layout, one.name, fingerprints[one.name])
    write_once(layout.config, loaded.yaml.encode())
    units = [
        Unit(one, split, index, rows, shard_fingerprint(fingerprints[one.name], split.name))
        for one in checkpoints
        for split in splits
        for index, rows in enumerate(shards_of(split.rows, plan.shard_rows))
    ]
    return Job(config, layout, device, share, parts, function, checkpoints, splits, spec, sizes, matrices, plan, units)


def _projector(
    config: TrakConfig,
    spec: ProjectionSpec,
    checkpoint: Checkpoint,
    sizes: Mapping[str, int],
    matrices: Matrices,
    device: torch.device,
) -> Projector:
    kernel, threads = config.projection.kernel, config.threads
    return make_projector(spec, checkpoint.sha256, sizes, device=device, kernel=kernel, threads=threads, matrices=matrices)


def _load_each(parts: Parts, checkpoints: Sequence[Checkpoint], device: torch.device) -> None:
    """Load every checkpoint once, the first last: one that does not fit is found now, not after hours of the others."""
    problems: list[Problem] = []
    for checkpoint in reversed(checkpoints):
        try:
            load_checkpoint(parts.model, checkpoint, device)
        except InputError as error:
            problems = [*error.problems, *problems]
    if problems:
        raise InputError(problems)


def _check_store(layout: Layout, fingerprints: Mapping[str, Json]) -> None:
    problems: list[Problem] = []
    for name, fingerprint in fingerprints.items():
        try:
            check_fingerprint(layout, name, fingerprint)
        except StoreError as error:
            problems += error.problems
    if problems:
        raise StoreError(problems)


def _check_batches(parts: Parts, function: ModelOutput, train: Split) -> None:
    """Refuse a model whose output for a sample depends on the other samples of its batch."""
    rows = Rows(0, min(INDEPENDENCE_SAMPLES, train.rows))
    samples = train.samples(rows)
    together = train.batch(samples)
    validate(parts.task, parts.model, together, train.name, rows)
    if len(rows) < 2:
        return
    check_independence(parts.model, function, together, [train.batch([sample]) for sample in samples])
