"""Every training sample by every criterion of suspicion that a store can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.config.load import Loaded
from trak_cli.results.scored import Scored, likely_split, open_scored
from trak_cli.results.suspicion.harm import harm_on
from trak_cli.results.suspicion.own_features import own_criteria
from trak_cli.stages.index.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.scoring.score_reader import outdated_scores
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float64, IntArray, Reporter

#: The criteria, the default first. A large value is suspicious, except for the margin; of self-influence, a large magnitude is.
CRITERIA = ("left_out", "loss", "margin", "self_influence", "harm", "harm_count")


@dataclass(frozen=True)
class Ranking:
    """Every training row by every criterion that the store can give.

    Attributes:
        inventory: the features of the training set; None for a store of scores alone.
        split: the held-out split of the harm; None without one.
        values: criterion -> (n,) float64.
        notes: why criteria are missing.
    """

    layout: Layout
    estimator: str
    inventory: Inventory | None
    rows: int
    split: str | None
    values: Mapping[str, Float64]
    notes: list[str]

    def suspicion(self, by: str) -> Float64:
        """(n,) the values of a criterion, turned so that a large one is suspicious."""
        values = self.values[by]
        return -values if by == "margin" else np.abs(values) if by == "self_influence" else values

    def order(self, by: str) -> IntArray:
        """(n,) all training rows, the most suspicious first; the lower row first where two are equal."""
        return np.argsort(-self.suspicion(by), kind="stable")


def rank(loaded: Loaded, reporter: Reporter, split: str | None = None) -> Ranking:
    """Every criterion that the store can give, for all training rows.

    Raises:
        StoreError: the store has neither features nor scores, or they are damaged or out of date.
    """
    layout, estimator = Layout(Path(loaded.config.store)), loaded.config.estimator.shown[0]
    inventory, scored, notes = _training_features(loaded), _scores(loaded, layout, estimator, split), []
    values: dict[str, Float64] = {}
    if inventory is not None:
        own = own_criteria(inventory, loaded.config.estimator.spec, reporter)
        values |= {name: value for name in CRITERIA if (value := getattr(own, name, None)) is not None}
        if own.margin is None:
            notes.append("no margin: f is not a log-odds")
    else:
        notes.append("only harm: the store has no features of the training set (trak featurize computes them)")
    if scored is not None:
        if inventory is not None and scored.rows != inventory.rows:
            here = scored.targets, inventory.rows
            raise outdated_scores(scored.path, (scored.targets, scored.rows), here)
        values |= vars(harm_on(scored))
    elif inventory is not None:
        several = layout.scored_splits(estimator)
        choice = f"choose --split from {', '.join(several)}" if several else "run trak score first"
        notes.append(f"no harm on held-out targets: {choice}")
    rows = len(next(iter(values.values())))
    return Ranking(layout, estimator, inventory, rows, None if scored is None else scored.split, values, notes)


def _training_features(loaded: Loaded) -> Inventory | None:
    """The features of the training set that the configured estimator averages; None for a store of scores alone.

    Raises:
        StoreError: some of them are missing.
    """
    config = loaded.config
    layout = Layout(Path(config.store))
    if not layout.checkpoints():
        return None
    inventory = take_inventory(layout, config.estimator.average_over).first(config.estimator.shown[1])
    require_shards(inventory, [TRAIN])
    return inventory


def _scores(loaded: Loaded, layout: Layout, estimator: str, split: str | None) -> Scored | None:
    """The scores of the held-out split; None if none was named and it is not clear which one is meant."""
    split = split or likely_split(layout, estimator, list(loaded.config.dataset.targets))
    if split is None and layout.checkpoints():
        return None
    return open_scored(loaded, split)
