"""The outputs of the model on chosen rows, as the features of a store hold them: f, and the probability of the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from trak_cli.results.scored import Scored
from trak_cli.stages.index.fingerprints import read_fingerprint
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import digest
from trak_cli.store.layout import Layout
from trak_cli.store.shards import PREDICTED
from trak_cli.types import FloatArray, IntArray, Json

#: Bytes of shards that are read at most, for each split; fewer checkpoints are averaged if they hold more.
READ_BYTES = 2 << 30

#: Datasets of a shard that have features, and the small ones that are read.
_LARGE = [name for both in ("features", "term_features", "class_features") for name in (both, f"{both}_scale")]
_READ = ("outputs", "out_to_loss", *PREDICTED)

#: What stands for a predicted class that a shard does not have.
_UNKNOWN = np.array([-1.0])

#: Largest difference between two probabilities that are equal up to rounding.
_SAME = 1e-5

#: Largest difference between q and 1 / (1 + exp(f)) that makes f a log-odds.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Vote:
    """The class that most checkpoints predict for a row; of several, the one with the largest sum of probabilities.

    Attributes:
        probability: the mean over the checkpoints that predict it.
        correct: whether it is the class of the label; None if f is not the log-odds of the label.
    """

    number: int
    probability: float
    correct: bool | None


@dataclass(frozen=True)
class Outputs:
    """Means over checkpoints, by row.

    Attributes:
        outputs: f.
        probabilities: of the label; empty if f is not the log-odds of a probability.
        predicted: the class that the checkpoints predict, where the store has it.
    """

    outputs: dict[int, float]
    probabilities: dict[int, float]
    predicted: dict[int, Vote] = field(default_factory=dict)


def scored_checkpoints(scored: Scored) -> dict[str, Json]:
    """The checkpoints of the store whose features the scores are made from, with their fingerprints; maybe none."""
    used = set(scored.fingerprint.get("checkpoints", ()))
    every = {name: read_fingerprint(scored.layout, name) for name in scored.layout.checkpoints()}
    return {name: fingerprint for name, fingerprint in every.items() if digest(fingerprint) in used}


def read_outputs(
    layout: Layout, checkpoints: Iterable[str], split: str, rows: Sequence[int], most_bytes: int = READ_BYTES
) -> Outputs:
    """f, probabilities and predicted classes of some rows of a split, over checkpoints. Empty if the store has none of them.

    Args:
        most_bytes: of shards that are read; checkpoints beyond it are left out.

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
        if not set(shards) <= set(sizes) or total > most_bytes:
            break
        images = [read_image(layout.features(checkpoint, split, shard), skip=_LARGE).arrays for shard in shards]
        places = np.searchsorted(shards, wanted // plan.shard_rows)
        inside = wanted % plan.shard_rows
        if any(row >= len(images[place]["outputs"]) for place, row in zip(places, inside, strict=True)):
            break  # a row that was added since
        columns = [
            [
                images[place].get(name, _UNKNOWN)[row if name in images[place] else 0]
                for place, row in zip(places, inside, strict=True)
            ]
            for name in _READ
        ]
        found.append(np.array(columns, np.float64))
    return means(wanted.tolist(), np.stack(found)) if found else Outputs({}, {})


def means(rows: Sequence[int], columns: FloatArray) -> Outputs:
    """Over the checkpoints of (checkpoints, 2, rows), f and q of some rows; or (checkpoints, 4, rows), also predicted classes,
    −1 where there is none, and their probabilities."""
    f, q = columns[:, 0], columns[:, 1]
    of_f = dict(zip(rows, f.mean(axis=0).tolist(), strict=True))
    log_odds = bool(np.abs(q - 1 / (1 + np.exp(np.clip(f, -80, 80)))).max() < _ROUNDING)
    of_p = dict(zip(rows, (1 - q).mean(axis=0).tolist(), strict=True)) if log_odds else {}
    votes = {}
    if columns.shape[1] == len(_READ):
        for place, row in enumerate(rows):
            known = columns[columns[:, 2, place] >= 0, :, place]
            if len(known):
                votes[row] = _vote(known[:, 2].astype(int), known[:, 3], 1 - known[:, 1] if log_odds else None)
    return Outputs(of_f, of_p, votes)


def _vote(classes: IntArray, probabilities: FloatArray, of_label: FloatArray | None) -> Vote:
    """Of one row: the predicted class of each checkpoint, its probability, and that of the label if it is known."""
    shares = {number: probabilities[classes == number] for number in sorted(set(classes.tolist()))}
    number = max(shares, key=lambda one: (len(shares[one]), shares[one].sum()))
    if of_label is None:
        return Vote(number, float(shares[number].mean()), None)
    labels = classes[np.abs(of_label - probabilities) < _SAME]  # where the label is as probable as the predicted class
    return Vote(number, float(shares[number].mean()), bool(len(labels)) and number == int(labels[0]))
