"""The noise ceiling of the LDS: the LDS that a perfect predictor reaches against a noisy ground truth."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.lds.ranks import row_blocks, unit_ranks
from trak_cli.types import FloatArray


def noise_ceiling(outputs: FloatArray) -> float:
    """Estimate the noise ceiling from the agreement between models that were trained on the same subset.

    It is the LDS of the expected outputs against the mean output of m models per subset.

    Let r be the mean rank correlation, over subsets, between two models trained on the same subsets (mean over targets and
    pairs of models). The mean of m models has the reliability m r / (1 + (m − 1) r) (Spearman 1910, Brown 1910), and its
    correlation with the expected output is the square root of that. Targets with the same output on every subset are left out.
    Because of the rank correlations, this is an approximation, accurate to a few hundredths.

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
