"""Criteria from the features of the training set alone: loss, margin, self-influence and the residual when left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.left_out import LeftOut
from trak_cli.attribution.self_influence import SelfInfluence
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.block_scorer import CheckpointTargets
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.store.shards import FeatureShard
from trak_cli.types import TRAIN, Float64, FloatArray, Reporter


@dataclass(frozen=True)
class OwnCriteria:
    """(n,) float64 each, means over checkpoints.

    Attributes:
        loss: |q|: 1 − p for log-odds, the absolute residual for a squared loss.
        margin: f; None where q is not in [0, 1], because a small f is then no sign of a wrong label.
        self_influence: the score of each sample on itself.
        left_out: the residual of each sample in a regression without it (:mod:`trak_cli.attribution.left_out`).
    """

    loss: Float64
    margin: Float64 | None
    self_influence: Float64
    left_out: Float64


def own_criteria(inventory: Inventory, estimator: EstimatorSpec, reporter: Reporter) -> OwnCriteria:
    """Read the features twice, checkpoint by checkpoint and shard by shard.

    Memory: one shard, two k × k matrices, and some numbers for each training row. Time: O(n k² + k³) for each checkpoint.

    Raises:
        StoreError: features or Gram matrices are missing, damaged or another run's.
        ConfigError: a Gram matrix is singular with this ridge.
    """
    if estimator.needs_gram:
        require_grams(inventory, estimator)
    count = len(inventory.checkpoints)
    sums = SelfInfluence(estimator, inventory.rows, count)
    loss, margin, left_out = (np.zeros(inventory.rows) for _ in range(3))
    probabilities = True
    with reporter.meter("training samples", 2 * count * inventory.rows, "rows") as meter:
        for name in inventory.checkpoints:
            targets, regression = CheckpointTargets(inventory, estimator, name), LeftOut(inventory.dim)
            for shard in inventory.read_all(name, TRAIN):
                place = slice(shard.rows.start, shard.rows.stop)
                sums.add(shard.rows, shard.features, targets.factor(shard.features), _q(targets, shard))
                regression.add(shard.features, shard.out_to_loss, shard.outputs)
                loss[place] += np.abs(shard.out_to_loss)
                margin[place] += shard.outputs
                meter.advance(len(shard.rows))
            del targets  # its spectrum
            regression.solve()
            for shard in inventory.read_all(name, TRAIN):
                found = regression.residuals(shard.features, shard.out_to_loss, shard.outputs)
                left_out[shard.rows.start : shard.rows.stop] += found
                meter.advance(len(shard.rows))
            probabilities &= regression.probabilities
    return OwnCriteria(loss / count, margin / count if probabilities else None, sums.result(), left_out / count)


def _q(targets: CheckpointTargets, shard: FeatureShard) -> FloatArray:
    """The weights of the samples of a shard in their scores, before the exponent."""
    stored = targets.sample_weight
    return shard.out_to_loss if stored is None else stored[shard.rows.start : shard.rows.stop]
