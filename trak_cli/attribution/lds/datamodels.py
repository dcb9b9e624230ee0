"""Attribution from retrained models alone: the baselines that need no gradients, and many models instead.

- ``datamodel``: for each target a ridge regression of the retrained output on which samples the subset has (Ilyas et al. 2022,
  arXiv 2202.00622, with L2 in place of their L1), λ by generalised cross-validation (Golub, Heath and Wahba 1979).
- ``empirical_influence``: mean output of the models that had sample i minus that of those that had not (Feldman and Zhang 2020,
  arXiv 2008.03703, section 2).

Both learn from the very outputs that an LDS is measured against. So they are cross-fitted: what is predicted for a subset
comes from other subsets only. Predictions are Σ_i w_i (mask_i − mean mask_i of the subsets that were fitted), without an
intercept, which would tell the mean of the others and so rank a left-out subset by what it lacks. Where outputs have nothing
to do with subsets, what comes out errs on the low side all the same (−.06 for ``datamodel`` with 60 subsets).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trak_cli.types import BoolArray, Float64, FloatArray

#: Parts into which subsets are divided; each is predicted from all others.
FOLDS = 10

#: λ of the regression in units of the mean eigenvalue of the centred masks' Gram matrix.
RIDGES = 10.0 ** np.arange(-3, 3.01, 0.25)

#: From masks (s, n) and outputs (s, t) that are fitted, and masks (r, n), predictions (t, r) for the latter.
Baseline = Callable[[BoolArray, FloatArray, BoolArray], Float64]


def cross_fitted(baseline: Baseline, masks: BoolArray, outputs: FloatArray, seed: int, folds: int = FOLDS) -> Float64:
    """Predictions (t, s) for ``masks`` (s, n) and ``outputs`` (s, t), each from a fit that has not seen the subset."""
    order = np.random.default_rng(seed).permutation(len(masks))
    found = np.empty((outputs.shape[1], len(masks)))
    for left_out in np.array_split(order, min(folds, len(masks))):
        fitted = np.setdiff1d(order, left_out)
        found[:, left_out] = baseline(masks[fitted], outputs[fitted], masks[left_out])
    return found


def datamodel(masks: BoolArray, outputs: FloatArray, others: BoolArray) -> Float64:
    """Ridge regression in its dual form: one eigendecomposition of (s, s) for all targets and every λ."""
    mean = masks.mean(axis=0)
    X, Z = masks - mean, others - mean
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
    """GCV = (‖(I − H) y‖² / s) / (tr(I − H) / s)² of every target; H includes the mean, which takes one direction."""
    left = ridge / (values + ridge)  # eigenvalues of I − H, before the mean
    count = len(values)
    error: Float64 = ((left[:, None] * y) ** 2).sum(axis=0) / count
    return error / (max(float(left.sum()) - 1.0, 1e-9) / count) ** 2


def empirical_influence(masks: BoolArray, outputs: FloatArray, others: BoolArray) -> Float64:
    """Differences of two means; a sample that every fitted subset has, or none, has influence 0."""
    inside = masks.sum(axis=0)
    outside = len(masks) - inside
    both = (inside > 0) & (outside > 0)
    weights = np.where(masks, 1.0 / np.maximum(inside, 1), -1.0 / np.maximum(outside, 1)) * both  # (s, n)
    predicted: Float64 = ((others - masks.mean(axis=0)) @ weights.T @ outputs.astype(np.float64)).T
    return predicted


BASELINES: dict[str, Baseline] = {"datamodel": datamodel, "empirical_influence": empirical_influence}
