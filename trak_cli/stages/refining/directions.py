"""What the systems take from the Gram matrix of the estimator: weights of samples, and directions of the preconditioner.

The largest eigenvectors v of the Gram matrix are features, projected. Σ_i w_i (x_iᵀ v) g_i lifts them to the space of the
parameters, because a Gram matrix over samples times v is Σ_i w_i x_i (x_iᵀ v). Terms and other classes are not lifted: the
directions only precondition, so any will do.
"""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.estimator.rows import training_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.gram_store import Finalized
from trak_cli.types import TRAIN, Float32, evenly_spaced

#: Training rows, at most, whose gradients the directions are combinations of.
ROWS = 4096


def simulated_weights(found: Finalized) -> Float32 | None:
    """The weights of all training rows, (n,), if they come from a simulated training; None where nothing was simulated.

    Nothing is for a squared loss and for sums over tokens.
    """
    return found.sample_weight if found.duration > 0 else None


def combinations(
    inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, found: Finalized, rank: int
) -> dict[int, Float32]:
    """For some training rows, their factors in every direction, (r,) with r ≤ ``rank``, which is 1 or more."""
    vectors = found.spectrum.vectors[:, -rank:]
    wanted = evenly_spaced(inventory.rows, ROWS)
    factors: dict[int, Float32] = {}
    for index, rows in enumerate(inventory.shards(TRAIN)):
        some = wanted[(wanted >= rows.start) & (wanted < rows.stop)]
        if not len(some):
            continue
        shard = inventory.read(checkpoint, TRAIN, index)
        places = some - rows.start
        features = training_rows(estimator, shard.features[places], found.clip_threshold)
        q = shard.out_to_loss[places] if found.sample_weight is None else found.sample_weight[some]
        weights = np.abs(q.astype(np.float64)) ** estimator.gram_exponent
        products = (features.astype(np.float64) @ vectors) * weights[:, None]
        factors.update(zip(some.tolist(), products.astype(np.float32), strict=True))
    return factors
