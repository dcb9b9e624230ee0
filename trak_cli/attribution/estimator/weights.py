"""The weight of every training sample under one checkpoint, in the Gram matrix and in its scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.attribution.estimator.simulated_training import SimulatedTraining, follows_log_loss, simulate, uniform_training
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.types import Float64, FloatArray


class Weights(NamedTuple):
    """The weights of r samples.

    Attributes:
        gram: (r,) float64 ≥ 0, the factor of x xᵀ in the Gram matrix.
        sample: (r,) float64, the q that is averaged over checkpoints and multiplies the scores of the sample.
        of_terms: the Gram matrix is over single terms, z zᵀ without weights, if samples have terms.
    """

    gram: Float64
    sample: Float64
    of_terms: bool = False


class Terms(NamedTuple):
    """Features of the single terms of r samples, if f is a sum over terms (tokens), f = Σ_t f_t.

    Attributes:
        features: (r, k) z, the features of Σ_t σ_t f_t with random signs σ: E[z zᵀ] = Σ_t g_t g_tᵀ, with g_t the features of
            f_t.
        counts: (r,) the number of terms of each sample.
    """

    features: FloatArray
    counts: FloatArray


class ClassRows(NamedTuple):
    """The other classes of r samples (:class:`trak_cli.gradients.transforms.other_classes.OtherClasses`).

    Attributes:
        features: (r, k) o, the features of a random combination of the other classes; E[w o oᵀ] is their part of the curvature
            if w is the weight of the sample.
        residuals: (r,) the mean of 1 − p of the label near the beginning of training.
    """

    features: FloatArray
    residuals: FloatArray


#: What training samples may have besides their features.
CurvatureRows = Terms | ClassRows | None


def weigh(
    spec: EstimatorSpec,
    training: SimulatedTraining | None,
    features: FloatArray,
    out_to_loss: FloatArray,
    curvature: CurvatureRows = None,
) -> Weights:
    """The weights of some samples.

    Args:
        spec: the estimator.
        training: the simulated training of the whole training set (:func:`simulate_for`); None if the estimator has none.
        features: (r, k) as the estimator uses them (:func:`~trak_cli.attribution.estimator.rows.training_rows`).
        out_to_loss: (r,) q at the checkpoint.
        curvature: as stored. With other classes, the weight is the geometric mean of the simulated q and the residuals: with
            many classes, the simulation alone makes weights too unequal (docs/all_classes.md).
    """
    q = out_to_loss.astype(np.float64)
    if not spec.simulates_training:
        return Weights(np.abs(q) ** spec.gram_exponent, q)
    if training is None:
        return Weights(np.ones(len(q)), q)
    mean_q = training.mean_q(features)
    if isinstance(curvature, ClassRows) and spec.uses_curvature and not training.uniform:
        mean_q = np.sqrt(mean_q * curvature.residuals)
    return Weights(mean_q**spec.gram_exponent, mean_q, is_over_terms(spec, training))


def is_over_terms(spec: EstimatorSpec, training: SimulatedTraining | None) -> bool:
    """Whether the Gram matrix is over single terms if samples have any: where q is a mean of probabilities over them."""
    return spec.uses_curvature and training is not None and training.uniform


def add_rows(
    total: GramSum, features: FloatArray, weights: Weights, curvature: CurvatureRows, outputs: FloatArray | None = None
) -> None:
    """Add some samples to a Gram matrix, in place: Σ z zᵀ over their terms, or Σ w x xᵀ over their ``features`` (r, k).

    With other classes, Σ w (x xᵀ + o oᵀ), if the estimator uses them (pass None otherwise).
    ``outputs`` (r,) are their f, which an automatic ridge needs if the Gram matrix is over samples.
    """
    if isinstance(curvature, Terms) and weights.of_terms:
        total.add(curvature.features, np.ones(len(features)), curvature.counts)
        return
    others = curvature.features if isinstance(curvature, ClassRows) else None
    total.add(features, weights.gram, outputs=outputs, others=others)


def simulate_for(
    spec: EstimatorSpec, features: FloatArray, out_to_loss: FloatArray, outputs: FloatArray, rows: int
) -> SimulatedTraining | None:
    """The simulated training that an estimator needs, or None.

    If q is not the sigmoid of −f but still within [0, 1] (a mean of probabilities, as for sums over tokens), all samples have
    the same weight, as at the very beginning of training, and the Gram matrix is over single terms if samples have any. If q is
    anything else (a residual), nothing can be simulated: samples then have the q of the checkpoint, and the Gram matrix has no
    weights.

    Args:
        spec: the estimator.
        features: (m, k), of the samples that :func:`flow_rows` names, as the estimator uses them.
        out_to_loss: (m,) q of the same samples.
        outputs: (m,) f of the same samples.
        rows: size of the training set.
    """
    if not spec.simulates_training:
        return None
    if follows_log_loss(outputs, out_to_loss):
        return simulate(features, outputs, rows)
    if ((out_to_loss >= 0) & (out_to_loss <= 1)).all():
        return uniform_training(features.shape[1])
    return None
