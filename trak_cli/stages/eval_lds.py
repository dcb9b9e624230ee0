"""``trak eval-lds``: how well scores predict the outputs of models retrained on random subsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution import Bootstrap, Comparison, LdsResult, compare, lds_of_predictions, subset_predictions
from trak_cli.config import Loaded, TrakConfig
from trak_cli.errors import ConfigError, Problem, TrakError
from trak_cli.stages.ground_truth import GroundTruth, read_ground_truth
from trak_cli.stages.lds_plot import draw
from trak_cli.stages.machine import use_threads
from trak_cli.stages.parts import TRAIN
from trak_cli.stages.score_sets import dense_blocks, no_scores, read_foreign_scores
from trak_cli.stages.splits import rows_of
from trak_cli.store import Layout, replace, replace_json
from trak_cli.types import Float64, Reporter


@dataclass(frozen=True)
class Change:
    """Difference of two LDS on the same resamples: mean, 95% interval, two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class ScoreSet:
    """One set of scores: its LDS, 95% interval, and difference from the first set (None for the first itself)."""

    name: str
    lds: float
    low: float
    high: float
    difference: Change | None
    per_target: list[float]


@dataclass(frozen=True)
class EvalSummary:
    """Every set of scores, against one ground truth; ``left_out`` targets have constant outputs or predictions."""

    store: Path
    split: str
    ground_truth: Path
    targets: int
    subsets: int
    left_out: int
    method: str
    score_sets: list[ScoreSet]
    files: list[Path]


def eval_lds(loaded: Loaded, reporter: Reporter) -> EvalSummary:
    """LDS of the configured estimator, of ``lds.estimators`` and of the files in ``lds.scores``, side by side.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    layout = Layout(Path(config.store))
    split = config.lds.split or _only_target_split(layout)
    targets, rows = rows_of(layout, split), rows_of(layout, TRAIN)
    truth = read_ground_truth(layout, config.lds.ground_truth, split, rows, targets)
    reporter.log(f"{len(truth.masks)} subsets of {rows} rows, {targets} targets, from {truth.source}")
    predictions = _predictions(config, layout, split, truth, reporter)
    results = {name: lds_of_predictions(sums, truth.outputs) for name, sums in predictions.items()}
    comparison = compare(predictions, truth.outputs, Bootstrap(config.lds.bootstrap, config.lds.seed))
    summary = EvalSummary(
        layout.root,
        split,
        truth.source,
        targets,
        len(truth.masks),
        int(np.isnan(next(iter(results.values())).per_target).sum()),
        comparison.method,
        _score_sets(results, comparison),
        [],
    )
    return _write(config, layout, summary)
