"""Features of samples that are in no split of a store: computed like those of `trak featurize`, and not stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from trak_cli.batches import to_device
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.plugins.checkpoints.member import checkpoint_of, leftover_members, member_of
from trak_cli.plugins.samples import Indexed, check_length
from trak_cli.stages.featurizing.adam_scales import scales_of, stored_scales
from trak_cli.stages.featurizing.code_check import check_same_code
from trak_cli.stages.featurizing.engines import make_featurizer
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.setup import FeatureSetup, make_setup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.featurizing.units import Unit
from trak_cli.stages.index.fingerprints import check_fingerprints, shard_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.split_sizes import first_rows
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.microbatches import microbatches
from trak_cli.stages.inputs.prefetch import read_batches
from trak_cli.stages.inputs.run_inputs import RunInputs, open_inputs
from trak_cli.stages.inputs.split import Split
from trak_cli.store.dtypes import decode_rows, encode_rows
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float32, Reporter, Rows, listed
from trak_cli.user_errors import report_user_errors

#: What messages call the samples.
NEW = "the new targets"


@dataclass(frozen=True)
class ModelOutputs:
    """What the model says about t samples.

    Attributes:
        outputs, out_to_loss: (checkpoints, t), f and q under every checkpoint.
        probabilities: (t, C) of all classes, the mean over checkpoints; None if the task has no classes.
    """

    outputs: Float32
    out_to_loss: Float32
    probabilities: Float32 | None


@dataclass(frozen=True)
class NewTargets:
    """Of t samples.

    Attributes:
        features: checkpoint -> (t, k), rounded as the store rounds features.
        outputs: what the model says about them.
    """

    features: Mapping[str, Float32]
    outputs: ModelOutputs


def compute_new_targets(loaded: Loaded, inventory: Inventory, samples: Indexed, reporter: Reporter) -> NewTargets:
    """The features of samples under every checkpoint of an inventory. The store is read and not changed.

    Args:
        samples: samples as a target data set returns them; a list will do.

    Raises:
        ConfigError, InputError, StoreError, MachineError: as for `trak featurize`; or the store has no complete features.
    """
    config, layout = loaded.config, inventory.layout
    rows = Rows(0, check_length(samples, NEW))
    without_targets = replace(config, dataset=replace(config.dataset, targets={}))
    inputs = with_checkpoints(open_inputs(without_targets, loaded.base, first_rows(layout, TRAIN)), inventory)
    with report_user_errors("model", library=True):
        setup = make_setup(config, inputs)
    fingerprints = {checkpoint.name: features_fingerprint(config, setup, checkpoint) for checkpoint in inputs.checkpoints}
    check_fingerprints(layout, fingerprints)
    _require_statistics(setup, inputs, layout)
    train = inputs.train
    run = _Run(inventory, setup, StatisticsCache(layout, train, fingerprints), reporter)
    split = Split(NEW, samples, len(rows), train.collate, train.device, train.readers)
    features, columns, probabilities = {}, [], []
    with reporter.meter("features", len(rows) * len(inputs.checkpoints), "samples") as meter:
        for checkpoint in inputs.checkpoints:
            if checkpoint is not inputs.checkpoints[0]:
                setup.components.models.load(checkpoint)
            featurizer = _featurizer(run, checkpoint)
            check_same_code([_first_shard(run, checkpoint)], featurizer)
            found = featurizer.rows(split, rows, meter.advance)
            dtype = str(fingerprints[checkpoint.name]["dtype"])
            features[checkpoint.name] = decode_rows(encode_rows(found.features, dtype), dtype)
            columns.append((found.outputs, found.out_to_loss))
            if (classes := _probabilities(featurizer, split, rows)) is not None:
                probabilities.append(classes)
    f, q = (np.stack(column) for column in zip(*columns, strict=True))
    return NewTargets(features, ModelOutputs(f, q, np.mean(probabilities, axis=0) if probabilities else None))


def _probabilities(featurizer: Featurizer, split: Split, rows: Rows) -> Float32 | None:
    """(rows, C) probabilities under the weights in the model, from a forward pass; None if the task has no classes."""
    task, model = featurizer.task, featurizer.model
    if not task.predicts_classes():
        return None
    found: dict[int, Float32] = {}
    for read in read_batches(split, microbatches(split, rows, featurizer.microbatch)):
        batch = to_device(read.host, split.device)
        with report_user_errors(f"samples {', '.join(map(str, read.rows))} of {split.name}", library=True), torch.no_grad():
            logits = task.class_logits(model, batch)[: len(read.rows)]
            probabilities = torch.softmax(logits.float(), dim=-1).cpu().numpy()
        found.update(zip(read.rows, probabilities, strict=True))
    return np.stack([found[row] for row in range(rows.start, rows.stop)])


@dataclass(frozen=True)
class _Run:
    """What all checkpoints share."""

    inventory: Inventory
    setup: FeatureSetup
    cache: StatisticsCache
    reporter: Reporter


def _featurizer(run: _Run, checkpoint: Checkpoint) -> Featurizer:
    """The featurizer for the weights of ``checkpoint``, which are in the model."""
    setup, plan = run.setup, run.inventory.plan
    with report_user_errors(f"model with {checkpoint.name}", library=True):
        bind_context(run.cache, setup.components, checkpoint, store=False)
        estimated = partial(stored_scales, run.cache, setup, checkpoint.name, plan.microbatch, run.reporter)
        return make_featurizer(setup, plan, checkpoint, partial(scales_of, setup, checkpoint, estimated))


def _first_shard(run: _Run, checkpoint: Checkpoint) -> Unit:
    """The first shard of the training set."""
    fingerprint = shard_fingerprint(run.cache.fingerprints[checkpoint.name], TRAIN)
    path = run.inventory.layout.features(checkpoint.name, TRAIN, 0)
    return Unit(checkpoint, run.cache.train, run.inventory.shards(TRAIN)[0], path, fingerprint)


def _require_statistics(setup: FeatureSetup, inputs: RunInputs, layout: Layout) -> None:
    """Raise StoreError if a context or Adam scales would have to be computed, and stored, first."""
    wanted = []
    for checkpoint in inputs.checkpoints:
        if setup.task.context_rows(inputs.train.rows):
            wanted.append(layout.context(checkpoint.name))
        if setup.optimizer.scaled and not setup.optimizer.states:
            wanted.append(layout.scales(checkpoint.name))
    StoreError.raise_for(
        Problem(str(path), "no such file", "what trak featurize stores before its first shard", "run trak featurize again")
        for path in wanted
        if not path.exists()
    )


def with_checkpoints(inputs: RunInputs, inventory: Inventory) -> RunInputs:
    """The inputs with the checkpoints of the inventory only, and with its members, whatever members the config has.

    Raises:
        ConfigError: the config has no file for one of them.
    """
    known = {checkpoint.name: checkpoint for checkpoint in inputs.checkpoints}
    for name in leftover_members(inventory.checkpoints, list(known)):
        if (member := member_of(name)) is not None:
            known[name] = known[checkpoint_of(name)].derived(member)
    if absent := [name for name in inventory.checkpoints if name not in known]:
        found = f"no file of {listed(absent)}, whose features are averaged over"
        remedy = "name the files in checkpoints, or choose checkpoints with estimator.average_over"
        raise ConfigError(Problem("checkpoints", found, "the files of these checkpoints", remedy))
    checkpoints = [known[name] for name in inventory.checkpoints]
    if checkpoints[0] is not inputs.checkpoints[0]:
        inputs.components.models.load(checkpoints[0])
    return replace(inputs, checkpoints=checkpoints)
