"""``trak status``: which features, Gram matrices and scores a store holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.stages.index.feature_status import FeatureStatus, list_features, verify_features
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.index.split_sizes import rows_of, split_shards
from trak_cli.stages.scoring.result_status import (
    CompressedStatus,
    GramStatus,
    ScoreStatus,
    compressed_files,
    compressed_status,
    gram_files,
    gram_status,
    list_scores,
    score_files,
    verify_scores,
)
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Reporter


@dataclass(frozen=True)
class StatusSummary:
    """A store, from features to scores; ``verified``: every byte was checked, not only names and sizes."""

    store: Path
    verified: bool
    features: list[FeatureStatus]
    grams: list[GramStatus]
    compressed: CompressedStatus
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
    plan = read_plan(layout)
    names = [] if plan is None else layout.described_splits()  # a split has no shards before there is a plan
    splits = {name: split_shards(layout, name, plan.shard_rows) for name in names if plan is not None}
    parts = [(checkpoint, split, shards) for checkpoint in layout.checkpoints() for split, shards in splits.items()]
    grams = layout.grams()
    scored = [(estimator, split) for estimator in layout.estimators() for split in layout.begun_scores(estimator)]
    if not verify:
        rows = rows_of(layout, TRAIN) if layout.split(TRAIN).exists() else None
        return StatusSummary(
            layout.root,
            False,
            [list_features(layout, *part) for part in parts],
            [gram_status(layout, key) for key in grams],
            compressed_status(layout),
            [list_scores(layout, *one, rows) for one in scored],
        )
    files = sum(len(shards) for _, _, shards in parts) + sum(len(gram_files(layout, key)) for key in grams)
    files += sum(len(score_files(layout, *one)) for one in scored) + len(compressed_files(layout))
    with reporter.meter("status", files, "files") as meter:
        return StatusSummary(
            layout.root,
            True,
            [verify_features(layout, *part, meter.advance) for part in parts],
            [gram_status(layout, key, meter.advance) for key in grams],
            compressed_status(layout, meter.advance),
            [verify_scores(layout, *one, meter.advance) for one in scored],
        )
