"""``trak ask``: the training rows with the highest and lowest scores for samples that are in no split of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate_repeatable
from trak_cli.config.wording import unknown
from trak_cli.errors import ConfigError
from trak_cli.report.page import require_packages
from trak_cli.report.payload import Prediction
from trak_cli.results.candidates import CandidateSummary
from trak_cli.results.neighbours import TargetTop, describer, target_top, with_predictions
from trak_cli.results.new_samples import make_samples
from trak_cli.results.new_scores import score_new
from trak_cli.results.outputs.predictions import ClassNames, class_names, read_predictions, stored_names
from trak_cli.results.reporting.new_targets import write_page
from trak_cli.results.samples import Samples, dataset_key, open_samples
from trak_cli.stages.featurizing.new_targets import ModelOutputs
from trak_cli.types import TRAIN, Reporter


@dataclass(frozen=True)
class AskSummary:
    """The result for every new target.

    Attributes:
        split: whose data set made the samples.
        rows: number of training rows.
        outputs: f of every target, the mean over the checkpoints.
        report: the page that was written.
        candidates: which training rows were scored; None for all.
    """

    store: Path
    estimator: str
    checkpoints: list[str]
    split: str
    rows: int
    outputs: list[float]
    targets: list[TargetTop]
    report: Path | None
    candidates: CandidateSummary | None


@dataclass(frozen=True)
class Shown:
    """What the answer has.

    Attributes:
        k: highest and lowest scores of every target.
        candidates: training rows of each end that are scored, chosen by compressed features; None: all rows are scored.
        report: an HTML file to write, with the new targets beside these training samples.
    """

    k: int = 5
    candidates: int | None = None
    report: Path | None = None


def ask(loaded: Loaded, reporter: Reporter, *, records: Sequence[Any], split: str | None, shown: Shown) -> AskSummary:
    """The highest and lowest scores of new targets. Nothing is added to the store.

    Args:
        records: for each sample, its values by name, or the sample as lists and numbers.
        split: the split whose data set makes the samples from them; None: the only target split, else the first.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    if shown.report is not None:
        require_packages()
    like = _like(loaded.config, split)
    made = make_samples(like, records)
    found = score_new(loaded, reporter, made, shown.k, candidates=shown.candidates)
    if found.candidates is not None:
        reporter.log(found.candidates.sentence(found.inventory.rows, shown.k))
    words, training = Samples(made.split, made), open_samples(loaded.config, TRAIN)
    described = describer(training)
    inventory = found.inventory
    names = stored_names(inventory.layout, inventory.checkpoints, TRAIN, training)
    names = replace(names, names=names.names or class_names(like.dataset, None).names)
    predicted = _predicted(found.model, names, words)
    if shown.report is not None:
        write_page(shown.report, found, made, training, predicted, names)
    targets = [
        replace(target_top(None, words.words(place), ends, described), predicted=predicted.get(place))
        for place, ends in enumerate(found.extremes.each())
    ]
    rows = [one.row for target in targets for one in (*target.helpful, *target.harmful)]
    known = read_predictions(inventory.layout, inventory.checkpoints, TRAIN, rows, training)
    return AskSummary(
        store=inventory.layout.root,
        estimator=found.estimator,
        checkpoints=inventory.checkpoints,
        split=made.split,
        rows=inventory.rows,
        outputs=found.model.outputs.mean(axis=0).tolist(),
        targets=[with_predictions(target, known) for target in targets],
        report=shown.report,
        candidates=None if found.candidates is None else found.candidates.summary(shown.k),
    )


def _predicted(model: ModelOutputs, names: ClassNames, asked: Samples) -> dict[int, Prediction]:
    """The most probable class of each target, by number of the target; empty if the task has no classes."""
    found = {}
    for place, row in enumerate(() if model.probabilities is None else model.probabilities):
        number, given = int(row.argmax()), asked.label(place)
        correct = None if given is None else names.agree(names.shown(given), number)
        found[place] = Prediction(names.of_class(number), float(row.max()), correct)
    return found


def _like(config: TrakConfig, split: str | None) -> Samples:
    """The samples of the split whose data set makes new ones; those of the training set without a target split."""
    known = [*config.dataset.targets, TRAIN]
    if split is not None and split not in known:
        raise ConfigError(unknown("--split", split, known))
    chosen = split or known[0]
    node = config.dataset.train if chosen == TRAIN else config.dataset.targets[chosen]
    return Samples(chosen, instantiate_repeatable(node, dataset_key(chosen)))
