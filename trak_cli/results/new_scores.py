"""Scores of samples that are in no split of a store, on its whole training set, by one pass over the features."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.samples import Indexed
from trak_cli.results.candidates import Candidates
from trak_cli.stages.compressing.candidates import CompressedScorer, find_candidates
from trak_cli.stages.compressing.compressed_store import CompressedStore, open_compressed
from trak_cli.stages.compressing.exact_rows import ExactRows
from trak_cli.stages.compressing.recall import find_recall
from trak_cli.stages.featurizing.new_targets import ModelOutputs, compute_new_targets
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.inputs.reading_ahead import in_order
from trak_cli.stages.scoring.block_scorer import PreparedTargets, prepare_targets
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float32, IntArray, Reporter


@dataclass(frozen=True)
class NewScores:
    """The highest and lowest scores of new targets.

    Attributes:
        inventory: the store and the checkpoints.
        candidates: which rows were scored; None for all.
        model: what the model says about the targets.
        extremes: the k highest and k lowest scores of every target.
    """

    inventory: Inventory
    estimator: str
    model: ModelOutputs
    extremes: TopBottom
    candidates: Candidates | None = None


def score_new(loaded: Loaded, reporter: Reporter, samples: Indexed, k: int, *, candidates: int | None = None) -> NewScores:
    """The highest and lowest scores of new targets on the training set of a finished store, which is not changed.

    The features are read once, shard by shard, and only the highest and lowest scores are kept. With ``candidates``, compressed
    features (`trak compress`) choose the training rows whose features are read.

    Args:
        loaded: the configuration with which the store was made; its estimator must be finalised.
        samples: samples as a target data set returns them: a list, or a map-style data set. All of them are scored at a time,
            so thousands of them are better made a target split.
        k: how many of the highest and of the lowest scores are kept; at most all of them.
        candidates: how many training rows with the highest approximate scores of each target are scored, and as many with the
            lowest; None, or as many as there are: all.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    if candidates is not None and candidates < k:
        expected = f"at least {k}, as many as are shown of each end (-k)"
        raise ConfigError(Problem("--candidates", str(candidates), expected, f"give --candidates {max(10 * k, 1000)}"))
    new = open_new(loaded, reporter, samples, candidates)
    chosen = new.choose(candidates, reporter)
    best = TopK(new.model.outputs.shape[1], min(k, new.inventory.rows))
    for rows, scores in new.scores(chosen, reporter):
        best.update(scores, rows)
    return NewScores(new.inventory, new.estimator, new.model, best.result(), chosen)


@dataclass(frozen=True)
class NewTargetScorer:
    """Scores of new targets, in blocks of training rows.

    Attributes:
        estimator: its name.
        model: what the model says about the targets.
        threads: shards that are read at a time.
        compressed: the features from which candidates are chosen; None if all rows are scored.
    """

    inventory: Inventory
    estimator: str
    model: ModelOutputs
    targets: PreparedTargets
    threads: int
    compressed: CompressedStore | None = None

    def choose(self, count: int | None, reporter: Reporter) -> Candidates | None:
        """The training rows with the ``count`` highest or lowest approximate scores of any target; None: all are to be scored.

        Raises:
            StoreError: compressed features are missing, damaged, or of other features.
        """
        if count is None or self.compressed is None:
            return None
        scorer = CompressedScorer.of(self.targets, self.compressed)
        with reporter.meter("candidates", self.inventory.rows, "training rows") as meter:
            rows = find_candidates(scorer, count, self.threads, meter)
        recall = find_recall(self.compressed, replace(self.targets.estimator, name=self.estimator))
        return Candidates(count, rows, recall)

    def scores(self, candidates: Candidates | None, reporter: Reporter) -> Iterator[tuple[IntArray, Float32]]:
        """(training rows, their scores (t, m)), block by block in the order of the rows: of candidates, or None for all.

        Raises:
            StoreError: a shard is missing, damaged or another run's.
        """
        count = self.inventory.rows if candidates is None else len(candidates.rows)
        with reporter.meter("scores", count, "training rows") as meter:
            for rows, scores in self._all_scores() if candidates is None else self._some_scores(candidates.rows):
                yield rows, scores
                meter.advance(len(rows))

    def _all_scores(self) -> Iterator[tuple[IntArray, Float32]]:
        shards = self.inventory.shards(TRAIN)
        _ = self.targets.thresholds  # computed before the threads ask for it
        blocks = in_order(self.targets.final_scores, range(len(shards)), self.threads)
        for rows, scores in zip(shards, blocks, strict=True):
            yield np.arange(rows.start, rows.stop), scores

    def _some_scores(self, rows: IntArray) -> Iterator[tuple[IntArray, Float32]]:
        if self.compressed is None:
            raise RuntimeError("candidates without compressed features")
        return ExactRows(self.targets, self.compressed, self.threads).final_scores(rows)


def open_new(loaded: Loaded, reporter: Reporter, samples: Indexed, candidates: int | None = None) -> NewTargetScorer:
    """Compute the features of new targets and prepare their scores.

    ``candidates``: of which scores will be computed; there must be compressed features then.

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
    compressed = None
    if candidates is not None and candidates < inventory.rows:
        compressed = open_compressed(inventory)
    new = compute_new_targets(loaded, inventory, samples, reporter)
    targets = prepare_targets(inventory, estimator, new.features.__getitem__)
    threads = config.threads or os.cpu_count() or 1
    return NewTargetScorer(inventory, name, new.outputs, targets, min(threads, 4), compressed)
