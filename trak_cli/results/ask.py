"""``trak ask``: the training rows with the highest and lowest scores for samples that are in no split of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import ConfigError, Problem
from trak_cli.results.neighbours import TargetTop, describer, target_top
from trak_cli.results.new_samples import make_samples
from trak_cli.results.new_scores import score_new
from trak_cli.results.samples import Samples, dataset_key, open_samples
from trak_cli.types import TRAIN, Reporter


@dataclass(frozen=True)
class AskSummary:
    """The result for every new target.

    Attributes:
        split: whose data set made the samples.
        rows: number of training rows.
        outputs: f of every target, the mean over the checkpoints.
    """

    store: Path
    estimator: str
    checkpoints: list[str]
    split: str
    rows: int
    outputs: list[float]
    targets: list[TargetTop]


def ask(loaded: Loaded, reporter: Reporter, *, records: Sequence[Any], split: str | None, k: int) -> AskSummary:
    """The k highest and k lowest scores of new targets. Nothing is added to the store.

    Args:
        records: for each sample, its values by name, or the sample as lists and numbers.
        split: the split whose data set makes the samples from them; None: the only target split, else the first.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    made = make_samples(_like(loaded.config, split), records)
    found = score_new(loaded, reporter, made, k)
    words, training = Samples(made.split, made), describer(open_samples(loaded.config, TRAIN))
    targets = [target_top(None, words.words(place), ends, training) for place, ends in enumerate(found.extremes.each())]
    outputs = [float(value) for value in found.outputs]
    return AskSummary(found.store, found.estimator, found.checkpoints, made.split, found.rows, outputs, targets)


def _like(config: TrakConfig, split: str | None) -> Samples:
    """The samples of the split whose data set makes new ones; those of the training set without a target split."""
    known = [*config.dataset.targets, TRAIN]
    if split is not None and split not in known:
        raise ConfigError(Problem("--split", split, f"one of: {', '.join(known)}", "choose a split of the configuration"))
    chosen = split or known[0]
    key = dataset_key(chosen)
    return Samples(chosen, instantiate(config.dataset.train if chosen == TRAIN else config.dataset.targets[chosen], key))
