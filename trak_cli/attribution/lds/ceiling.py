"""The noise ceiling of the LDS: what a perfect predictor would reach against a ground truth that is itself noisy."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.lds.ranks import row_blocks, unit_ranks
from trak_cli.types import FloatArray


def noise_ceiling(outputs: FloatArray) -> float:
    """The LDS of the true expected outputs against the mean output of a few models per subset, from how those models agree.

    With r the mean rank correlation over subsets between two models that were trained on the same subsets (mean over targets
    and pairs), the mean of m models has the reliability m r / (1 + (m − 1) r) (Spearman 1910, Brown 1910), and the
    correlation of what it estimates with it is the root of that. Targets that every subset gives the same output are left
    out. Rank correlations make this an approximation, good to a few hundredths.

    Args:
        outputs: (subsets, models, targets).

    Returns:
        The ceiling in [0, 1]; NaN with a single model per subset.
    """
    models = outputs.shape[1]
    if models < 2:
        return float("nan")
    agreement, pairs = 0.0, 0
    for targets in row_blocks(outputs.shape[2]):
        # Each model is ranked once: ‖Σ_m z_m‖² = Σ_m ‖z_m‖² + Σ_{a ≠ b} r_ab for ranks z of unit length.
        ranks = np.stack([unit_ranks(outputs[:, model, targets].T) for model in range(models)])
        counted = ranks.any(axis=2).sum(axis=0)
        agreement += float(np.square(ranks.sum(axis=0)).sum()) - int(counted.sum())
        pairs += int((counted * (counted - 1)).sum())
    if not pairs:
        return float("nan")
    r = max(agreement / pairs, 0.0)
    return float(np.sqrt(models * r / (1 + (models - 1) * r)))
