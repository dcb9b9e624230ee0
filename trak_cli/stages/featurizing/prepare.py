"""A featurize call, prepared: everything is loaded and checked here, before the first gradient."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trak_cli.cluster.share import Share, share_from
from trak_cli.config.load import Loaded
from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.gradients.checks.outputs import check_independence, check_reach, check_terms
from trak_cli.projection.factored import describe_factors
from trak_cli.stages.featurizing.adam_scales import OptimizerScales
from trak_cli.stages.featurizing.checkpoint_cache import Contexts
from trak_cli.stages.featurizing.engine_selection import Bench, plan_gradients, settle_plan
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.setup import Recipe, make_recipe
from trak_cli.stages.index.fingerprints import check_fingerprint, record_fingerprint, shard_fingerprint
from trak_cli.stages.index.run_plan import RunPlan
from trak_cli.stages.index.split_sizes import check_rows
from trak_cli.stages.inputs.device import choose_device, use_threads
from trak_cli.stages.inputs.plugins import Checkpoint, Parts, find_checkpoints, load_checkpoint, make_parts
from trak_cli.stages.inputs.split import Split, validate
from trak_cli.store.atomic_write import write_once
from trak_cli.store.layout import Layout
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
        units: every shard of the store, in the order on which all workers agree.
    """

    layout: Layout
    share: Share
    recipe: Recipe
    checkpoints: list[Checkpoint]
    splits: list[Split]
    plan: RunPlan
    units: list[Unit]
    contexts: Contexts
    scales: OptimizerScales

    def featurizer(self, checkpoint: Checkpoint) -> Featurizer:
        """The model with this checkpoint's weights, its gradient engine and its projection."""
        load_checkpoint(self.recipe.parts.model, checkpoint, self.recipe.device)
        self.contexts.bind(checkpoint, keep=True)
        plan = self.plan
        made = self.recipe.featurizer(plan.engine, plan.strategies, checkpoint, plan.microbatch)
        return made.scaled(self.scales.of(checkpoint, made)) if self.recipe.scaled else made


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
    checkpoints, splits, recipe = open_run(loaded, device)
    parts = recipe.parts
    fingerprints = {one.name: features_fingerprint(recipe, one) for one in checkpoints}
    _check_store(layout, fingerprints)
    for split in splits:
        check_rows(layout, split.name, split.rows)
    contexts = Contexts(layout, parts, splits[0], fingerprints)
    contexts.bind(checkpoints[0], keep=False)
    _check_batches(recipe, splits[0])
    if not recipe.represents:
        check_reach(parts.model, recipe.function, splits[0].batch(splits[0].samples(Rows(0, 1))), recipe.selected)
    if recipe.scaled:
        reporter.log("gradients.optimizer=adam: gradients in the units of Adam's steps, by their second moments")
    if recipe.matrices:
        reporter.log(f"projection=factored: {describe_factors(recipe.spec, recipe.sizes, recipe.matrices)}")
    bench = Bench(recipe, splits[0], partial(recipe.projector, checkpoints[0]))
    plan = settle_plan(layout, config, lambda: plan_gradients(bench, reporter))
    for one in checkpoints:
        record_fingerprint(layout, one.name, fingerprints[one.name])
    write_once(layout.config, loaded.yaml.encode())
    units = [
        Unit(one, split, index, rows, shard_fingerprint(fingerprints[one.name], split.name))
        for one in checkpoints
        for split in splits
        for index, rows in enumerate(shards_of(split.rows, plan.shard_rows))
    ]
    scales = OptimizerScales(layout, recipe, splits[0], fingerprints, reporter)
    return Job(layout, share, recipe, checkpoints, splits, plan, units, contexts, scales)


def open_run(loaded: Loaded, device: torch.device) -> tuple[list[Checkpoint], list[Split], Recipe]:
    """What a run is made of: its checkpoints, its splits (the training set first), and how features are made.

    The first checkpoint's weights are in the model, and all of them fit.

    Raises:
        ConfigError, InputError, MachineError: the config asks for what is not there.
    """
    config = loaded.config
    checkpoints = find_checkpoints(config, loaded.base)
    parts = make_parts(config)
    readers = config.features.readers
    readers = int(device.type != "cpu") if readers is None else readers
    splits = [Split(name, dataset, len(dataset), parts.collate, device, readers) for name, dataset in parts.splits.items()]
    _load_each(parts, checkpoints, device)
    return checkpoints, splits, make_recipe(config, parts, splits[0])


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


def _check_batches(recipe: Recipe, train: Split) -> None:
    """Refuse a model whose output for a sample depends on the other samples of its batch, and terms that do not add up."""
    parts, rows = recipe.parts, Rows(0, min(INDEPENDENCE_SAMPLES, train.rows))
    samples = train.samples(rows)
    together = train.batch(samples)
    validate(parts.task, parts.model, together, train.name, rows)
    if len(rows) > 1:
        check_independence(parts.model, recipe.function, together, [train.batch([sample]) for sample in samples])
    if recipe.terms:
        check_terms(parts.model, parts.task, together)
