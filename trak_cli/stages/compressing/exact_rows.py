"""Exact scores of single training rows, whose features are read without the rest of their shards.

A shard is checked by one digest of the whole file, which single rows cannot be compared with. So the compressed copy has a
digest of every row, taken when the whole shard was checked, and the digest that the shard had. A row that is read here is the
row that was compressed; other bytes of the shard are not checked (``trak status --verify`` reads all of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from trak_cli.attribution.estimator.threshold import reference_rows, soften, thresholds
from trak_cli.errors import Problem
from trak_cli.stages.compressing.compressed_part import CompressedPart
from trak_cli.stages.compressing.compressed_store import CompressedStore
from trak_cli.stages.inputs.reading_ahead import in_order
from trak_cli.stages.scoring.block_scorer import PreparedTargets
from trak_cli.store.failures import DamagedError
from trak_cli.store.partial.single_rows import read_single_rows, row_digests
from trak_cli.types import TRAIN, Float32, FloatArray, IntArray

#: Rows that are scored at a time, and the most float32 numbers that their features have under all checkpoints: 64 MiB.
_MOST_ROWS, _MOST_FLOATS = 4096, 2**24


@dataclass(frozen=True)
class ExactRows:
    """Scores of prepared targets on single training rows.

    Attributes:
        threads: shards from which rows are read at a time.
        most_floats: of the features of rows that are in memory at a time, under all checkpoints.
    """

    targets: PreparedTargets
    store: CompressedStore
    threads: int
    most_floats: int = _MOST_FLOATS

    def final_scores(self, rows: IntArray) -> Iterator[tuple[IntArray, Float32]]:
        """(training rows, their final scores (targets, m)), for rows in ascending order.

        Raises:
            StoreError: a row is not the one that was compressed.
        """
        share = self.targets.estimator.soft_threshold
        limits = None
        if share:
            reference = [scores for _, scores in self.blocks(reference_rows(self.store.inventory.rows))]
            limits = thresholds(np.concatenate(reference, axis=1), share)
        for some, scores in self.blocks(rows):
            yield some, scores if limits is None else soften(scores, limits)

    def blocks(self, rows: IntArray) -> Iterator[tuple[IntArray, Float32]]:
        """(training rows, their scores (targets, m) before any threshold), for rows in ascending order."""
        inventory = self.store.inventory
        step = min(max(self.most_floats // (len(inventory.checkpoints) * inventory.dim), 1), _MOST_ROWS)
        for number, part in enumerate(self.store.parts):
            inside = rows[(rows >= part.start) & (rows < part.stop)]
            if len(inside):
                read = [self.store.read(name, number) for name in inventory.checkpoints]
                for start in range(0, len(inside), step):
                    some = inside[start : start + step]
                    yield some, self.targets.scores_of([self._values(place, part, some) for place, part in enumerate(read)])

    def _values(self, place: int, part: CompressedPart, rows: IntArray) -> tuple[Float32, FloatArray]:
        """Features and q of some rows of a part, under the checkpoint at this place."""
        inventory, whole = self.store.inventory, self.targets.sample_weights[place]
        shards = inventory.shards_with(TRAIN, rows)
        chosen = [rows[(rows >= shard.start) & (rows < shard.stop)] for shard in shards]
        features = in_order(partial(self._features, inventory.checkpoints[place], part), chosen, self.threads)
        return np.concatenate(list(features)), part.out_to_loss[rows - part.rows.start] if whole is None else whole[rows]

    def _features(self, checkpoint: str, part: CompressedPart, rows: IntArray) -> Float32:
        """Features of rows that are in one shard."""
        inventory = self.store.inventory
        length = inventory.plan.shard_rows
        shard = int(rows[0]) // length
        path = inventory.layout.features(checkpoint, TRAIN, shard)
        place = part.places[shard - part.rows.start // length]
        dtype = str(inventory.features[checkpoint]["dtype"])
        features = read_single_rows(path, place, rows - shard * length, dtype, inventory.dim)
        changed = rows[row_digests(features) != part.row_digests[rows - part.rows.start]]
        if len(changed):
            remedy = (
                "run trak status --verify; if this file is damaged, delete it and run trak featurize, otherwise delete the "
                "folder compressed of the store; then run trak compress"
            )
            expected = "the bytes that trak compress read"
            raise DamagedError(Problem(str(path), f"other bytes of training row {changed[0]}", expected, remedy))
        return features
