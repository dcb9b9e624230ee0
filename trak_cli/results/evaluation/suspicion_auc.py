"""Mislabel detection: how well each criterion of ``trak suspects`` finds the flipped training samples."""

from __future__ import annotations

from pathlib import Path

from trak_cli.attribution.metrics.detection import detection_auc, inspection_area
from trak_cli.results.evaluation.contract import Evaluated, Metric, single
from trak_cli.results.evaluation.row_files import read_flags
from trak_cli.results.suspects import rank


def mislabel_detection(evaluated: Evaluated, path: Path) -> list[Metric]:
    """The AUC of every criterion that the store can give, and the area under the curve of inspected samples."""
    ranking = rank(evaluated.loaded, evaluated.reporter, evaluated.scored.split)
    flags = read_flags("--flipped", path, ranking.rows)
    best = 1 - flags.mean() / 2 - 1 / (2 * flags.sum() * ranking.rows)
    metrics = []
    for name in ranking.values:
        suspicion = ranking.suspicion(name)
        metrics.append(
            single(f"mislabel detection AUC: {name}", detection_auc(suspicion, flags), ranking.rows, "training samples", 1)
        )
        area = inspection_area(suspicion, flags)
        metrics.append(single(f"mislabel inspection area: {name}", area, ranking.rows, "training samples", float(best)))
    return metrics
