"""``trak eval-lds``: measure how well scores predict the outputs of models retrained on random subsets."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap, Comparison, compare
from trak_cli.attribution.lds.datamodels import BASELINES, FOLDS, cross_fitted
from trak_cli.attribution.lds.lds import LdsResult, lds_of_predictions, streamed_predictions
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.stages.evaluation.foreign_scores import ForeignScores
from trak_cli.stages.evaluation.ground_truth import GroundTruth, evaluated_split, read_ground_truth
from trak_cli.stages.evaluation.lds_plot import draw, require_matplotlib
from trak_cli.stages.evaluation.summary import EvalSummary, ScoreSet
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.scoring.score_reader import no_scores, outdated_scores
from trak_cli.store.atomic_write import replace
from trak_cli.store.json_files import replace_json
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, score_blocks
from trak_cli.types import TRAIN, Float64, Reporter, plain


def eval_lds(loaded: Loaded, reporter: Reporter) -> EvalSummary:
    """Compute the LDS of the configured estimator, of ``lds.estimators``, and of ``lds.scores`` and ``lds.baselines``.

    Raises:
        ConfigError: ``lds.split`` is needed to choose between several target splits.
        InputError: the ground truth or a file of ``lds.scores`` does not fit the store.
        StoreError: scores are missing or outdated, or there are no retrained models.
        MachineError: ``lds.plot`` needs matplotlib.
    """
    config = loaded.config
    if config.lds.plot:
        require_matplotlib()
    use_threads(config.threads)
    layout = Layout(Path(config.store))
    split = evaluated_split(config, layout)
    targets, rows = rows_of(layout, split), rows_of(layout, TRAIN)
    truth = read_ground_truth(layout, config.lds.ground_truth, split, rows, targets)
    reporter.log(f"{len(truth.masks)} subsets of {rows} rows, {targets} targets, from {truth.source}{truth.note}")
    predictions, checkpoints = _predictions(config, layout, split, truth, reporter)
    results = {name: lds_of_predictions(sums, truth.outputs) for name, sums in predictions.items()}
    comparison = compare(predictions, truth.outputs, Bootstrap(config.lds.bootstrap, config.seed))
    ceiling = truth.ceiling
    summary = EvalSummary(
        layout.root,
        split,
        truth.source,
        targets,
        len(truth.masks),
        None if truth.by_model is None else truth.by_model.shape[1],
        ceiling,
        truth.no_ceiling(layout) if math.isnan(ceiling) else "",
        int(np.isnan(next(iter(results.values())).per_target).sum()),
        comparison.method,
        _score_sets(results, checkpoints, comparison),
        list(config.lds.baselines),
        [],
    )
    return _write(config, layout, summary)


def _predictions(
    config: TrakConfig, layout: Layout, split: str, truth: GroundTruth, reporter: Reporter
) -> tuple[dict[str, Float64], dict[str, int | None]]:
    """For every set of scores, its sums over the subsets (targets, subsets), and the number of checkpoints it averages.

    All missing sets are reported together.
    """
    targets, rows = truth.outputs.shape[1], truth.masks.shape[1]
    names = list(dict.fromkeys([*config.estimator.names, *config.lds.estimators]))
    predictions: dict[str, Float64] = {}
    checkpoints: dict[str, int | None] = {}
    problems: list[Problem] = []
    invalid: list[Problem] = []
    for name in names:
        path = layout.scores(name, split)
        if not path.exists():
            problems += no_scores(layout, name, split).problems
            continue
        reporter.log(f"reading {path}")
        scores = open_scores(path)
        if scores.shape != (targets, rows):
            problems += outdated_scores(path, scores.shape, (targets, rows)).problems
            continue
        predictions[name] = streamed_predictions(score_blocks(scores), truth.masks, targets)
        checkpoints[name] = len(scores.fingerprint["checkpoints"])
    foreign = ForeignScores(layout, split, targets, truth.masks, reporter)
    for name, file in config.lds.scores.items():
        try:
            predictions[name], checkpoints[name] = foreign.read(name, Path(file))
        except StoreError as error:
            problems += error.problems
        except InputError as error:
            invalid += error.problems
    for name in config.lds.baselines:
        reporter.log(f"fitting {name} to the ground truth in {FOLDS} folds; each subset is predicted from the other folds")
        predictions[name] = cross_fitted(BASELINES[name], truth.masks, truth.outputs, config.seed)
    if problems or invalid:
        raise (StoreError if problems else InputError)([*problems, *invalid])
    return predictions, checkpoints


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
        "subsets": summary.subsets,
        "models_per_subset": summary.models,
        "noise_ceiling": plain(summary.ceiling),
        "no_ceiling": summary.no_ceiling,
        "left_out": summary.left_out,
        "baselines": summary.baselines,
        "bootstrap": {"resamples": config.lds.bootstrap, "seed": config.seed, "method": summary.method},
        "scores": plain(summary.score_sets),
    }
    replace_json(report, document)
    files = [report]
    if config.lds.plot:
        replace(layout.lds_plot(summary.split), draw(summary))
        files.append(layout.lds_plot(summary.split))
    return dataclasses.replace(summary, files=files)
