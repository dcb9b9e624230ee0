"""The training rows that are worth an exact score: those with the highest and lowest scores by compressed features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trak_cli.attribution.compressed import PER_BYTE, CompressedTargets
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.scores import combine, sample_weight
from trak_cli.attribution.topk import TopK
from trak_cli.stages.compressing.compressed_part import CompressedPart
from trak_cli.stages.compressing.compressed_store import CompressedStore
from trak_cli.stages.inputs.reading_ahead import in_order
from trak_cli.stages.scoring.block_scorer import PreparedTargets
from trak_cli.types import Float32, FloatArray, IntArray, Meter, Rows

#: Rows that are scored at a time, so that memory does not grow with the length of a part.
_BLOCK = 4096

#: Bytes of the parts that are in memory at a time, if one has less.
_MEMORY = 2**28


@dataclass(frozen=True)
class CompressedScorer:
    """Approximate scores of prepared targets, before any soft threshold, by the formula of the exact ones."""

    store: CompressedStore
    estimator: EstimatorSpec
    targets: Sequence[CompressedTargets]
    sample_weights: Sequence[FloatArray | None]

    @staticmethod
    def of(prepared: PreparedTargets, store: CompressedStore) -> CompressedScorer:
        """For the targets that are prepared for exact scores.

        Raises:
            StoreError: there are no compressed features of these checkpoints.
        """
        pairs = zip(prepared.factors, prepared.inventory.checkpoints, strict=True)
        targets = [CompressedTargets.of(factor, store.basis(name)) for factor, name in pairs]
        return CompressedScorer(store, prepared.estimator, targets, prepared.sample_weights)

    @property
    def part_bytes(self) -> int:
        """About the memory of one part, under all checkpoints."""
        return len(self.store.inventory.checkpoints) * len(self.store.parts[0]) * math.ceil(self.store.inventory.dim / PER_BYTE)

    def blocks(self, number: int, threads: int = 1) -> Iterator[tuple[Rows, Float32]]:
        """The scores of one part, by so many threads: (training rows, (targets, rows) float32)."""
        parts, rows = self._read(number, threads), self.store.parts[number]
        some = [slice(start, min(start + _BLOCK, len(rows))) for start in range(0, len(rows), _BLOCK)]
        for block, scores in zip(some, in_order(partial(self._scores, parts, rows), some, threads), strict=True):
            yield Rows(rows.start + block.start, rows.start + block.stop), scores

    def scores(self, number: int, rows: IntArray) -> Float32:
        """The scores of some training rows of one part, (targets, m) float32."""
        whole = self.store.parts[number]
        return self._scores(self._read(number), whole, rows - whole.start)

    def best(self, number: int, count: int, threads: int) -> TopK:
        """The ``count`` rows of one part with the highest, and with the lowest, scores."""
        best = TopK(len(self.targets[0].factor.scale), count)
        for rows, scores in self.blocks(number, threads):
            best.update(scores, rows.start)
        return best

    def _read(self, number: int, threads: int = 1) -> list[CompressedPart]:
        return list(in_order(partial(self.store.read, number=number), self.store.inventory.checkpoints, threads))

    def _scores(self, parts: Sequence[CompressedPart], rows: Rows, some: slice | IntArray) -> Float32:
        q = [
            (part.out_to_loss if whole is None else whole[rows.start : rows.stop])[some]
            for part, whole in zip(parts, self.sample_weights, strict=True)
        ]
        products = (
            target.products(self.estimator, part.compressed.at(some)) for target, part in zip(self.targets, parts, strict=True)
        )
        return combine(self.estimator, [one.factor for one in self.targets], products, sample_weight(self.estimator, q))


def find_candidates(scorer: CompressedScorer, count: int, threads: int, meter: Meter, memory: int = _MEMORY) -> IntArray:
    """The rows with the ``count`` highest or lowest approximate scores of any target, (m,) ascending.

    Args:
        threads: that read and score. They share a part if parts of their own do not fit into ``memory`` bytes.

    Raises:
        StoreError: a part is missing, damaged, or of other features.
    """
    parts = scorer.store.parts
    best = TopK(len(scorer.targets[0].factor.scale), count)
    at_once = min(max(memory // scorer.part_bytes, 1), threads)
    found_in = partial(scorer.best, count=count, threads=threads // at_once)
    for number, found in enumerate(in_order(found_in, range(len(parts)), at_once)):
        best.merge(found)
        meter.advance(len(parts[number]))
    ends = best.result()
    return np.unique(np.concatenate([ends.top.indices, ends.bottom.indices], axis=None))
