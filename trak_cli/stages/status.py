"""``trak status``: what is in a store, every digest checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from trak_cli.config import Loaded
from trak_cli.stages.identity import shard_fingerprint
from trak_cli.stages.run_plan import read_plan
from trak_cli.stages.splits import rows_of
from trak_cli.store import Condition, Layout, inspect_features, read_json
from trak_cli.types import Reporter, shards_of


@dataclass(frozen=True)
class FeatureStatus:
    """Shards of one split under one checkpoint. ``missing`` counts those of too few rows (after appending), too."""

    checkpoint: str
    split: str
    rows: int
    shards: int
    done: int
    missing: int
    damaged: int
    foreign: int


@dataclass(frozen=True)
class GramStatus:
    """Finalised Gram matrices of one weighting."""

    key: str
    checkpoints: list[str]


@dataclass(frozen=True)
class ScoreStatus:
    """The scores of one estimator on one split."""

    estimator: str
    split: str
    complete: bool


@dataclass(frozen=True)
class StatusSummary:
    """A store, from features to scores."""

    store: Path
    features: list[FeatureStatus]
    grams: list[GramStatus]
    scores: list[ScoreStatus]


def status(loaded: Loaded, reporter: Reporter) -> StatusSummary:
    """Look at every shard of the store; reads them all."""
    layout = Layout(Path(loaded.config.store))
    plan = read_plan(layout)
    summary = StatusSummary(layout.root, [], [], [])
    if plan is not None:
        splits = {name: list(shards_of(rows_of(layout, name), plan.shard_rows)) for name in layout.described_splits()}
        checkpoints = layout.checkpoints()
        with reporter.meter("status", len(checkpoints) * sum(map(len, splits.values())), "shards") as meter:
            for checkpoint in checkpoints:
                features = read_json(layout.fingerprint(checkpoint))
                for split, shards in splits.items():
                    count: Counter[Condition] = Counter()
                    for index, rows in enumerate(shards):
                        path = layout.features(checkpoint, split, index)
                        count[inspect_features(path, rows, shard_fingerprint(features, split)).condition] += 1
                        meter.advance()
                    summary.features.append(
                        FeatureStatus(
                            checkpoint,
                            split,
                            shards[-1].stop,
                            len(shards),
                            count[Condition.WHOLE],
                            count[Condition.MISSING] + count[Condition.SHORTER],
                            count[Condition.DAMAGED],
                            count[Condition.FOREIGN],
                        )
                    )
    summary.grams.extend(GramStatus(key, layout.finalized_checkpoints(key)) for key in layout.grams())
    for estimator in layout.estimators():
        for split in layout.scored_splits(estimator):
            complete = layout.scores(estimator, split).exists() or layout.scores_top(estimator, split).exists()
            summary.scores.append(ScoreStatus(estimator, split, complete))
    return summary
