"""The outputs of the model on chosen rows, as the features of a store hold them: f, and the probability of the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.results.scored import Scored
from trak_cli.stages.index.fingerprints import read_fingerprint
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import digest
from trak_cli.store.layout import Layout
from trak_cli.types import FloatArray, Json

#: Bytes of shards that are read at most, for each split; fewer checkpoints are averaged if they hold more.
READ_BYTES = 2 << 30

#: Largest difference between q and 1 / (1 + exp(f)) that makes f a log-odds.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Outputs:
    """Means over checkpoints, by row.

    Attributes:
        outputs: f.
        probabilities: of the label; empty if f is not the log-odds of a probability.
    """

    outputs: dict[int, float]
    probabilities: dict[int, float]


def scored_checkpoints(scored: Scored) -> dict[str, Json]:
    """The checkpoints of the store whose features the scores are made from, with their fingerprints; maybe none."""
    used = set(scored.fingerprint.get("checkpoints", ()))
    every = {name: read_fingerprint(scored.layout, name) for name in scored.layout.checkpoints()}
    return {name: fingerprint for name, fingerprint in every.items() if digest(fingerprint) in used}


def read_outputs(layout: Layout, checkpoints: Iterable[str], split: str, rows: Sequence[int]) -> Outputs:
    """f and probabilities of some rows of a split, the means over checkpoints. Empty if the store has no features of them.

    Raises:
        StoreError, MachineError: a shard is damaged or cannot be read.
    """
    plan = read_plan(layout)
    if plan is None or not rows:
        return Outputs({}, {})
    shards = sorted({row // plan.shard_rows for row in rows})
    wanted = np.array(sorted(set(rows)))
    found, total = [], 0
    for checkpoint in checkpoints:
        sizes = layout.feature_sizes(checkpoint, split)
        total += sum(sizes.get(shard, 0) for shard in shards)
        if not set(shards) <= set(sizes) or total > READ_BYTES:
            break
        images = [read_image(layout.features(checkpoint, split, shard), only=("outputs", "out_to_loss")) for shard in shards]
        places = np.searchsorted(shards, wanted // plan.shard_rows)
        inside = wanted % plan.shard_rows
        if any(row >= len(images[place].arrays["outputs"]) for place, row in zip(places, inside, strict=True)):
            break  # a row that was added since
        columns = [
            [images[place].arrays[name][row] for place, row in zip(places, inside, strict=True)]
            for name in ("outputs", "out_to_loss")
        ]
        found.append(np.array(columns, np.float64))
    return means(wanted.tolist(), np.stack(found)) if found else Outputs({}, {})


def means(rows: Sequence[int], columns: FloatArray) -> Outputs:
    """The means over checkpoints of (checkpoints, 2, rows): f and q of some rows."""
    f, q = columns[:, 0], columns[:, 1]
    of_f = dict(zip(rows, f.mean(axis=0).tolist(), strict=True))
    log_odds = np.abs(q - 1 / (1 + np.exp(np.clip(f, -80, 80)))).max() < _ROUNDING
    of_p = dict(zip(rows, (1 - q).mean(axis=0).tolist(), strict=True)) if log_odds else {}
    return Outputs(of_f, of_p)
