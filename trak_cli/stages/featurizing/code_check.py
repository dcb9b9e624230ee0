"""Detects changes of plugin code, which no fingerprint contains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trak_cli.errors import Problem, StoreError
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.units import Unit
from trak_cli.stages.inputs.microbatches import Microbatch
from trak_cli.store.shards import Condition, inspect_features, read_features
from trak_cli.types import FloatArray

#: Allowed relative difference of a sample's features when they are computed again. Devices, batch sizes and dtypes cause far
#: smaller ones.
TOLERANCE = 0.1


def check_same_code(units: Sequence[Unit], featurizer: Featurizer) -> None:
    """Compute one sample of the first stored shard again and compare, before more shards are added.

    Args:
        units: the shards of the checkpoint that ``featurizer`` has loaded.

    Raises:
        StoreError: the sample's output or features have changed.
    """
    for unit in units:
        if inspect_features(unit.path, None, unit.fingerprint).condition is not Condition.WHOLE:
            continue
        shard = read_features(unit.path, with_curvature=False)
        row = shard.rows.start
        now = featurizer.columns(unit.split, Microbatch([row], unit.split.samples([row])))
        differences = {
            "features": _difference(now["features"], shard.features),
            "output": _difference(now["outputs"][:, None], shard.outputs[:, None]),
        }
        if max(differences.values()) > TOLERANCE:
            changes = ", ".join(f"{what} differ by {value:.0%}" for what, value in differences.items())
            found = f"sample {row} of {unit.split.name}, computed again: {changes}"
            expected = f"at most {TOLERANCE:.0%}: all shards of a store are made by the same code"
            remedy = "undo the change of model, task or dataset code, or use another store (name=NAME)"
            raise StoreError(Problem(str(unit.path), found, expected, remedy))
        return


def _difference(now: FloatArray, stored: FloatArray) -> float:
    """‖now − stored‖ / ‖stored‖ of the first row.

    The denominator is at least a tenth of the median over the rows: a row much shorter than the others is mostly rounding.
    """
    lengths = np.linalg.norm(stored.astype(np.float64), axis=1)
    scale = max(float(lengths[0]), 0.1 * float(np.median(lengths)), 1e-30)
    return float(np.linalg.norm(now[0].astype(np.float64) - stored[0])) / scale
