"""The noise ceiling of the LDS: what a perfect predictor would reach against a ground truth that is itself noisy."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from trak_cli.attribution.ranks import spearman
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
    pairs = [spearman(outputs[:, a].T, outputs[:, b].T) for a, b in combinations(range(models), 2)]
    found = np.array(pairs)
    if not np.isfinite(found).any():
        return float("nan")
    r = max(float(np.nanmean(found)), 0.0)
    return float(np.sqrt(models * r / (1 + (models - 1) * r)))
