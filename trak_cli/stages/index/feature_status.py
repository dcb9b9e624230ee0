"""How many feature shards of a split are stored under a checkpoint: by names and sizes, or with every digest checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trak_cli.store.header import LEAST_BYTES
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Json, Rows


@dataclass(frozen=True)
class FeatureStatus:
    """Feature shards of one split under one checkpoint.

    Attributes:
        rows: rows of the split.
        shards: number of shards of the split.
        done: complete shards.
        missing: shards that are not there or hold too few rows (after rows were appended); without verification also
            files that are too small for their rows.
        damaged: shards with changed bytes; without verification files that are too small for any shard.
        foreign: shards of another run; None without verification.
    """

    checkpoint: str
    split: str
    rows: int
    shards: int
    done: int
    missing: int
    damaged: int
    foreign: int | None


def list_features(layout: Layout, checkpoint: str, split: str, shards: Sequence[Rows]) -> FeatureStatus:
    """The status by names and sizes; opens no shard.

    Raises:
        StoreError, MachineError: the fingerprint of the checkpoint, or a folder, cannot be read.
    """
    least = _least_bytes(layout, checkpoint, split)
    sizes = layout.feature_sizes(checkpoint, split)
    stored = [(size, shards[index]) for index, size in sizes.items() if index < len(shards)]
    damaged = sum(size < LEAST_BYTES for size, _ in stored)
    done = sum(size >= least(rows) for size, rows in stored)
    missing = len(shards) - done - damaged
    return FeatureStatus(checkpoint, split, shards[-1].stop, len(shards), done, missing, damaged, None)


def unfinished_shards(
    layout: Layout, checkpoint: str, split: str, shards: Sequence[Rows], sizes: Mapping[int, int]
) -> list[int]:
    """The numbers of the shards that :func:`list_features` does not count as done, in order.

    Args:
        sizes: from ``layout.feature_sizes(checkpoint, split)``.

    Raises:
        StoreError, MachineError: as for :func:`list_features`.
    """
    least = _least_bytes(layout, checkpoint, split)
    return [index for index, rows in enumerate(shards) if sizes.get(index, 0) < least(rows)]


def verify_features(
    layout: Layout, checkpoint: str, split: str, shards: Sequence[Rows], advance: Callable[[], None]
) -> FeatureStatus:
    """The status with every byte of every shard checked; ``advance`` is called after each.

    Raises:
        StoreError, MachineError: as for :func:`list_features`, or a shard cannot be read.
    """
    from trak_cli.stages.index.fingerprints import read_fingerprint, shard_fingerprint
    from trak_cli.store.shards import Condition, inspect_features

    expected = shard_fingerprint(read_fingerprint(layout, checkpoint), split)
    count: Counter[Condition] = Counter()
    for index, rows in enumerate(shards):
        count[inspect_features(layout.features(checkpoint, split, index), rows, expected).condition] += 1
        advance()
    missing = count[Condition.MISSING] + count[Condition.SHORTER]
    done, damaged, foreign = (count[one] for one in (Condition.WHOLE, Condition.DAMAGED, Condition.FOREIGN))
    return FeatureStatus(checkpoint, split, shards[-1].stop, len(shards), done, missing, damaged, foreign)


def least_bytes(fingerprint: Json, split: str) -> Callable[[Rows], int]:
    """The size of a shard of these features, at least, as a function of its rows."""
    from trak_cli.stages.index.fingerprints import curvature_of
    from trak_cli.store.dtypes import row_bytes

    curvature = curvature_of(fingerprint) is not None and split == TRAIN
    of_a_row = row_bytes(str(fingerprint["dtype"]), int(fingerprint["projection"]["dim"])) * (1 + curvature)
    return lambda rows: LEAST_BYTES + len(rows) * of_a_row


def _least_bytes(layout: Layout, checkpoint: str, split: str) -> Callable[[Rows], int]:
    from trak_cli.stages.index.fingerprints import read_fingerprint

    return least_bytes(read_fingerprint(layout, checkpoint), split)
