"""Brittleness: the smallest number of the highest scores of a target whose removal flips its prediction.

A prediction is f > 0: of log-odds, that the label is more likely than not. ``retrain.flip_top`` trains the models, one after
the other for each target, and `trak evaluate` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.metrics.flip_search import smallest_flip
from trak_cli.config.schema import TrakConfig
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.removals import Removal, require_top
from trak_cli.stages.evaluation.retrained_models import read_models
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.store.layout import Layout
from trak_cli.types import Float64, IntArray


@dataclass(frozen=True)
class FlipSearch:
    """The search for one set of scores.

    Attributes:
        run: that is retrained.
        split: of the targets.
        most: the largest number of samples that is removed.
        order: (t, most) the training rows of the highest scores of every target, highest first.
    """

    layout: Layout
    run: int
    split: str
    name: str
    targets: EvaluatedTargets
    most: int
    order: IntArray

    def removal(self, place: int, count: int) -> Removal:
        """The model of the target at a place among the targets, without its ``count`` highest scores."""
        row = self.targets.rows[place]
        entry = {"without_top_of": {"estimator": self.name, "split": self.split, "targets": [row], "count": count}}
        path = self.layout.retrained_flip(self.run, self.name, self.split, row, count)
        return Removal(path, (row,), np.sort(self.order[place, :count]), entry)

    def before(self) -> Float64:
        """f of every target under the full run, the mean over models."""
        outputs = read_models([self.layout.retrained_full(self.run)], self.split).outputs[0]
        means: Float64 = outputs.astype(np.float64).mean(axis=0)[list(self.targets.rows)]
        return means

    def flips(self, removal: Removal) -> bool:
        """Whether a stored model flips its target.

        Raises:
            StoreError: it is damaged, or was made from other scores.
        """
        models = read_models([removal.path], self.split)
        require_top(removal.path, models.weights[0], removal.left_out)
        return bool(models.outputs[0, :, removal.rows[0]].astype(np.float64).mean() <= 0)

    def search(self, place: int, train: Callable[[Removal], None]) -> int | None:
        """The smallest number for the target at a place; None if ``most`` does not flip it.

        Args:
            train: makes sure that a model is stored.
        """

        def flips(count: int) -> bool:
            removal = self.removal(place, count)
            train(removal)
            return self.flips(removal)

        return smallest_flip(self.most, flips)


class NotSearchedError(Exception):
    """A model that the search needs is not stored."""


def stored_flips(search: FlipSearch) -> Float64:
    """(t,) the smallest number for every target: inf if none flips it, NaN if it was wrong before or was not searched."""
    result = np.full(len(search.targets.rows), np.nan)
    if not search.layout.retrained_full(search.run).exists():
        return result
    for place in np.flatnonzero(search.before() > 0).tolist():
        try:
            found = search.search(place, _require)
        except NotSearchedError:
            continue
        result[place] = np.inf if found is None else found
    return result


def open_search(config: TrakConfig, layout: Layout, split: str, source: ScoreSource, targets: EvaluatedTargets) -> FlipSearch:
    """The search for one set of scores, whose highest scores are read."""
    most = max(1, round(config.retrain.flip_most * source.training_rows))
    run = config.retrain.run
    return FlipSearch(layout, run, split, source.name, targets, most, source.top(targets, most))


def _require(removal: Removal) -> None:
    if not removal.path.exists():
        raise NotSearchedError
