"""Correlations of scores with other scores, and with models that lack one training sample."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.lds.ranks import rank_correlation, spearman
from trak_cli.types import Float64, FloatArray


def randomization_correlations(scores: FloatArray, randomized: FloatArray) -> Float64:
    """Spearman's correlation, for every target, between its scores and those of a model with random weights: (t,).

    Near 0 for scores that depend on what the model has learned: ``ModelRandomizationMetric`` of quanda (Adebayo et al. 2018,
    Hanawa et al. 2021). NaN where the scores of a target are constant.

    Args:
        scores, randomized: (t, n).
    """
    return spearman(scores, randomized)


def leave_one_out_correlations(scores: FloatArray, outputs: FloatArray) -> Float64:
    """Pearson's correlation, for every target, between the scores of samples and the effect of leaving them out: (t,).

    The effect of sample i on target j is −f(j; model without i), up to a constant of the target, which does not affect the
    correlation: ``loo_corr`` of dattri with the loss as its target function. NaN where either side is constant.

    Args:
        scores: (t, m) scores of the m samples that were left out.
        outputs: (m, t) outputs f of the models that lack one of them, in the same order.
    """
    x = scores - scores.mean(axis=1, keepdims=True, dtype=np.float64)
    y = outputs.mean(axis=0, dtype=np.float64)[:, None] - outputs.T
    return rank_correlation(x, y, np.ones(x.shape[1]))
