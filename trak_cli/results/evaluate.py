"""``trak evaluate``: the metrics of the field beside the LDS, from what the user knows about the data or has retrained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted
from trak_cli.results.evaluation.contract import Evaluated, Inputs, Metric
from trak_cli.results.evaluation.randomization import model_randomization
from trak_cli.results.evaluation.retraining import brittleness, counterfactual_removal, leave_one_out
from trak_cli.results.evaluation.retrieval import class_detection, planted_sources, shortcut_detection, subclass_detection
from trak_cli.results.evaluation.suspicion_auc import mislabel_detection
from trak_cli.results.scored import open_scored
from trak_cli.types import Reporter

#: What a user can give, for the message if nothing was given.
_INPUTS = (
    "--flipped FILE, --planted FILE, --classes, --subclasses FILE, --shortcut FILE, --randomized STORE, --leave-one-out FILE,"
    " --removal or --flips FILE"
)


@dataclass(frozen=True)
class EvaluateSummary:
    """The metrics, in the order of docs/evaluate.md."""

    store: Path
    estimator: str
    split: str
    metrics: list[Metric]


def evaluate(loaded: Loaded, reporter: Reporter, *, inputs: Inputs, split: str | None = None) -> EvaluateSummary:
    """Every metric whose inputs were given, of the scores of the configured estimator on a split.

    Raises:
        ConfigError: nothing was given, or an option lacks another one.
        StoreError: there are no scores, or only the highest and lowest where all are needed.
        InputError: a file cannot be read, or does not fit the store.
    """
    _require_inputs(inputs)
    scored = open_scored(loaded, split)
    evaluated = Evaluated(loaded, scored, inputs, reporter)
    metrics: list[Metric] = []
    by_file: list[tuple[Any, Callable[[Evaluated, Any], list[Metric]], bool]] = [
        (inputs.flipped, mislabel_detection, False),
        (inputs.planted, planted_sources, True),
        (inputs.subclasses, subclass_detection, True),
        (inputs.shortcut, shortcut_detection, True),
        (inputs.randomized, model_randomization, False),
        (inputs.leave_one_out, leave_one_out, True),
        (inputs.flips, brittleness, True),
    ]
    for path, evaluation, of_single_targets in by_file:
        if path is not None:
            if of_single_targets:
                _require_single(evaluated)
            metrics += evaluation(evaluated, path)
    if inputs.classes:
        _require_single(evaluated)
        metrics += class_detection(evaluated)
    if inputs.removal:
        metrics += counterfactual_removal(evaluated)
    return EvaluateSummary(scored.layout.root, scored.estimator, scored.split, metrics)


def _require_inputs(inputs: Inputs) -> None:
    problems = []
    given = [inputs.flipped, inputs.planted, inputs.subclasses, inputs.shortcut, inputs.randomized, inputs.leave_one_out]
    if all(one is None for one in [*given, inputs.flips]) and not inputs.classes and not inputs.removal:
        remedy = "say what you know about the data; docs/evaluate.md has an example of each"
        problems.append(Problem("trak evaluate", "nothing to compare the scores with", f"one of {_INPUTS}", remedy))
    if inputs.shortcut_targets is not None and inputs.shortcut is None:
        remedy = "give the training rows with the shortcut as well"
        problems.append(Problem("--shortcut-targets", str(inputs.shortcut_targets), "with --shortcut FILE", remedy))
    ConfigError.raise_for(problems)


def _require_single(evaluated: Evaluated) -> None:
    if evaluated.scored.group is not None:
        found = f"scores of the mean over {counted(len(evaluated.scored.group), 'target')}"
        remedy = "choose scores of single targets with estimator.name=NAME"
        raise ConfigError(Problem(str(evaluated.scored.path), found, "scores of single targets", remedy))
