"""The formula of :mod:`trak_cli.attribution.estimator.spec` on whole matrices, in float64 and without streaming: the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trak_cli.attribution.estimator.registry import lengths_of
from trak_cli.attribution.estimator.rows import clip_threshold, training_rows, unit_rows
from trak_cli.attribution.estimator.simulated_training import flow_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows
from trak_cli.attribution.estimator.weights import ClassRows, CurvatureRows, Terms, Weights, simulate_for, weigh
from trak_cli.attribution.linalg.gram import Gram
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight
from trak_cli.types import Float64, FloatArray


def scores(
    spec: EstimatorSpec,
    train: Sequence[FloatArray],
    out_to_loss: Sequence[FloatArray],
    targets: Sequence[FloatArray],
    outputs: Sequence[FloatArray] | None = None,
    curvature: Sequence[CurvatureRows] | None = None,
) -> Float64:
    """The formula on whole matrices in float64, with a linear solve: without streaming.

    Args:
        spec: the estimator.
        train: X_m (n, k) of each checkpoint.
        out_to_loss: q_m (n,) of each checkpoint.
        targets: T_m (t, k) of each checkpoint.
        outputs: f_m (n,) of each checkpoint; required for weights "early_training" only.
        curvature: terms or other classes of each checkpoint, if the store has any.

    Returns:
        (t, n) float64 scores.

    Raises:
        ValueError: ``outputs`` are missing.
    """
    kernels, weights, lengths, similarities = [], [], [], []
    for m, (X32, q, T32) in enumerate(zip(train, out_to_loss, targets, strict=True)):
        X, T = X32.astype(np.float64), T32.astype(np.float64)
        similarities.append(unit_rows(T) @ unit_rows(X).T)
        X = training_rows(spec, X, clip_threshold(spec, X))
        if spec.unit_norm:
            T = unit_rows(T)
        rows = None if curvature is None or not spec.uses_curvature else curvature[m]
        weight = weights_of(spec, X, q.astype(np.float64), None if outputs is None else outputs[m], rows)
        gram = _gram(X, weight, rows)
        applied = _apply_metric(spec, T, gram, ridge_of(spec, X, weight.gram, gram, None if outputs is None else outputs[m]))
        lengths.append(lengths_of(T, applied)[:, 0])
        kernels.append(applied @ X.T)
        weights.append(weight.sample)
    if spec.normalize_targets:
        for m, length in enumerate(lengths):
            size = np.where(length > 0, length, 1.0)
            kernels[m] = kernels[m] * (np.where(length > 0, np.mean(lengths, axis=0), 1.0) / size)[:, None]
    if spec.averaging == "scores":
        products = [kernel * sample_weight(spec, [q])[0] for kernel, q in zip(kernels, weights, strict=True)]
        mean: Float64 = np.mean(products, axis=0)
    else:
        mean = np.mean(kernels, axis=0) * sample_weight(spec, weights)
    if spec.shrinkage:
        cosine = np.abs(np.mean(similarities, axis=0))
        mean = mean * cosine / (cosine + spec.shrinkage / len(kernels) ** 0.5)
    return _softened(mean, spec.soft_threshold) if spec.soft_threshold else mean


def _gram(X: Float64, weight: Weights, curvature: CurvatureRows) -> Gram:
    """The Gram matrix over samples X (n, k), over their terms, or with their other classes."""
    rows, factors, n = X, weight.gram, float(len(X))
    of_terms = isinstance(curvature, Terms) and weight.of_terms
    over = "terms" if of_terms else "samples"
    if isinstance(curvature, Terms) and of_terms:
        rows, factors, n = curvature.features.astype(np.float64), np.ones(len(X)), float(curvature.counts.sum())
    if isinstance(curvature, ClassRows):
        over = "classes"
        rows, factors = np.concatenate([X, curvature.features.astype(np.float64)]), np.concatenate([factors, factors])
    return Gram((rows.T * factors) @ rows, round(n), float((rows * rows).sum()) / n, over=over)


def ridge_of(spec: EstimatorSpec, X: Float64, weights: Float64, gram: Gram, outputs: FloatArray | None) -> float:
    """λ. If it must explain the outputs, it is found by regressions of all n outputs instead of in the eigenbasis."""
    if not spec.needs_gram:
        return 0.0
    rule = spec.ridge_rule(gram.over)
    most = replace(rule, explained=0.0).resolve(decompose(gram))
    if not rule.explained or outputs is None or gram.matrix is None:
        return most
    matrix, f = gram.matrix, outputs.astype(np.float64)
    f = f - np.average(f, weights=weights)

    def error(ridge: float) -> float:  # of a regression, if the Gram matrix is over the samples alone
        ridged, response = matrix + ridge * np.eye(len(matrix)), X.T @ (weights * f)
        v = np.linalg.lstsq(ridged, response, rcond=1e-13)[0]
        return float(weights @ f**2 - 2 * v @ response + v @ matrix @ v)

    least, whole = error(0.0), error(1e12 * most)

    def explains_enough(ridge: float) -> bool:
        return whole - error(ridge) >= rule.explained * (whole - least)

    if explains_enough(most):
        return most
    low, high = 1e-9 * most, most
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if explains_enough(middle) else (low, middle)
    return low


def _apply_metric(spec: EstimatorSpec, targets: Float64, gram: Gram, ridge: float) -> Float64:
    """B t_j, (t, k): for metric "gram" by a linear solve instead of the eigendecomposition."""
    if not spec.needs_gram:
        return spec.metric_rule.apply(targets, None, 0.0)
    spectrum = decompose(gram)
    if spec.metric != "gram" or gram.matrix is None:
        return spec.metric_rule.apply(targets, spectrum, ridge)
    return np.linalg.solve(gram.matrix + ridge * np.eye(len(gram.matrix)), targets.T).T.astype(np.float64)


def _softened(scores: Float64, share: float) -> Float64:
    limits = np.quantile(np.abs(scores[:, reference_rows(scores.shape[1])]), share, axis=1)[:, None]
    return np.where(scores > limits, scores - limits, np.where(scores < -limits, scores + limits, 0.0))


def weights_of(
    spec: EstimatorSpec,
    features: FloatArray,
    out_to_loss: FloatArray,
    outputs: FloatArray | None,
    curvature: CurvatureRows = None,
) -> Weights:
    """The weights of a whole training set in memory.

    Args:
        spec: the estimator.
        features: (n, k) as the estimator uses them.
        out_to_loss: (n,) q.
        outputs: (n,) f; required for weights "early_training" only.
        curvature: terms or other classes, if the store has any.

    Raises:
        ValueError: ``outputs`` is missing.
    """
    training = None
    if spec.simulates_training:
        if outputs is None:
            raise ValueError("weights 'early_training' need the outputs of the training samples")
        some = flow_rows(len(features))
        training = simulate_for(spec, features[some], out_to_loss[some], outputs[some], len(features))
    return weigh(spec, training, features, out_to_loss, curvature)
