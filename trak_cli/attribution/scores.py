"""From features to scores: the formula as it stands in :mod:`trak_cli.attribution.estimator.spec`, once plainly and once
streamed.

Scores are laid out (targets, training samples). A positive score says that training on sample i raises f on target j.
The out-to-loss gradients are averaged over checkpoints apart from the kernel, and then multiplied (TRAK, section 3.2,
step 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trak_cli.attribution.estimator.rows import norm_limit, training_rows, unit_rows
from trak_cli.attribution.estimator.shrinkage import believed, cosines
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows
from trak_cli.attribution.estimator.weights import Terms, weights_of
from trak_cli.attribution.linalg.gram import Gram
from trak_cli.attribution.linalg.spectrum import Spectrum, decompose, precondition
from trak_cli.errors import InputError, Problem
from trak_cli.types import Float32, Float64, FloatArray


@dataclass(frozen=True)
class TargetFactor:
    """The targets of one checkpoint, ready to be multiplied by training features.

    ``rows`` (t, k) float32 times ``scale`` (t, 1) is t_jᵀ A⁻¹. The scales keep float32 in range whatever the units of the
    gradients are: A⁻¹ grows with their inverse square. ``length`` (t, 1) is (t_jᵀ A⁻¹ t_j)^(1/2). ``limit`` is the length to
    which training features are clipped under this checkpoint. ``unit`` (t, k) are the t_j at unit length, where scores are
    shrunk.
    """

    rows: Float32
    scale: Float64
    length: Float64
    limit: float = math.inf
    unit: Float32 | None = None


def equalize(spec: EstimatorSpec, factors: Sequence[TargetFactor]) -> list[TargetFactor]:
    """The factors of the same targets under all checkpoints, where the spec wants it with targets of equal length."""
    if not spec.equal_targets:
        return list(factors)
    every = np.stack([factor.length for factor in factors])
    ratios = np.divide(every.mean(axis=0), every, out=np.ones_like(every), where=every > 0)
    return [replace(factor, scale=factor.scale * ratio) for factor, ratio in zip(factors, ratios, strict=True)]


def lengths_of(targets: Float64, preconditioned: Float64) -> Float64:
    """(t, 1) the length of every target in the metric of its scores, (t_jᵀ A⁻¹ t_j)^(1/2), from t_j and t_jᵀ A⁻¹."""
    squares: Float64 = np.einsum("tk,tk->t", targets, preconditioned)[:, None]
    lengths: Float64 = np.sqrt(squares.clip(min=0))
    return lengths


def front(spec: EstimatorSpec, out_to_loss: Sequence[FloatArray]) -> Float64:
    """The factor in front of each training sample: sign(q̄)|q̄|^a with q̄ the mean over checkpoints; (n,) each → (n,).

    With averaging "scores": sign(q)|q|^a of each checkpoint, (checkpoints, n).

    ``out_to_loss`` are the ratios that :class:`~trak_cli.attribution.estimator.weights.Weights` has for the front.

    With a = 0 the sign is left (it is 1 where q̄ is 0), so tasks whose q has one sign have no factor at all.
    """
    several = np.stack([q.astype(np.float64) for q in out_to_loss])
    mean = several if spec.averaging == "scores" else np.mean(several, axis=0)
    magnitude: Float64 = np.abs(mean) ** spec.front_exponent
    return np.where(mean < 0, -magnitude, magnitude)


def target_factor(
    spec: EstimatorSpec, targets: FloatArray, spectrum: Spectrum | None, ridge: float, limit: float = math.inf
) -> TargetFactor:
    """Prepare the targets (t, k) of one checkpoint; ``spectrum`` and ``ridge`` (λ itself) count for metric "gram" only.

    ``limit`` is the length to which training features are clipped (:func:`~trak_cli.attribution.estimator.rows.norm_limit`).

    Raises:
        ConfigError: when Gram + λI is singular.
    """
    given = targets.astype(np.float64)
    if spec.unit_norm:
        given = unit_rows(given)
    rows = given
    if spec.needs_gram:
        if spectrum is None:
            raise ValueError("metric 'gram' needs a spectrum")
        rows = precondition(spectrum, ridge, given)
    length = lengths_of(given, rows)
    _, exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0.0))
    scale = np.ldexp(1.0, exponents - 1)
    unit = unit_rows(given).astype(np.float32) if spec.shrinkage else None
    return TargetFactor((rows / scale).astype(np.float32), scale, length, limit, unit)


def score_block(spec: EstimatorSpec, targets: Iterable[TargetFactor], train: Iterable[Float32], front: Float64) -> Float32:
    """Scores of t targets on r training samples, (t, r) float32.

    Args:
        spec: the estimator.
        targets: one factor per checkpoint, as :func:`equalize` gives them.
        train: (r, k) features of the same checkpoints in the same order; taken one at a time, so a generator that reads
            them from disk keeps one in memory.
        front: (r,), or (checkpoints, r), what :func:`front` gives for these samples.

    Raises:
        InputError: when a score is too large for float32.
    """
    total: Float64 | None = None
    similarity: Float32 | None = None
    count = 0
    for factor, features in zip(targets, train, strict=True):
        kernel = factor.rows @ training_rows(spec, features, factor.limit).T
        scaled = np.multiply(kernel, factor.scale, dtype=np.float64)
        if front.ndim == 2:
            scaled *= front[count]
        total = scaled if total is None else np.add(total, scaled, out=total)
        if factor.unit is not None:
            alike = cosines(factor.unit, features)
            similarity = alike if similarity is None else np.add(similarity, alike, out=similarity)
        count += 1
    if total is None:
        raise ValueError("no checkpoint")
    total *= (1.0 if front.ndim == 2 else front) / count
    if similarity is not None:
        similarity /= count
        total *= believed(similarity, spec.shrinkage, count)
    if not np.abs(total).max(initial=0.0) <= np.finfo(np.float32).max:
        found = "a score that float32 cannot hold"
        raise InputError(Problem("estimator.ridge", found, "finite scores", "set a larger one, e.g. estimator.ridge=1x"))
    return total.astype(np.float32)


def scores(
    spec: EstimatorSpec,
    train: Sequence[FloatArray],
    out_to_loss: Sequence[FloatArray],
    targets: Sequence[FloatArray],
    outputs: Sequence[FloatArray] | None = None,
    terms: Sequence[Terms] | None = None,
) -> Float64:
    """The formula written out on whole matrices in float64, with a linear solve: the oracle, and enough for small data.

    Args:
        spec: the estimator.
        train: X_m (n, k) of each checkpoint.
        out_to_loss: q_m (n,) of each checkpoint.
        targets: T_m (t, k) of each checkpoint.
        outputs: f_m (n,) of each checkpoint; needed for weights "trajectory" only.
        terms: of each checkpoint, where f is a sum over terms.

    Returns:
        (t, n) scores.
    """
    kernels, fronts, lengths, similarities = [], [], [], []
    for m, (X32, q, T32) in enumerate(zip(train, out_to_loss, targets, strict=True)):
        X, T = X32.astype(np.float64), T32.astype(np.float64)
        similarities.append(unit_rows(T) @ unit_rows(X).T)
        X = training_rows(spec, X, norm_limit(spec, X))
        if spec.unit_norm:
            T = unit_rows(T)
        plain = T
        weights = weights_of(spec, X, q.astype(np.float64), None if outputs is None else outputs[m])
        if spec.needs_gram:
            rows, factors, n = X, weights.gram, float(len(X))
            of_terms = terms is not None and weights.of_terms
            if terms is not None and of_terms:
                rows, factors, n = terms[m].features.astype(np.float64), np.ones(len(X)), float(terms[m].counts.sum())
            gram = (rows.T * factors) @ rows
            ridge = spec.ridge_in(decompose(Gram(gram, round(n), float((rows * rows).sum()) / n, of_terms=of_terms)))
            T = np.linalg.solve(gram + ridge * np.eye(len(gram)), T.T).T.astype(np.float64)
        lengths.append(lengths_of(plain, T)[:, 0])
        kernels.append(T @ X.T)
        fronts.append(weights.front)
    if spec.equal_targets:
        for m, length in enumerate(lengths):
            size = np.where(length > 0, length, 1.0)
            kernels[m] = kernels[m] * (np.where(length > 0, np.mean(lengths, axis=0), 1.0) / size)[:, None]
    if spec.averaging == "scores":
        mean: Float64 = np.mean([kernel * front(spec, [q])[0] for kernel, q in zip(kernels, fronts, strict=True)], axis=0)
    else:
        mean = np.mean(kernels, axis=0) * front(spec, fronts)
    if spec.shrinkage:
        alike = np.abs(np.mean(similarities, axis=0))
        mean = mean * alike / (alike + spec.shrinkage / len(kernels) ** 0.5)
    if not spec.soft_threshold:
        return mean
    some = mean[:, reference_rows(mean.shape[1])]
    limits = np.quantile(np.abs(some), spec.soft_threshold, axis=1)[:, None]
    return np.where(mean > limits, mean - limits, np.where(mean < -limits, mean + limits, 0.0))
