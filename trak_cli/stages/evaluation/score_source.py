"""Sets of scores that are evaluated, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.lds.lds import streamed_predictions
from trak_cli.attribution.topk import TopK
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.scoring.score_reader import no_scores, outdated_scores
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, score_blocks
from trak_cli.types import Float32, Float64, IntArray, Rows, SubsetWeights

#: Yields (rows of the scores, training rows, scores of that shape).
BlockIterator = Iterator[tuple[Rows, Rows, Float32]]


@dataclass(frozen=True)
class ScoreSource:
    """One set of scores.

    Attributes:
        name: in tables.
        where: the file, for messages.
        checkpoints: how many it averages; None for scores of another tool.
        targets: (t,) int64, the rows of the split that it scores, in the order of its rows.
        group: it has one row, the scores of the mean output over ``targets``.
        training_rows: n.
        blocks: reads the scores.
    """

    name: str
    where: str
    checkpoints: int | None
    targets: IntArray
    group: bool
    training_rows: int
    blocks: Callable[[], BlockIterator]

    def sums(self, targets: EvaluatedTargets, weights: SubsetWeights) -> Float64:
        """Σ_i w_i score(j, i) for the evaluated targets, (t, s) float64; (1, s) for a group: of the mean scores."""
        sums = streamed_predictions(self.blocks(), weights, 1 if self.group else len(self.targets))
        if self.group:
            return sums
        chosen = sums[self._positions(targets)]
        return chosen.mean(axis=0, keepdims=True) if targets.group else chosen

    def top(self, targets: EvaluatedTargets, k: int) -> IntArray:
        """The k training rows with the highest scores, (t, k) int64; (1, k) for a group, by the mean scores.

        Memory: n for a group, else t · k.
        """
        if targets.group:
            mean = np.zeros((1, self.training_rows))
            wanted = [0] if self.group else self._positions(targets)
            for at, rows, block in self.blocks():
                inside = [position - at.start for position in wanted if position in at]
                mean[0, rows.start : rows.stop] += block[inside].sum(axis=0, dtype=np.float64)
            return np.lexsort((np.arange(self.training_rows), -mean[0]))[None, :k].astype(np.int64)
        positions = self._positions(targets)
        collected: dict[Rows, TopK] = {}
        order: dict[Rows, list[int]] = {}
        for at, rows, block in self.blocks():
            if at not in order:
                order[at] = [index for index, position in enumerate(positions) if position in at]
            if order[at]:
                best = collected.setdefault(at, TopK(len(order[at]), k))
                best.update(block[[positions[index] - at.start for index in order[at]]], rows.start)
        top = np.empty((len(positions), k), np.int64)
        for at, best in collected.items():
            top[order[at]] = best.result().top.indices
        return top

    def _positions(self, targets: EvaluatedTargets) -> list[int]:
        """The rows of the scores that belong to the evaluated targets."""
        position = {int(row): index for index, row in enumerate(self.targets)}
        return [position[row] for row in targets.rows]


def stored_scores(layout: Layout, name: str, split: str, targets: int, rows: int) -> ScoreSource:
    """The scores of an estimator in the store.

    Raises:
        StoreError: there are none, or they are of another number of targets or training rows.
    """
    path = layout.scores(name, split)
    if not path.exists():
        raise no_scores(layout, name, split)
    scores = open_scores(path)
    chosen = scores.target_rows
    expected = (targets if chosen is None else scores.shape[0], rows)
    if scores.shape != expected or (chosen is not None and chosen.max() >= targets):
        raise outdated_scores(path, scores.shape, (targets, rows))
    checkpoints = len(scores.fingerprint["checkpoints"]) or None  # imported scores list none
    every = np.arange(targets) if chosen is None else chosen
    return ScoreSource(name, str(path), checkpoints, every, scores.group, rows, lambda: score_blocks(scores))
