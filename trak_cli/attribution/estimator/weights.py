"""The weight of every training sample under one checkpoint, in the Gram and in front of the kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.attribution.estimator.simulated_training import Trajectory, beginning, flow_rows, follows_log_loss, simulate
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.types import Float64, FloatArray


class Weights(NamedTuple):
    """For r samples: what they count for.

    Attributes:
        gram: (r,) ≥ 0, the factor of x xᵀ.
        front: (r,), the ratio that is averaged over checkpoints.
        of_terms: the Gram matrix is over single terms, z zᵀ without a weight, where samples have terms.
    """

    gram: Float64
    front: Float64
    of_terms: bool = False


def weigh(spec: EstimatorSpec, trajectory: Trajectory | None, features: FloatArray, out_to_loss: FloatArray) -> Weights:
    """Weights of some samples, from the trajectory of the training set where the estimator has one.

    Args:
        trajectory: None for weights "final", and where q does not follow from f.
        features: (r, k) as the estimator takes them (of unit length where it wants that).
        out_to_loss: (r,) q at the checkpoint.
    """
    q = out_to_loss.astype(np.float64)
    if not spec.follows_training:
        return Weights(np.abs(q) ** spec.gram_exponent, q)
    if trajectory is None:
        return Weights(np.ones(len(q)), q)
    ratio = trajectory.mean_ratio(features)
    return Weights(ratio**spec.gram_exponent, ratio, over_terms(spec, trajectory))


class Terms(NamedTuple):
    """What r samples have beside their features where f is a sum over terms, f = Σ_t f_t.

    Attributes:
        features: (r, k) z, features of Σ_t σ_t f_t with random signs σ: E[z zᵀ] = Σ_t g_t g_tᵀ, g_t the features of f_t.
        counts: (r,) how many terms each sample has.
    """

    features: FloatArray
    counts: FloatArray


def over_terms(spec: EstimatorSpec, trajectory: Trajectory | None) -> bool:
    """Whether the Gram matrix is over single terms where samples have such: where q is a mean of probabilities over them."""
    return spec.takes_terms and trajectory is not None and trajectory.alike


def add_rows(total: GramSum, features: FloatArray, weights: Weights, terms: Terms | None) -> None:
    """Add some samples to a Gram matrix: Σ z zᵀ where it is over terms and there are such, else Σ w x xᵀ of ``features``."""
    if terms is not None and weights.of_terms:
        total.add(terms.features, np.ones(len(features)), terms.counts)
    else:
        total.add(features, weights.gram)


def trajectory_of(
    spec: EstimatorSpec, features: FloatArray, out_to_loss: FloatArray, outputs: FloatArray, rows: int
) -> Trajectory | None:
    """The trajectory of a training set of ``rows`` samples, from those that ``flow_rows`` names.

    Where q is not the sigmoid of −f but a mean of probabilities all the same (within [0, 1]: sums over tokens), it is the very
    beginning, where all samples weigh alike, and the Gram is over single terms where samples have such. Where q is anything
    else (a residual), there is none: the front then has the final q, and the Gram no weights.
    """
    if not spec.follows_training:
        return None
    if follows_log_loss(outputs, out_to_loss):
        return simulate(features, outputs, rows)
    if ((out_to_loss >= 0) & (out_to_loss <= 1)).all():
        return beginning(features.shape[1])
    return None


def weights_of(spec: EstimatorSpec, features: FloatArray, out_to_loss: FloatArray, outputs: FloatArray | None) -> Weights:
    """Weights of a whole training set in memory."""
    trajectory = None
    if spec.follows_training:
        if outputs is None:
            raise ValueError("weights 'trajectory' need the outputs of the training samples")
        some = flow_rows(len(features))
        trajectory = trajectory_of(spec, features[some], out_to_loss[some], outputs[some], len(features))
    return weigh(spec, trajectory, features, out_to_loss)
