"""The training rows that are worth an exact score: those with the highest and lowest scores by compressed features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.compressed import CompressedTargets
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

    def blocks(self, number: int) -> Iterator[tuple[Rows, Float32]]:
        """The scores of one part: (training rows, (targets, rows) float32)."""
        parts, rows = self._read(number), self.store.parts[number]
        for start in range(0, len(rows), _BLOCK):
            stop = min(start + _BLOCK, len(rows))
            yield Rows(rows.start + start, rows.start + stop), self._scores(parts, rows, slice(start, stop))

    def scores(self, number: int, rows: IntArray) -> Float32:
        """The scores of some training rows of one part, (targets, m) float32."""
        whole = self.store.parts[number]
        return self._scores(self._read(number), whole, rows - whole.start)

    def best(self, number: int, count: int) -> TopK:
        """The ``count`` rows of one part with the highest, and with the lowest, scores."""
        best = TopK(len(self.targets[0].factor.scale), count)
        for rows, scores in self.blocks(number):
            best.update(scores, rows.start)
        return best

    def _read(self, number: int) -> list[CompressedPart]:
        return [self.store.read(name, number) for name in self.store.inventory.checkpoints]

    def _scores(self, parts: Sequence[CompressedPart], rows: Rows, some: slice | IntArray) -> Float32:
        q = [
            (part.out_to_loss if whole is None else whole[rows.start : rows.stop])[some]
            for part, whole in zip(parts, self.sample_weights, strict=True)
        ]
        products = (
            target.products(self.estimator, part.compressed.at(some)) for target, part in zip(self.targets, parts, strict=True)
        )
        return combine(self.estimator, [one.factor for one in self.targets], products, sample_weight(self.estimator, q))


def find_candidates(scorer: CompressedScorer, count: int, threads: int, meter: Meter) -> IntArray:
    """The rows with the ``count`` highest or lowest approximate scores of any target, (m,) ascending.

    Raises:
        StoreError: a part is missing, damaged, or of other features.
    """
    parts = scorer.store.parts
    best = TopK(len(scorer.targets[0].factor.scale), count)
    for number, found in enumerate(in_order(lambda number: scorer.best(number, count), range(len(parts)), threads)):
        best.merge(found)
        meter.advance(len(parts[number]))
    ends = best.result()
    return np.unique(np.concatenate([ends.top.indices, ends.bottom.indices], axis=None))
