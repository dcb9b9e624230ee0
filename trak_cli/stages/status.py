"""``trak status``: what is in a store, every digest checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.stages.index.fingerprints import shard_fingerprint
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.result_status import GramStatus, ScoreStatus, gram_files, gram_status, score_files, score_status
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.store.shards import Condition, inspect_features
from trak_cli.types import Meter, Reporter, Rows, shards_of


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
class StatusSummary:
    """A store, from features to scores."""

    store: Path
    features: list[FeatureStatus]
    grams: list[GramStatus]
    scores: list[ScoreStatus]


def status(loaded: Loaded, reporter: Reporter) -> StatusSummary:
    """Look at every file of features, Gram matrices and scores; reads them all."""
    layout = Layout(Path(loaded.config.store))
    splits = _shards(layout)
    checkpoints = layout.checkpoints() if splits else []
    grams = layout.grams()
    scored = [(estimator, split) for estimator in layout.estimators() for split in layout.begun_scores(estimator)]
    files = len(checkpoints) * sum(map(len, splits.values()))
    files += sum(len(gram_files(layout, key)) for key in grams)
    files += sum(len(score_files(layout, *one)) for one in scored)
    with reporter.meter("status", files, "files") as meter:
        return StatusSummary(
            layout.root,
            [
                _features(layout, checkpoint, split, shards, meter)
                for checkpoint in checkpoints
                for split, shards in splits.items()
            ],
            [gram_status(layout, key, meter.advance) for key in grams],
            [score_status(layout, *one, meter.advance) for one in scored],
        )


def _shards(layout: Layout) -> dict[str, list[Rows]]:
    """The shards that every split should have; none before the run plan."""
    plan = read_plan(layout)
    if plan is None:
        return {}
    return {name: list(shards_of(rows_of(layout, name), plan.shard_rows)) for name in layout.described_splits()}


def _features(layout: Layout, checkpoint: str, split: str, shards: Sequence[Rows], meter: Meter) -> FeatureStatus:
    expected = shard_fingerprint(read_json(layout.fingerprint(checkpoint)), split)
    count: Counter[Condition] = Counter()
    for index, rows in enumerate(shards):
        count[inspect_features(layout.features(checkpoint, split, index), rows, expected).condition] += 1
        meter.advance()
    return FeatureStatus(
        checkpoint,
        split,
        shards[-1].stop,
        len(shards),
        count[Condition.WHOLE],
        count[Condition.MISSING] + count[Condition.SHORTER],
        count[Condition.DAMAGED],
        count[Condition.FOREIGN],
    )
