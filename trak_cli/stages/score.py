"""``trak score``: scores of every training row for every target, in blocks, from shards alone.

The unit of work is one block of targets against one shard of training rows. The complete (targets, rows) matrix is one virtual
dataset over the files of the units. With ``score.top_k`` a unit is many shards; only its highest and lowest scores are kept,
and those of all units are merged into one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.attribution.estimator.describe import describe_formula
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.cluster.share import Share
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.stages.index.inventory import Inventory, require_stored, take_inventory
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.index.work_parts import parts_of_shards
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.scoring.block_scorer import BlockScorer
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.stages.scoring.score_store import ScoreFiles, ScoreUnit
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Reporter, shards_of


@dataclass(frozen=True)
class SplitScores:
    """The scores of one target split; ``path`` holds all of them once ``complete``.

    Attributes:
        name: of the split.
        estimator: the name that they are stored under.
        checkpoints: how many checkpoints they average.
    """

    name: str
    estimator: str
    checkpoints: int
    targets: int
    rows: int
    written: int
    already_there: int
    left_to_others: int
    complete: bool
    path: Path


@dataclass(frozen=True)
class ScoreSummary:
    """The result of one call."""

    store: Path
    estimator: str
    formula: str
    checkpoints: list[str]
    splits: list[SplitScores]


def score(loaded: Loaded, reporter: Reporter) -> ScoreSummary:
    """Write the missing scores of this worker's share; combine them once all workers are done.

    Raises:
        ConfigError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    estimator = config.estimator.spec
    layout = Layout(Path(config.store))
    inventory = take_inventory(layout, config.estimator.average_over)
    averages = {name: inventory.first(count) for name, count in config.estimator.names.items()}
    inventory = max(averages.values(), key=lambda average: len(average.features))
    splits = target_splits(config, layout)
    require_stored(inventory, [TRAIN, *splits])
    if config.score.overwrite and estimator.needs_gram:
        require_grams(inventory, estimator)  # remove old scores only if new ones can be computed
    share = worker_share(config.worker, reporter)
    summary = ScoreSummary(layout.root, estimator.name, describe_formula(estimator), inventory.checkpoints, [])
    for name, average in averages.items():
        for split in splits:
            files = _files(config, average, replace(estimator, name=name), split)
            summary.splits.append(_score_split(files, BlockScorer(average, estimator, split), share, reporter))
    return summary


def target_splits(config: TrakConfig, layout: Layout) -> list[str]:
    """The target splits to score: ``score.splits``, or all in the store.

    Raises:
        ConfigError: there is none, or the training set was named.
    """
    known = [name for name in layout.described_splits() if name != TRAIN]
    splits = known if config.score.splits is None else config.score.splits
    if not splits or TRAIN in splits:
        expected = f"target splits of the store: {', '.join(known) or 'it has none'}"
        remedy = "leave out 'train'" if splits else "featurize a target split (dataset.targets.NAME) first"
        raise ConfigError(Problem("score.splits", str(splits), expected, remedy))
    return list(splits)


def _files(config: TrakConfig, inventory: Inventory, estimator: EstimatorSpec, split: str) -> ScoreFiles:
    targets = rows_of(inventory.layout, split)
    features = list(inventory.features.values())
    parts = inventory.shards(TRAIN) if config.score.top_k is None else parts_of_shards(config.worker.part_rows, inventory)
    fingerprint = scores_fingerprint(estimator, features, inventory.rows, split, targets, config.score.top_k)
    return ScoreFiles(
        layout=inventory.layout,
        estimator=estimator.name,
        split=split,
        top_k=config.score.top_k,
        blocks=list(shards_of(targets, config.score.target_block)),
        shards=list(parts),
        fingerprint=fingerprint | {"target_block": config.score.target_block},
        overwrite=config.score.overwrite,
    )


def _score_split(files: ScoreFiles, scorer: BlockScorer, share: Share, reporter: Reporter) -> SplitScores:
    mine = share.of(files.units())
    present = files.require_ours(mine)
    pending = [unit for unit in mine if unit not in present]
    total = sum(len(unit.targets) * len(unit.rows) for unit in pending)
    written = 0
    with reporter.meter(f"score {files.split}, {files.estimator}", total, "scores") as meter:
        for unit in _by_block(pending):
            if not files.is_done(unit):  # meanwhile by another worker: shares overlap where a Slurm array is an irregular list
                with unit_of_work():
                    files.write(unit, scorer.scores(unit))
                written += 1
            meter.advance(len(unit.targets) * len(unit.rows))
    complete, others, checkpoints = files.complete(), len(files.units()) - len(mine), len(files.fingerprint["checkpoints"])
    counts = files.targets, files.rows, written, len(mine) - written, others
    return SplitScores(files.split, files.estimator, checkpoints, *counts, complete, files.complete_path)


def _by_block(units: Sequence[ScoreUnit]) -> list[ScoreUnit]:
    """Units ordered by block, so that the targets of a block are prepared once."""
    return sorted(units, key=lambda unit: (unit.block, unit.shard))
