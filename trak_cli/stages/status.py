"""``trak status``: which features, Gram matrices and scores a store holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.stages.index.feature_status import FeatureStatus, list_features, verify_features
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.result_status import (
    GramStatus,
    ScoreStatus,
    gram_files,
    list_grams,
    list_scores,
    score_files,
    verify_grams,
    verify_scores,
)
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Reporter, Rows, shards_of


@dataclass(frozen=True)
class StatusSummary:
    """A store, from features to scores; ``verified``: every byte was checked, not only names and sizes."""

    store: Path
    verified: bool
    features: list[FeatureStatus]
    grams: list[GramStatus]
    scores: list[ScoreStatus]


def status(loaded: Loaded, reporter: Reporter, *, verify: bool = False) -> StatusSummary:
    """The features, Gram matrices and scores of a store, by the names and sizes of their files.

    Args:
        loaded: the configuration; ``store`` is the folder.
        reporter: shows the progress of a verification.
        verify: read every file and check its digest and its fingerprint.

    Raises:
        StoreError, MachineError: see the classes.
    """
    layout = Layout(Path(loaded.config.store))
    return _verify(layout, reporter) if verify else _list(layout)


def _list(layout: Layout) -> StatusSummary:
    splits = _shards(layout)
    train_shards = len(splits[TRAIN]) if TRAIN in splits else None
    return StatusSummary(
        layout.root,
        False,
        [
            list_features(layout, checkpoint, split, shards)
            for checkpoint in _checkpoints(layout, splits)
            for split, shards in splits.items()
        ],
        [list_grams(layout, key) for key in layout.grams()],
        [list_scores(layout, *scored, train_shards) for scored in _scored(layout)],
    )


def _verify(layout: Layout, reporter: Reporter) -> StatusSummary:
    splits, grams, scored = _shards(layout), layout.grams(), _scored(layout)
    checkpoints = _checkpoints(layout, splits)
    files = len(checkpoints) * sum(map(len, splits.values()))
    files += sum(len(gram_files(layout, key)) for key in grams)
    files += sum(len(score_files(layout, *one)) for one in scored)
    with reporter.meter("status", files, "files") as meter:
        return StatusSummary(
            layout.root,
            True,
            [
                verify_features(layout, checkpoint, split, shards, meter.advance)
                for checkpoint in checkpoints
                for split, shards in splits.items()
            ],
            [verify_grams(layout, key, meter.advance) for key in grams],
            [verify_scores(layout, *one, meter.advance) for one in scored],
        )


def _checkpoints(layout: Layout, splits: dict[str, list[Rows]]) -> list[str]:
    return layout.checkpoints() if splits else []


def _scored(layout: Layout) -> list[tuple[str, str]]:
    """The pairs of estimator and split with any stored scores."""
    return [(estimator, split) for estimator in layout.estimators() for split in layout.begun_scores(estimator)]


def _shards(layout: Layout) -> dict[str, list[Rows]]:
    """The shards that every split should have; empty before the run plan exists."""
    plan = read_plan(layout)
    if plan is None:
        return {}
    return {name: list(shards_of(rows_of(layout, name), plan.shard_rows)) for name in layout.described_splits()}
