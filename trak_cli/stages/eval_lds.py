"""``trak eval-lds``: measure how well scores predict the outputs of models retrained on random subsets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap, Comparison, compare
from trak_cli.attribution.lds.datamodels import BASELINES, FOLDS, OF_SUBSETS, cross_fitted
from trak_cli.attribution.lds.lds import LdsResult, lds_of_predictions
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.ground_truth import GroundTruth, evaluated_split, read_ground_truth
from trak_cli.stages.evaluation.lds_plot import draw, require_matplotlib
from trak_cli.stages.evaluation.removals import evaluate_removals
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.stages.evaluation.sources import Problems, ScoredSplit
from trak_cli.stages.evaluation.summary import EvalSummary, ScoreSet
from trak_cli.stages.evaluation.target_choice import choose_targets
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.inputs.device import use_threads
from trak_cli.store.atomic_write import replace
from trak_cli.store.json_files import replace_json
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float64, Reporter, plain


def eval_lds(loaded: Loaded, reporter: Reporter) -> EvalSummary:
    """Compute the LDS of the configured estimator, of ``lds.estimators``, and of ``lds.scores`` and ``lds.baselines``.

    For models of the same seed, also the effect of removing the highest scores, if `trak retrain` has made such models.

    Raises:
        ConfigError: ``lds.split`` is needed to choose between several target splits; ``lds.targets`` has wrong rows.
        InputError: the ground truth or a file of ``lds.scores`` does not fit the store, or what is compared has other targets.
        StoreError: scores are missing or outdated, or there are no retrained models.
        MachineError: ``lds.plot`` needs matplotlib.
    """
    config = loaded.config
    if config.lds.plot:
        require_matplotlib()
    use_threads(config.threads)
    layout = Layout(Path(config.store))
    split = evaluated_split(config, layout)
    total, rows = rows_of(layout, split), rows_of(layout, TRAIN)
    truth = read_ground_truth(config, layout, split, rows, total)
    _require_masks(config, truth)
    names = list(dict.fromkeys([*config.estimator.names, *config.lds.estimators]))
    sources = ScoredSplit(layout, split, total, rows).open(names, config.lds.scores, reporter)
    targets = choose_targets(config.lds, split, total, sources)
    truth = truth.of(targets)
    reporter.log(
        f"{counted(len(truth.weights), 'subset')} of {counted(rows, 'row')},"
        f" {targets} of {split}, from {truth.source}{truth.note}"
    )
    predictions = _predictions(config, sources, targets, truth, reporter)
    results = {name: lds_of_predictions(sums, truth.outputs) for name, sums in predictions.items()}
    comparison = compare(predictions, truth.outputs, Bootstrap(config.lds.bootstrap, config.seed))
    checkpoints = {source.name: source.checkpoints for source in sources}
    ceiling = truth.ceiling
    summary = EvalSummary(
        layout.root,
        split,
        truth.source,
        len(targets.rows),
        targets.group,
        len(truth.weights),
        None if truth.by_model is None else truth.by_model.shape[1],
        truth.same_seed,
        ceiling,
        truth.no_ceiling(layout) if math.isnan(ceiling) else "",
        int(np.isnan(next(iter(results.values())).per_target).sum()),
        comparison.method,
        _score_sets(results, checkpoints, comparison),
        list(config.lds.baselines),
        evaluate_removals(config, layout, split, sources, targets),
        [],
    )
    return _write(config, layout, summary)


def _require_masks(config: TrakConfig, truth: GroundTruth) -> None:
    """Refuse baselines that need subsets where the ground truth has weights between 0 and 1."""
    needing = [name for name in config.lds.baselines if name in OF_SUBSETS]
    if needing and truth.weights.dtype != np.bool_:
        found = f"{', '.join(needing)}, while {truth.source} has weights other than 0 and 1"
        remedy = "leave it out; datamodel takes weights"
        raise InputError(Problem("lds.baselines", found, "a ground truth of subsets", remedy))


def _predictions(
    config: TrakConfig, sources: Sequence[ScoreSource], targets: EvaluatedTargets, truth: GroundTruth, reporter: Reporter
) -> dict[str, Float64]:
    """For every set of scores, its sums over the subsets (targets, subsets). All problems of files are reported together."""
    predictions: dict[str, Float64] = {}
    problems = Problems()
    for source in sources:
        reporter.log(f"reading {source.where}")
        with problems.collected():
            predictions[source.name] = source.sums(targets, truth.weights)
    problems.require_none()
    for name in config.lds.baselines:
        reporter.log(f"fitting {name} to the ground truth in {FOLDS} folds; each subset is predicted from the other folds")
        predictions[name] = cross_fitted(BASELINES[name], truth.weights, truth.outputs, config.seed)
    return predictions


def _score_sets(results: dict[str, LdsResult], checkpoints: dict[str, int | None], comparison: Comparison) -> list[ScoreSet]:
    reference = next(iter(results))
    differences = {
        difference.second: difference.reversed() for difference in comparison.differences if difference.first == reference
    }
    return [
        ScoreSet(name, checkpoints.get(name), comparison.sets[name], differences.get(name), result.per_target.tolist())
        for name, result in results.items()
    ]


def _write(config: TrakConfig, layout: Layout, summary: EvalSummary) -> EvalSummary:
    """Write the report (and the plot) of this evaluation; an earlier evaluation of the same split is replaced."""
    report = layout.lds_report(summary.split)
    document = {
        "ground_truth": str(summary.ground_truth),
        "targets": summary.targets,
        "group": summary.group,
        "subsets": summary.subsets,
        "models_per_subset": summary.models,
        "same_seed": summary.same_seed,
        "noise_ceiling": plain(summary.ceiling),
        "no_ceiling": summary.no_ceiling,
        "left_out": summary.left_out,
        "baselines": summary.baselines,
        "bootstrap": {"resamples": config.lds.bootstrap, "seed": config.seed, "method": summary.method},
        "scores": plain(summary.score_sets),
        "removal": plain(summary.removal),
    }
    replace_json(report, document)
    files = [report]
    if config.lds.plot:
        replace(layout.lds_plot(summary.split), draw(summary))
        files.append(layout.lds_plot(summary.split))
    return dataclasses.replace(summary, files=files)
