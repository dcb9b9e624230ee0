"""Attribution from retrained models alone: baselines that need many models, and no gradients.

- ``datamodel``: for each target, a ridge regression of the retrained output on the membership of samples in the subset
  (Ilyas et al. 2022, arXiv 2202.00622, with an L2 penalty instead of L1); λ is chosen by generalised cross-validation (Golub,
  Heath and Wahba 1979).
- ``empirical_influence``: the mean output of the models trained with sample i, minus that of the models trained without it
  (Feldman and Zhang 2020, arXiv 2008.03703, section 2).

Both learn from the outputs that the LDS is measured against. So they are cross-fitted: the prediction for a subset comes from a
fit to other subsets. Predictions are Σ_i β_i (w_i − mean w_i of the fitted subsets), without an intercept: the intercept
would reveal the mean of the fitted outputs, which is negatively correlated with the left-out output. If outputs are independent
of subsets, the LDS of a baseline is still slightly negative (−0.06 for ``datamodel`` with 60 subsets).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trak_cli.types import Float64, FloatArray, SubsetWeights

#: Number of folds of the subsets; each fold is predicted from a fit to all others.
FOLDS = 10

#: Candidates for λ, in units of the mean eigenvalue of the Gram matrix of the centred masks.
RIDGES = 10.0 ** np.arange(-3, 3.01, 0.25)

#: (weights (s, n), outputs (s, t), other weights (r, n)) -> predictions (t, r) for the others, from a fit to the first two.
Baseline = Callable[[SubsetWeights, FloatArray, SubsetWeights], Float64]


def cross_fitted(baseline: Baseline, weights: SubsetWeights, outputs: FloatArray, seed: int) -> Float64:
    """Predictions (t, s) float64 for every subset, each from a fit that leaves the subset out.

    Args:
        baseline: one of :data:`BASELINES`.
        weights: (s, n) bool, or float weights (``datamodel`` only).
        outputs: (s, t) outputs of the retrained models.
        seed: of the random folds.
    """
    order = np.random.default_rng(seed).permutation(len(weights))
    predictions = np.empty((outputs.shape[1], len(weights)))
    for left_out in np.array_split(order, min(FOLDS, len(weights))):
        fitted = np.setdiff1d(order, left_out)
        predictions[:, left_out] = baseline(weights[fitted], outputs[fitted], weights[left_out])
    return predictions


def datamodel(weights: SubsetWeights, outputs: FloatArray, others: SubsetWeights) -> Float64:
    """Ridge regression in its dual form, with one (s, s) eigendecomposition for all targets and all λ; see :data:`Baseline`."""
    mean = weights.mean(axis=0, dtype=np.float64)
    X, Z = weights - mean, others - mean
    values, vectors = np.linalg.eigh(X @ X.T)
    values = np.maximum(values, 0.0)
    y = vectors.T @ (outputs - outputs.mean(axis=0)).astype(np.float64)  # (s, t)
    unit = float(values.mean()) or 1.0
    errors = np.stack([_cross_validation(values, y, ridge * unit) for ridge in RIDGES])
    chosen = RIDGES[errors.argmin(axis=0)] * unit  # (t,)
    dual = vectors @ (y / (values[:, None] + chosen))
    predicted: Float64 = (Z @ X.T @ dual).T
    return predicted


def _cross_validation(values: Float64, y: Float64, ridge: float) -> Float64:
    """(t,) GCV = (‖(I − H) y‖² / s) / (tr(I − H) / s)² of every target; H includes the mean (one degree of freedom)."""
    left = ridge / (values + ridge)  # eigenvalues of I − H, before the mean
    count = len(values)
    error: Float64 = ((left[:, None] * y) ** 2).sum(axis=0) / count
    return error / (max(float(left.sum()) - 1.0, 1e-9) / count) ** 2


def empirical_influence(masks: SubsetWeights, outputs: FloatArray, others: SubsetWeights) -> Float64:
    """Differences of two means; a sample in all fitted subsets, or in none, has influence 0. See :data:`Baseline`.

    Weights must be bool.
    """
    inside = masks.sum(axis=0)
    outside = len(masks) - inside
    both = (inside > 0) & (outside > 0)
    weights = np.where(masks, 1.0 / np.maximum(inside, 1), -1.0 / np.maximum(outside, 1)) * both  # (s, n)
    predicted: Float64 = ((others - masks.mean(axis=0)) @ weights.T @ outputs.astype(np.float64)).T
    return predicted


#: Baselines that compare models with and without a sample, so that weights must be 0 or 1.
OF_SUBSETS = ("empirical_influence",)

BASELINES: dict[str, Baseline] = {"datamodel": datamodel, "empirical_influence": empirical_influence}
