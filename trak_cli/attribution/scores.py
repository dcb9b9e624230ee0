"""From features to scores: the formula of :mod:`trak_cli.attribution.estimator.spec`, written out once and streamed once.

Scores have the shape (targets, training samples). A positive score says that training on sample i raises f on target j. The
out-to-loss gradients are averaged over checkpoints separately from the kernel, and the two means are multiplied (Park et al.
2023, section 3.2, step 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trak_cli.attribution.estimator.registry import lengths_of
from trak_cli.attribution.estimator.rows import clip_threshold, training_rows, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows
from trak_cli.attribution.estimator.weights import Terms, Weights, weights_of
from trak_cli.attribution.linalg.gram import Gram
from trak_cli.attribution.linalg.spectrum import Spectrum, decompose
from trak_cli.errors import InputError, Problem
from trak_cli.types import Float32, Float64, FloatArray


@dataclass(frozen=True)
class TargetFactor:
    """The targets of one checkpoint, ready to be multiplied by training features.

    Attributes:
        rows: (t, k) float32; ``rows`` times ``scale`` is B t_j. The separate scale keeps float32 in range for gradients of any
            unit: A⁻¹ grows with the inverse square of it.
        scale: (t, 1) float64.
        length: (t, 1) float64, (t_jᵀ B t_j)^(1/2).
        clip_threshold: the length to which training features are clipped under this checkpoint; infinite for none.
        unit: (t, k) float32, the t_j at unit length, if scores are shrunk.
    """

    rows: Float32
    scale: Float64
    length: Float64
    clip_threshold: float = math.inf
    unit: Float32 | None = None


def normalize_targets(spec: EstimatorSpec, factors: Sequence[TargetFactor]) -> list[TargetFactor]:
    """The factors of the same targets under all checkpoints, at equal length if the estimator normalises targets."""
    if not spec.normalize_targets:
        return list(factors)
    lengths = np.stack([factor.length for factor in factors])
    ratios = np.divide(lengths.mean(axis=0), lengths, out=np.ones_like(lengths), where=lengths > 0)
    return [replace(factor, scale=factor.scale * ratio) for factor, ratio in zip(factors, ratios, strict=True)]


def sample_weight(spec: EstimatorSpec, out_to_loss: Sequence[FloatArray]) -> Float64:
    """The factor of the scores of each training sample, sign(q̄)|q̄|^a with q̄ the mean over checkpoints.

    With a = 0 only the sign remains (1 where q̄ is 0), so tasks whose q never changes sign have no factor at all.

    Args:
        spec: the estimator; its ``weight_exponent`` is a.
        out_to_loss: for each checkpoint, (n,) the q of :attr:`Weights.sample`.

    Returns:
        (n,) float64; with averaging "scores" (checkpoints, n), the factor of each checkpoint.
    """
    several = np.stack([q.astype(np.float64) for q in out_to_loss])
    mean = several if spec.averaging == "scores" else np.mean(several, axis=0)
    magnitude: Float64 = np.abs(mean) ** spec.weight_exponent
    return np.where(mean < 0, -magnitude, magnitude)


def target_factor(
    spec: EstimatorSpec, targets: FloatArray, spectrum: Spectrum | None, ridge: float, clip_threshold: float = math.inf
) -> TargetFactor:
    """Prepare the targets of one checkpoint.

    Args:
        spec: the estimator.
        targets: (t, k) features, any floating dtype.
        spectrum: of the Gram matrix; None for a metric that needs none.
        ridge: λ itself; ignored by a metric that needs no Gram matrix.
        clip_threshold: the result of :func:`~trak_cli.attribution.estimator.rows.clip_threshold`.

    Raises:
        ConfigError: Gram + λI is singular.
    """
    features = targets.astype(np.float64)
    if spec.unit_norm:
        features = unit_rows(features)
    rows = spec.metric_rule.apply(features, spectrum, ridge)
    length = lengths_of(features, rows)
    _, exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0.0))
    scale = np.ldexp(1.0, exponents - 1)
    unit = unit_rows(features).astype(np.float32) if spec.shrinkage else None
    return TargetFactor((rows / scale).astype(np.float32), scale, length, clip_threshold, unit)


def score_block(
    spec: EstimatorSpec, targets: Iterable[TargetFactor], train: Iterable[Float32], sample_weight: Float64
) -> Float32:
    """Scores of t targets on r training samples, (t, r) float32, before any soft threshold.

    Args:
        spec: the estimator.
        targets: one factor per checkpoint, as :func:`normalize_targets` returns them.
        train: (r, k) features of the same checkpoints in the same order. They are taken one at a time, so that a generator that
            reads them from disk keeps one in memory.
        sample_weight: (r,), or (checkpoints, r), the result of :func:`sample_weight` for these samples.

    Raises:
        InputError: a score is too large for float32.
    """
    total: Float64 | None = None
    similarity: Float32 | None = None
    per_checkpoint = sample_weight.ndim == 2
    count = 0
    for factor, features in zip(targets, train, strict=True):
        kernel = factor.rows @ training_rows(spec, features, factor.clip_threshold).T
        scaled = np.multiply(kernel, factor.scale, dtype=np.float64)
        if per_checkpoint:
            scaled *= sample_weight[count]
        total = scaled if total is None else np.add(total, scaled, out=total)
        if factor.unit is not None:
            cosine = cosines(factor.unit, features)
            similarity = cosine if similarity is None else np.add(similarity, cosine, out=similarity)
        count += 1
    if total is None:
        raise ValueError("no checkpoint")
    total *= (1.0 if per_checkpoint else sample_weight) / count
    if similarity is not None:
        similarity /= count
        total *= shrinkage_factor(similarity, spec.shrinkage, count)
    if not np.abs(total).max(initial=0.0) <= np.finfo(np.float32).max:
        found = "a score that is too large for float32"
        raise InputError(Problem("estimator.ridge", found, "finite scores", "set a larger ridge, e.g. estimator.ridge=10"))
    return total.astype(np.float32)


def scores(
    spec: EstimatorSpec,
    train: Sequence[FloatArray],
    out_to_loss: Sequence[FloatArray],
    targets: Sequence[FloatArray],
    outputs: Sequence[FloatArray] | None = None,
    terms: Sequence[Terms] | None = None,
) -> Float64:
    """The formula on whole matrices in float64, with a linear solve: the reference for tests, and sufficient for small data.

    Args:
        spec: the estimator.
        train: X_m (n, k) of each checkpoint.
        out_to_loss: q_m (n,) of each checkpoint.
        targets: T_m (t, k) of each checkpoint.
        outputs: f_m (n,) of each checkpoint; required for weights "early_training" only.
        terms: of each checkpoint, if f is a sum over terms.

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
        weight = weights_of(spec, X, q.astype(np.float64), None if outputs is None else outputs[m])
        applied = _apply_metric(spec, T, _gram(X, weight, None if terms is None else terms[m]))
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


def _gram(X: Float64, weight: Weights, terms: Terms | None) -> Gram:
    """The Gram matrix over samples X (n, k), or over their terms."""
    rows, factors, n = X, weight.gram, float(len(X))
    of_terms = terms is not None and weight.of_terms
    if terms is not None and of_terms:
        rows, factors, n = terms.features.astype(np.float64), np.ones(len(X)), float(terms.counts.sum())
    return Gram((rows.T * factors) @ rows, round(n), float((rows * rows).sum()) / n, of_terms=of_terms)


def _apply_metric(spec: EstimatorSpec, targets: Float64, gram: Gram) -> Float64:
    """B t_j, (t, k): for metric "gram" by a linear solve instead of the eigendecomposition."""
    if not spec.needs_gram:
        return spec.metric_rule.apply(targets, None, 0.0)
    spectrum = decompose(gram)
    ridge = spec.ridge_in(spectrum)
    if spec.metric != "gram" or gram.matrix is None:
        return spec.metric_rule.apply(targets, spectrum, ridge)
    return np.linalg.solve(gram.matrix + ridge * np.eye(len(gram.matrix)), targets.T).T.astype(np.float64)


def _softened(scores: Float64, share: float) -> Float64:
    limits = np.quantile(np.abs(scores[:, reference_rows(scores.shape[1])]), share, axis=1)[:, None]
    return np.where(scores > limits, scores - limits, np.where(scores < -limits, scores + limits, 0.0))
