"""Scores of samples that are in no split of a store, on its whole training set, by one pass over the features."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.config.load import Loaded
from trak_cli.plugins.samples import Indexed
from trak_cli.stages.featurizing.new_targets import ModelOutputs, compute_new_targets
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.scoring.block_scorer import PreparedTargets, prepare_targets
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float32, Reporter, Rows

Result = TypeVar("Result")


@dataclass(frozen=True)
class NewScores:
    """The highest and lowest scores of new targets.

    Attributes:
        inventory: the store and the checkpoints.
        model: what the model says about the targets.
        extremes: the k highest and k lowest scores of every target.
    """

    inventory: Inventory
    estimator: str
    model: ModelOutputs
    extremes: TopBottom


def score_new(loaded: Loaded, reporter: Reporter, samples: Indexed, k: int) -> NewScores:
    """The highest and lowest scores of new targets on the training set of a finished store, which is not changed.

    The features are read once, shard by shard, and only the highest and lowest scores are kept.

    Args:
        loaded: the configuration with which the store was made; its estimator must be finalised.
        samples: samples as a target data set returns them: a list, or a map-style data set. All of them are scored at a time,
            so thousands of them are better made a target split.
        k: how many of the highest and of the lowest scores are kept; at most all of them.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    new = open_new(loaded, reporter, samples)
    best = TopK(new.model.outputs.shape[1], min(k, new.inventory.rows))
    with reporter.meter("scores", new.inventory.rows, "training rows") as meter:
        for rows, scores in new.blocks():
            best.update(scores, rows.start)
            meter.advance(len(rows))
    return NewScores(new.inventory, new.estimator, new.model, best.result())


@dataclass(frozen=True)
class NewTargetScorer:
    """Scores of new targets, in blocks of training rows.

    Attributes:
        estimator: its name.
        model: what the model says about the targets.
        threads: shards that are read at a time.
    """

    inventory: Inventory
    estimator: str
    model: ModelOutputs
    targets: PreparedTargets
    threads: int

    def blocks(self) -> Iterator[tuple[Rows, Float32]]:
        """The scores (t, rows of a shard) of every shard, in the order of the training rows.

        Raises:
            StoreError: a shard is missing, damaged or another run's.
        """
        shards = self.inventory.shards(TRAIN)
        _ = self.targets.thresholds  # computed before the threads ask for it
        yield from zip(shards, _in_order(self.targets.final_scores, len(shards), self.threads), strict=True)


def open_new(loaded: Loaded, reporter: Reporter, samples: Indexed) -> NewTargetScorer:
    """Compute the features of new targets and prepare their scores.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    name, count = config.estimator.shown
    estimator = config.estimator.spec
    inventory = take_inventory(Layout(Path(config.store)), config.estimator.average_over).first(count)
    if estimator.needs_gram:
        require_grams(inventory, estimator)
    new = compute_new_targets(loaded, inventory, samples, reporter)
    targets = prepare_targets(inventory, estimator, new.features.__getitem__)
    threads = config.threads or os.cpu_count() or 1
    return NewTargetScorer(inventory, name, new.outputs, targets, min(threads, 4))


def _in_order(function: Callable[[int], Result], count: int, threads: int) -> Iterator[Result]:
    """``function`` of 0..count−1, in order. As many calls as threads run ahead of the caller."""
    if threads == 1:
        yield from map(function, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Result]] = deque()
        for index in range(count):
            coming.append(pool.submit(function, index))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
