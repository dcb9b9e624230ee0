"""From features to scores: the formula of :mod:`trak_cli.attribution.estimator.spec`, streamed.

Scores have the shape (targets, training samples). A positive score says that training on sample i raises f on target j. The
out-to-loss gradients are averaged over checkpoints separately from the kernel, and the two means are multiplied (Park et al.
2023, section 3.2, step 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from trak_cli.attribution.estimator.registry import lengths_of
from trak_cli.attribution.estimator.rows import clip_factors, float32_lengths, unit_rows
from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.errors import InputError, Problem
from trak_cli.types import Float32, Float64, FloatArray


@dataclass(frozen=True)
class TargetFactor:
    """The targets of one checkpoint, ready to be multiplied by training features.

    Attributes:
        stacked: ``rows``, and below them ``unit`` if scores are shrunk: one product with training features gives both.
        scale: (t, 1) float64.
        length: (t, 1) float64, (t_jᵀ B t_j)^(1/2).
        clip_threshold: the length to which training features are clipped under this checkpoint; infinite for none.
    """

    stacked: Float32
    scale: Float64
    length: Float64
    clip_threshold: float = math.inf

    @property
    def rows(self) -> Float32:
        """(t, k); ``rows`` times ``scale`` is B t_j.

        The separate scale keeps float32 in range for gradients of any unit: A⁻¹ grows with the inverse square of it.
        """
        return self.stacked[: len(self.scale)]

    @property
    def unit(self) -> Float32 | None:
        """(t, k), the t_j at unit length; None if scores are not shrunk."""
        return self.stacked[len(self.scale) :] if len(self.stacked) > len(self.scale) else None


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
    stacked = [rows / scale, unit_rows(features)] if spec.shrinkage else [rows / scale]
    return TargetFactor(np.concatenate(stacked, dtype=np.float32, casting="same_kind"), scale, length, clip_threshold)


class Products(NamedTuple):
    """Products of t targets with r training rows under one checkpoint.

    Attributes:
        kernel: (t, r) float32, of ``TargetFactor.rows``, before clipping.
        cosine: (t, r) float32; None if scores are not shrunk.
        clip: (r,) float64, the factors of clipping; None if no row is clipped.
    """

    kernel: Float32
    cosine: Float32 | None
    clip: Float64 | None


def score_block(
    spec: EstimatorSpec, targets: Sequence[TargetFactor], train: Iterable[Float32], sample_weight: Float64
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
    every = (products(spec, factor, features) for factor, features in zip(targets, train, strict=True))
    return combine(spec, targets, every, sample_weight)


def combine(spec: EstimatorSpec, targets: Iterable[TargetFactor], every: Iterable[Products], sample_weight: Float64) -> Float32:
    """Like :func:`score_block`, from the products under each checkpoint, which are changed in place."""
    total: Float64 | None = None
    similarity: Float32 | None = None
    per_checkpoint = sample_weight.ndim == 2
    count = 0
    for factor, (kernel, cosine, clip) in zip(targets, every, strict=True):
        scaled = kernel.astype(np.float64)
        scaled *= factor.scale
        if per_checkpoint:
            clip = sample_weight[count] * (1.0 if clip is None else clip)
        if clip is not None:
            scaled *= clip
        total = scaled if total is None else np.add(total, scaled, out=total)
        if cosine is not None:
            similarity = cosine if similarity is None else np.add(similarity, cosine, out=similarity)
        count += 1
    if total is None:
        raise ValueError("no checkpoint")
    total *= (1.0 if per_checkpoint else sample_weight) / count
    if similarity is not None:
        similarity /= count
        total *= shrinkage_factor(similarity, spec.shrinkage, count)
    with np.errstate(over="ignore"):
        scores = total.astype(np.float32)
    if not np.isfinite(scores).all():
        found = "a score that is too large for float32"
        raise InputError(Problem("estimator.ridge", found, "finite scores", "set a larger ridge, e.g. estimator.ridge=10"))
    return scores


def products(spec: EstimatorSpec, factor: TargetFactor, features: Float32) -> Products:
    """The products of targets with training rows (r, k)."""
    targets, unit = len(factor.scale), factor.unit
    if spec.unit_norm:
        features = unit_rows(features)
    if unit is None and math.isinf(factor.clip_threshold):
        return Products(factor.stacked @ features.T, None, None)
    lengths = float32_lengths(features)
    both = factor.stacked @ features.T
    cosine = None if unit is None else both[targets:]
    if cosine is not None:
        cosine /= np.where(lengths == 0, 1.0, lengths).astype(np.float32)
    clip = None if math.isinf(factor.clip_threshold) else clip_factors(lengths, factor.clip_threshold)
    return Products(both[:targets], cosine, clip)
