"""A run retrained without the training samples of the highest scores: ``retrain.remove_top``.

If scores are right, f of the target falls and its loss rises by more than without as many random samples. Each target, or the
group of targets, has a model of its own for every estimator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap
from trak_cli.attribution.lds.removal import MeanChange, mean_changes
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import Problem, StoreError
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.retrained_models import RetrainedModels, read_models, read_subsets
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.store.layout import Layout
from trak_cli.types import Float64, IntArray, Json, SubsetWeights


@dataclass(frozen=True)
class Removal:
    """The model of one target, or of the group.

    Attributes:
        path: its file.
        rows: the target, or those of the group, as rows of the split.
        left_out: the training rows that are left out, ascending.
        entry: the part of its fingerprint that names estimator and targets.
    """

    path: Path
    rows: tuple[int, ...]
    left_out: IntArray
    entry: Json = field(default_factory=dict)


@dataclass(frozen=True)
class RemovalResult:
    """What removing the highest scores changes.

    Attributes:
        targets: how many targets were evaluated.
        removed: how many training samples were left out for each.
        changes: of every set of scores whose models are stored, and of random removals at last.
        missing: sets of scores without such models.
    """

    targets: int
    removed: int
    changes: list[MeanChange]
    missing: list[str]


def removals(layout: Layout, run: int, split: str, source: ScoreSource, targets: EvaluatedTargets, count: int) -> list[Removal]:
    """The models without the ``count`` highest scores of every target, or of the group."""
    top = np.sort(source.top(targets, count), axis=1)
    groups = [targets.rows] if targets.group else [(row,) for row in targets.rows]
    result = []
    for rows, left_out in zip(groups, top, strict=True):
        entry = {"without_top_of": {"estimator": source.name, "split": split, "targets": list(rows), "group": targets.group}}
        name = _group_name(rows) if targets.group else f"{rows[0]:05}"
        result.append(Removal(layout.retrained_without(run, source.name, split, name), rows, left_out, entry))
    return result


def evaluate_removals(
    config: TrakConfig, layout: Layout, split: str, sources: Sequence[ScoreSource], targets: EvaluatedTargets
) -> RemovalResult | None:
    """The mean changes of loss and output when the highest scores are removed; None if no such models are stored.

    Sets of scores are compared on the targets for which all of them have models.

    Raises:
        StoreError: a model was made from other scores; or the full run, which changes are measured against, is missing.
    """
    run = config.retrain.own_run
    if run is None or config.lds.ground_truth is not None:
        return None
    stored = {source.name: _stored_rows(layout, run, split, source.name, targets) for source in sources}
    common = [row for row in targets.rows if all(row in rows for rows in stored.values() if rows)]
    missing = [name for name, rows in stored.items() if not rows]
    if len(missing) == len(sources) or not common:
        return None
    evaluated = EvaluatedTargets(tuple(common), targets.group)
    full = _require_full(layout, run, split)
    subsets = read_subsets(layout, run, split)
    removed = int((subsets.weights[0] == 0).sum())
    losses, outputs = {}, {}
    for source in sources:
        if source.name not in missing:
            models = _read_removals(layout, run, split, source, evaluated, removed)
            losses[source.name], outputs[source.name] = _changes(full, models, evaluated)
    random = [_all_changes(full, subsets, evaluated, values) for values in ("losses", "outputs")]
    changes = mean_changes(losses, outputs, (random[0], random[1]), Bootstrap(config.lds.bootstrap, config.seed))
    return RemovalResult(len(common), removed, changes, missing)


@dataclass(frozen=True)
class RemovalOutputs:
    """f of targets under the full run, and under the run without their highest scores.

    Attributes:
        rows: the targets, as rows of the split.
        removed: how many training samples were left out for each.
        before, after: (t,) means over models.
    """

    rows: tuple[int, ...]
    removed: int
    before: Float64
    after: Float64


def removal_outputs(
    config: TrakConfig, layout: Layout, split: str, source: ScoreSource, targets: EvaluatedTargets
) -> RemovalOutputs:
    """The outputs of the targets whose models are stored, one by one.

    Raises:
        StoreError: a model was made from other scores; or the full run is missing.
    """
    run = config.retrain.run
    stored = _stored_rows(layout, run, split, source.name, targets)
    evaluated = EvaluatedTargets(tuple(row for row in targets.rows if row in stored), targets.group)
    removed = int((read_subsets(layout, run, split).weights[0] == 0).sum())
    models = _read_removals(layout, run, split, source, evaluated, removed)
    before, after = (
        evaluated.columns(one.outputs.astype(np.float64)).mean(axis=1) for one in (_require_full(layout, run, split), models)
    )
    own = np.arange(evaluated.count)
    return RemovalOutputs(evaluated.rows, removed, before[0], after[own, own])


def _stored_rows(layout: Layout, run: int, split: str, name: str, targets: EvaluatedTargets) -> set[int]:
    """The evaluated targets whose model is stored."""
    if targets.group:
        path = layout.retrained_without(run, name, split, _group_name(targets.rows))
        return set(targets.rows) if path.exists() else set()
    return {row for row in targets.rows if layout.retrained_without(run, name, split, f"{row:05}").exists()}


def _read_removals(
    layout: Layout, run: int, split: str, source: ScoreSource, targets: EvaluatedTargets, count: int
) -> RetrainedModels:
    """The stored models of :func:`removals`.

    Raises:
        StoreError: one of them was made from other scores.
    """
    files = removals(layout, run, split, source, targets, count)
    models = read_models([file.path for file in files], split)
    for file, weights in zip(files, models.weights, strict=True):
        require_top(file.path, weights, file.left_out)
    return models


def _group_name(rows: Sequence[int]) -> str:
    return f"group_{hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()[:8]}"


def _require_full(layout: Layout, run: int, split: str) -> RetrainedModels:
    path = layout.retrained_full(run)
    if not path.exists():
        remedy = f"run trak retrain retrain.same_seed=true retrain.run={run}"
        raise StoreError(Problem(str(path), "no such file", "the run with all weights 1, which changes refer to", remedy))
    return read_models([path], split)


def require_top(path: Path, weights: SubsetWeights, left_out: IntArray) -> None:
    """Check that a stored model lacks the samples that have the highest scores now.

    Raises:
        StoreError: it was made from other scores.
    """
    if not np.array_equal(np.flatnonzero(weights == 0), left_out):
        found = "a model without other samples than those of the highest scores now"
        remedy = f"remove {path.parent}, and run trak retrain again"
        raise StoreError(Problem(str(path), found, "a model made from the present scores", remedy))


def _changes(full: RetrainedModels, models: RetrainedModels, targets: EvaluatedTargets) -> tuple[Float64, Float64]:
    """Changes (t,) of the loss and of the output of every target under its own model."""
    own = np.arange(targets.count)
    losses, outputs = (_all_changes(full, models, targets, values) for values in ("losses", "outputs"))
    return losses[own, own], outputs[own, own]


def _all_changes(full: RetrainedModels, models: RetrainedModels, targets: EvaluatedTargets, values: str) -> Float64:
    """Changes (files, t) against the full run, the mean over models."""
    before, after = getattr(full, values), getattr(models, values)
    changes: Float64 = targets.columns(after.astype(np.float64) - before.astype(np.float64)).mean(axis=1)
    return changes
