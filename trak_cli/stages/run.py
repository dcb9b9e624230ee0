"""``trak run``: featurize, finalize and score, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from trak_cli.config.load import Loaded
from trak_cli.errors import TrakError
from trak_cli.plugins.checkpoints.member import leftover_members
from trak_cli.stages.featurize import FeaturizeSummary, featurize
from trak_cli.stages.finalize import FinalizeSummary, finalize
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.score import ScoreSummary, score
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter

Summary = TypeVar("Summary")


@dataclass(frozen=True)
class PipelineSummary:
    """The summaries of the stages; None for those that are left to another process, which still computes features."""

    featurize: FeaturizeSummary
    finalize: FinalizeSummary | None = None
    score: ScoreSummary | None = None


def run(loaded: Loaded, reporter: Reporter) -> PipelineSummary:
    """Run the three stages.

    Raises:
        TrakError: of the first stage that refuses; its headline names the stage.
    """
    features = _named(featurize, loaded, reporter)
    if _features_left(loaded, features.checkpoints):
        return PipelineSummary(features)
    # By the process that finishes last, whatever its share: the others may have ended before there was anything to finalise.
    whole = replace(loaded, config=replace(loaded.config, worker=replace(loaded.config.worker, index=0, count=1)))
    return PipelineSummary(features, _named(finalize, whole, reporter), _named(score, whole, reporter))


def _named(stage: Callable[[Loaded, Reporter], Summary], loaded: Loaded, reporter: Reporter) -> Summary:
    reporter.log(f"trak {stage.__name__}")
    try:
        return stage(loaded, reporter)
    except TrakError as error:
        error.headline = f"trak {stage.__name__} stopped: {error.headline}"
        raise


def _features_left(loaded: Loaded, own: Sequence[str]) -> bool:
    """Whether shards of other processes are still missing, by their names; ``own``: the checkpoints of this run.

    Nobody computes members of these checkpoints that only an earlier run had; finalize refuses them.
    """
    inventory = take_inventory(Layout(Path(loaded.config.store)), loaded.config.estimator.average_over)
    leftover = leftover_members(inventory.checkpoints, own)
    return any(
        len(inventory.layout.shards(checkpoint, split)) < len(inventory.shards(split))
        for checkpoint in inventory.checkpoints
        if checkpoint not in leftover
        for split in inventory.layout.described_splits()
    )
