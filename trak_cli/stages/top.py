"""``trak top``: the training rows with the highest and lowest scores of chosen targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trak_cli.attribution.topk import Extremes
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.score_notes import read_warnings
from trak_cli.stages.scoring.score_reader import outdated_scores, read_extremes, stored_scores
from trak_cli.store.chosen_targets import ChosenTargets, positions
from trak_cli.store.fingerprint import digest
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Json, Reporter
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class Neighbour:
    """A training row, its score, and the dataset's description of it (may be empty)."""

    row: int
    score: float
    description: str


@dataclass(frozen=True)
class TargetTop:
    """The rows with the largest positive (helpful) and negative (harmful) scores of one target, largest effect first.

    ``row`` is None for a group: scores of the mean of f over several targets.
    """

    row: int | None
    description: str
    helpful: list[Neighbour]
    harmful: list[Neighbour]


@dataclass(frozen=True)
class TopSummary:
    """The result for every chosen target.

    Attributes:
        group: the rows of the targets over whose mean the scores are; None for scores of single targets.
        warnings: about the scores, by the command that wrote them.
    """

    store: Path
    estimator: str
    split: str
    targets: list[TargetTop]
    group: list[int] | None
    warnings: list[str]


def top(loaded: Loaded, reporter: Reporter, *, split: str | None, targets: Sequence[int], k: int) -> TopSummary:
    """The k highest and k lowest scores of each target.

    Args:
        targets: rows of the split; none: the first one that has scores, or the group whose mean was scored.

    Raises:
        ConfigError: no such split or target, or fewer than k were kept.
        StoreError: there are no scores yet, or none of a target that was added since.
        InputError: the dataset cannot describe a row.
    """
    config = loaded.config
    layout = Layout(Path(config.store))
    estimator = list(config.estimator.names)[-1]
    split = split or _only_split(layout, estimator)
    _check_targets(targets, split, rows_of(layout, split))
    path, fingerprint = stored_scores(layout, estimator, split)
    chosen = ChosenTargets.of(fingerprint)
    if chosen is None:
        targets = targets or (0,)
        _require_scored(layout, path, fingerprint, targets)
    else:
        targets = _among(chosen, path, targets)
    group = list(chosen.rows) if chosen is not None and chosen.group else None
    ends = read_extremes(layout, estimator, split, (0,) if group else positions(chosen, targets), k)
    _log_other_checkpoints(config, layout, fingerprint, reporter)
    training = _describer(config, TRAIN)
    described = _describer(config, split)
    found = [
        TargetTop(
            target,
            "" if target is None else described(target),
            _neighbours(one.top, 1, training),
            _neighbours(one.bottom, -1, training),
        )
        for target, one in zip((None,) if group else targets, ends, strict=True)
    ]
    return TopSummary(layout.root, estimator, split, found, group, read_warnings(layout, estimator, split))


def _only_split(layout: Layout, estimator: str) -> str:
    scored = layout.scored_splits(estimator)
    if not scored:
        expected = f"scores (there are some of: {', '.join(layout.estimators()) or 'no estimator'})"
        remedy = "run trak score first, or choose estimator=NAME"
        raise StoreError(Problem(str(layout.root), f"no scores of estimator {estimator}", expected, remedy))
    if len(scored) > 1:
        raise ConfigError(Problem("--split", "nothing", f"one of: {', '.join(scored)}", "say which split the targets are in"))
    return scored[0]


def _require_scored(layout: Layout, path: Path, fingerprint: Json, targets: Sequence[int]) -> None:
    """Require scores of these targets; of a split that grew, old ones will do."""
    if any(target >= fingerprint["targets"] for target in targets):
        now = rows_of(layout, fingerprint["split"]), rows_of(layout, TRAIN)
        raise outdated_scores(path, (fingerprint["targets"], fingerprint["rows"]), now)


def _among(chosen: ChosenTargets, path: Path, targets: Sequence[int]) -> Sequence[int]:
    """The targets to show, all of which must be among the chosen ones: without any, the first of them."""
    if chosen.group and targets:
        found = ", ".join(map(str, targets))
        expected = f"nothing: {path} has one row of scores, of {chosen}"
        raise ConfigError(Problem("--target", found, expected, "leave out --target"))
    problems = [
        Problem("--target", str(target), f"one of those that {path} has: {chosen}", "choose one of these rows")
        for target in targets
        if chosen.position(target) is None
    ]
    if problems:
        raise ConfigError(problems)
    return targets or chosen.rows[:1]


def _log_other_checkpoints(config: TrakConfig, layout: Layout, fingerprint: Json, reporter: Reporter) -> None:
    """Log it if the store has features of other checkpoints than those whose scores are shown."""
    if "metric" not in fingerprint["estimator"]:  # scores that are not computed from features
        return
    try:
        count = list(config.estimator.names.values())[-1]
        here = take_inventory(layout, config.estimator.average_over).first(count).features.values()
    except (ConfigError, StoreError):
        return
    scored = fingerprint["checkpoints"]
    if {digest(one) for one in here} != set(scored):
        reporter.log(
            f"these scores average {len(scored)} checkpoint(s), and estimator.average_over now names {len(here)} in the store:"
            " trak score score.overwrite=true scores again"
        )


def _check_targets(targets: Sequence[int], split: str, rows: int) -> None:
    problems = [
        Problem("--target", str(target), f"a row of {split}: 0 to {rows - 1}", "choose a row that exists")
        for target in targets
        if not 0 <= target < rows
    ]
    if problems:
        raise ConfigError(problems)


def _neighbours(extremes: Extremes, sign: int, describe: Callable[[int], str]) -> list[Neighbour]:
    pairs = zip(extremes.indices[0].tolist(), extremes.values[0].tolist(), strict=True)
    return [Neighbour(row, score, describe(row)) for row, score in pairs if sign * score > 0]


def _describer(config: TrakConfig, split: str) -> Callable[[int], str]:
    """A function from row to description; empty if the config does not name the split, or the dataset describes nothing."""
    node = config.dataset.train if split == TRAIN else config.dataset.targets.get(split)
    if node is None:
        return lambda _: ""
    key = "dataset.train" if split == TRAIN else f"dataset.targets.{split}"
    dataset: Any = instantiate(node, key)
    if not hasattr(dataset, "describe"):
        return lambda _: ""

    def describe(row: int) -> str:
        with report_user_errors(f"{key}: describe({row})", any_code=True):
            return in_words(dataset.describe(row))

    return describe


def in_words(description: Any) -> str:
    """A description in one line: its texts and numbers, without images and other arrays."""
    if isinstance(description, dict):
        return ", ".join(f"{key} {value}" for key, value in description.items() if isinstance(value, str | int | float))
    return description if isinstance(description, str) else ""
