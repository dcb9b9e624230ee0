"""Evaluations against retrained models: one sample left out, the highest scores left out, and flipped predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trak_cli.attribution.metrics.brittleness import smallest_flips
from trak_cli.attribution.metrics.correlations import leave_one_out_correlations
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.evaluation.contract import Evaluated, Metric, single
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.flips import open_search, stored_flips
from trak_cli.stages.evaluation.removals import RemovalOutputs, evaluate_removals, removal_outputs
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.stages.evaluation.sources import ScoredSplit
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.types import BoolArray, IntArray

#: The name of the metric, from a file and from models of the store.
BRITTLENESS = "brittleness (median smallest removal)"


def leave_one_out(evaluated: Evaluated, path: Path) -> list[Metric]:
    """The mean over targets of the correlation of scores with the effect of leaving samples out."""
    scored = evaluated.scored
    arrays = read_array_file(path, ("masks", "outputs"))
    masks, outputs = arrays["masks"], arrays["outputs"]
    where = f"--leave-one-out {path}"
    if outputs.ndim == 3:
        outputs = outputs.mean(axis=1)
    if masks.ndim != 2 or masks.shape[1] != scored.rows or outputs.shape != (len(masks), scored.targets):
        found = f"masks {masks.shape}, outputs {outputs.shape}"
        expected = f"(models, {scored.rows}) and (models, {scored.targets})"
        raise InputError(Problem(where, found, expected, "give the ground truth of this store and split"))
    if not ((masks != 0).sum(axis=1) == scored.rows - 1).all():
        found = "models that lack none or more than one training row"
        remedy = "use trak eval-lds lds.ground_truth for models of random subsets"
        raise InputError(Problem(where, found, "models that lack exactly one", remedy))
    if len(masks) < 3:
        raise InputError(
            Problem(where, counted(len(masks), "model"), "at least 3, to correlate over them", "leave out more samples")
        )
    left_out = (masks == 0).argmax(axis=1)
    rows = list(scored.target_rows)
    scores = np.empty((len(rows), len(left_out)), np.float32)
    for places, training, block in scored.pieces():
        inside = np.flatnonzero((left_out >= training.start) & (left_out < training.stop))
        scores[places.start : places.stop, inside] = block[:, left_out[inside] - training.start]
    return [evaluated.mean("leave-one-out correlation", leave_one_out_correlations(scores, outputs[:, rows]), rows)]


def counterfactual_removal(evaluated: Evaluated) -> list[Metric]:
    """The change of loss and output without the highest scores, and the share of predictions that it flips."""
    config, scored = evaluated.loaded.config, evaluated.scored
    if config.retrain.own_run is None:
        remedy = (
            "add retrain.same_seed=true, after trak retrain retrain.same_seed=true"
            f" 'retrain.remove_top=[{scored.estimator}]' lds.split={scored.split}"
        )
        raise ConfigError(Problem("--removal", "retrain.same_seed=false", "one run retrained with its own seed", remedy))
    split = ScoredSplit(scored.layout, scored.split, scored.targets, scored.rows)
    sources = split.open([scored.estimator], {}, evaluated.reporter)
    targets = EvaluatedTargets(tuple(sorted(scored.target_rows)), scored.group is not None)
    result = evaluate_removals(config, scored.layout, scored.split, sources, targets)
    flips = [] if targets.group else _smallest_flips(evaluated, sources[0], targets)
    if result is None and flips:
        return flips
    if result is None:
        where = f"models without the highest scores of {scored.estimator} on {scored.split}"
        remedy = f"run trak retrain retrain.same_seed=true 'retrain.remove_top=[{scored.estimator}]' lds.split={scored.split}"
        raise InputError(Problem("--removal", "none in the store", where, remedy))
    change, random = result.changes
    of = f"without the {result.removed} highest"
    metrics = [
        Metric(f"change of the loss {of} (QLD)", change.loss, result.targets, "targets", None),
        Metric(f"change of f {of}", change.output, result.targets, "targets", None),
        Metric(f"change of the loss without {result.removed} random", random.loss, result.targets, "targets", None),
    ]
    if targets.group:  # a mean of f is no prediction
        return metrics
    outputs = removal_outputs(config, scored.layout, scored.split, sources[0], targets)
    return [*metrics, *_flips(evaluated, outputs), *flips]


def _smallest_flips(evaluated: Evaluated, source: ScoreSource, targets: EvaluatedTargets) -> list[Metric]:
    """The smallest removals that ``retrain.flip_top`` has found; nothing if no target was searched."""
    config, scored = evaluated.loaded.config, evaluated.scored
    search = open_search(config, scored.layout, scored.split, source, targets)
    smallest = stored_flips(search)
    known = smallest[~np.isnan(smallest)]
    if not known.size:
        return []
    flipped = np.where(np.isnan(smallest), np.nan, np.isfinite(smallest))
    return [
        single(BRITTLENESS, float(np.median(known)), len(known), "targets", None),
        evaluated.mean(f"flipped predictions without up to {search.most} highest", flipped, list(targets.rows), None),
    ]


def _flips(evaluated: Evaluated, outputs: RemovalOutputs) -> list[Metric]:
    """The share of the targets with f > 0 whose f is at most 0 without their highest scores."""
    right = outputs.before > 0
    if not right.any():
        return []
    flipped = np.where(right, outputs.after <= 0, np.nan)
    return [evaluated.mean(f"flipped predictions without the {outputs.removed} highest", flipped, outputs.rows, None)]


def brittleness(evaluated: Evaluated, path: Path) -> list[Metric]:
    """The smallest removal that flips a prediction: its median over targets, and the share of targets that flip at all."""
    counts, flipped = _read_flips(path, evaluated.scored.targets)
    rows = list(evaluated.scored.target_rows)
    flipped = flipped[:, rows]
    smallest = smallest_flips(counts, flipped)
    metrics = [single(BRITTLENESS, float(np.median(smallest)), len(rows), "targets", None)]
    for count, one in zip(counts.tolist(), flipped, strict=True):
        metrics.append(evaluated.mean(f"flipped predictions without the {count} highest", one.astype(np.float64), rows, None))
    return metrics


def _read_flips(path: Path, targets: int) -> tuple[IntArray, BoolArray]:
    """The numbers of removed samples, ascending, and whether each target is flipped: (c,) and (c, targets)."""
    arrays = read_array_file(path, ("counts",), ("flipped", "outputs"))
    counts, where = arrays["counts"], f"--flips {path}"
    named = [name for name in ("flipped", "outputs") if name in arrays]
    if len(named) != 1:
        raise InputError(Problem(where, ", ".join(named) or "neither", "flipped or outputs", "save one of the two arrays"))
    values = arrays[named[0]]
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or len(np.unique(counts)) < len(counts) or (counts < 0).any():
        raise InputError(Problem(f"{where}: counts", f"{counts}", "different numbers of removed samples", "correct the file"))
    if values.shape != (len(counts), targets):
        found = f"{named[0]} of shape {values.shape}"
        raise InputError(Problem(where, found, f"(counts, targets) = ({len(counts)}, {targets})", "correct the file"))
    flipped = values <= 0 if named[0] == "outputs" else values.astype(np.bool_)
    order = np.argsort(counts)
    return counts[order].astype(np.int64), flipped[order]
