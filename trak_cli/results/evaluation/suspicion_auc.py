"""Mislabel detection: how well each criterion of ``trak suspects`` finds the flipped training samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trak_cli.attribution.metrics.detection import detection_auc, inspection_area
from trak_cli.results.evaluation.contract import Evaluated, Metric, single
from trak_cli.results.evaluation.row_files import read_flags
from trak_cli.results.suspicion.harm import harm_on
from trak_cli.results.suspicion.ranking import rank
from trak_cli.types import Float64


def mislabel_detection(evaluated: Evaluated, path: Path | Sequence[int]) -> list[Metric]:
    """The AUC of every criterion that the store can give, and the area under the curve of inspected samples."""
    rows = evaluated.scored.rows
    flags = read_flags("--flipped", path, rows)
    best = 1 - flags.mean() / 2 - 1 / (2 * flags.sum() * rows)
    of = (rows, "training samples")
    metrics = []
    for name, suspicion in _suspicions(evaluated).items():
        metrics.append(single(f"mislabel detection AUC: {name}", detection_auc(suspicion, flags), *of, 1.0))
        metrics.append(single(f"mislabel inspection area: {name}", inspection_area(suspicion, flags), *of, float(best)))
    return metrics


def _suspicions(evaluated: Evaluated) -> Mapping[str, Float64]:
    """Criterion -> suspicion of every training row; of scores that were not computed from features, the harm only."""
    if not evaluated.scored.from_features:
        return vars(harm_on(evaluated.scored))
    ranking = rank(evaluated.loaded, evaluated.reporter, evaluated.scored.split)
    return {name: ranking.suspicion(name) for name in ranking.values}
