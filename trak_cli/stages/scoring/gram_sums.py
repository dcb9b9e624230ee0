"""Gram matrices and sample weights from the shards of a store, over all training rows or a range of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows
from trak_cli.attribution.estimator.simulated_training import SimulatedTraining, flow_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import ClassRows, CurvatureRows, Terms, add_rows, simulate_for, weigh
from trak_cli.attribution.linalg.gram import Gram, GramSum, PartialGram, merged
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.gram_store import Finalized
from trak_cli.store.shards import FeatureRows
from trak_cli.types import TRAIN, Float32, Rows


class Weighting(NamedTuple):
    """What is computed from a sample of the rows before the sums.

    Attributes:
        clip_threshold: the length to which features are clipped; infinite for none.
        training: the simulated training; None if the estimator has none.
    """

    clip_threshold: float
    training: SimulatedTraining | None


def curvature_rows(shard: FeatureRows) -> CurvatureRows:
    """The per-token terms or other classes of a shard's samples, or None."""
    if shard.term_features is not None and shard.terms is not None:
        return Terms(shard.term_features, shard.terms)
    if shard.class_features is not None and shard.residuals is not None:
        return ClassRows(shard.class_features, shard.residuals)
    return None


def estimate_weighting(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Weighting:
    """The weighting of an estimator under a checkpoint, from at most :data:`FLOW_ROWS` of the training rows."""
    if not (estimator.simulates_training or estimator.clip_norm):
        return Weighting(math.inf, None)
    wanted = flow_rows(inventory.rows)
    parts = []
    for shard in inventory.read_some(checkpoint, TRAIN, inventory.shards_with(TRAIN, wanted)):
        some = wanted[(wanted >= shard.rows.start) & (wanted < shard.rows.stop)] - shard.rows.start
        parts.append((shard.features[some], shard.out_to_loss[some], shard.outputs[some]))
    features, out_to_loss, outputs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    threshold = clip_threshold(estimator, features)
    features = training_rows(estimator, features, threshold)
    return Weighting(threshold, simulate_for(estimator, features, out_to_loss, outputs, inventory.rows))


def sum_rows(
    inventory: Inventory,
    estimator: EstimatorSpec,
    checkpoint: str,
    rows: Rows,
    weighting: Weighting,
    progress: Callable[[int], None],
) -> tuple[PartialGram, Float32]:
    """The Gram matrix of a range of training rows, and their (rows,) q."""
    total = GramSum(inventory.dim)
    sample_weights = []
    for shard in inventory.read_range(checkpoint, TRAIN, rows, with_curvature=estimator.uses_curvature):
        features = training_rows(estimator, shard.features, weighting.clip_threshold)
        curvature = curvature_rows(shard)
        weights = weigh(estimator, weighting.training, features, shard.out_to_loss, curvature)
        add_rows(total, features, weights, curvature, shard.outputs)
        sample_weights.append(weights.sample.astype(np.float32))
        progress(len(shard.rows))
    return total.partial(), np.concatenate(sample_weights)


def factorised(gram: Gram, q: Float32, estimator: EstimatorSpec, weighting: Weighting) -> Finalized:
    """What finalize stores, from the whole Gram matrix and the (n,) q of all training rows."""
    spectrum = decompose(gram)
    if not estimator.simulates_training:
        return Finalized(spectrum, clip_threshold=weighting.clip_threshold)
    if weighting.training is None:
        return Finalized(spectrum, q, clip_threshold=weighting.clip_threshold)
    return Finalized(spectrum, q, weighting.training.duration, weighting.training.arrived, weighting.clip_threshold)


def sum_gram(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, progress: Callable[[int], None]) -> Finalized:
    """The Gram matrix and the weights of one checkpoint, over all training rows at once."""
    weighting = estimate_weighting(inventory, estimator, checkpoint)
    part, q = sum_rows(inventory, estimator, checkpoint, Rows(0, inventory.rows), weighting, progress)
    return factorised(merged([part]), q, estimator, weighting)
