"""``trak top``: the training rows with the highest and lowest scores of chosen targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.attribution.topk import Extremes
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, StoreError
from trak_cli.results.samples import open_samples
from trak_cli.results.scored import Scored, open_scored
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.store.fingerprint import digest
from trak_cli.types import TRAIN, Reporter


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
    scored = open_scored(loaded, split)
    if not targets and scored.group is None:
        targets = scored.target_rows[:1]
    ends = scored.extremes(scored.positions(targets) if scored.group is None or targets else (0,), k)
    _log_other_checkpoints(loaded.config, scored, reporter)
    training, described = _describer(loaded.config, TRAIN), _describer(loaded.config, scored.split)
    found = [
        TargetTop(
            target,
            "" if target is None else described(target),
            _neighbours(one.top, 1, training),
            _neighbours(one.bottom, -1, training),
        )
        for target, one in zip(targets or (None,), ends, strict=True)
    ]
    return TopSummary(scored.layout.root, scored.estimator, scored.split, found, scored.group, scored.warnings)


def _log_other_checkpoints(config: TrakConfig, shown: Scored, reporter: Reporter) -> None:
    """Log it if the store has features of other checkpoints than those whose scores are shown."""
    if "metric" not in shown.fingerprint["estimator"]:  # scores that are not computed from features
        return
    try:
        count = list(config.estimator.names.values())[-1]
        here = take_inventory(shown.layout, config.estimator.average_over).first(count).features.values()
    except (ConfigError, StoreError):
        return
    scored = shown.fingerprint["checkpoints"]
    if {digest(one) for one in here} != set(scored):
        reporter.log(
            f"these scores average {len(scored)} checkpoint(s), and estimator.average_over now names {len(here)} in the store:"
            " trak score score.overwrite=true scores again"
        )


def _neighbours(extremes: Extremes, sign: int, describe: Callable[[int], str]) -> list[Neighbour]:
    pairs = zip(extremes.indices[0].tolist(), extremes.values[0].tolist(), strict=True)
    return [Neighbour(row, score, describe(row)) for row, score in pairs if sign * score > 0]


def _describer(config: TrakConfig, split: str) -> Callable[[int], str]:
    """A function from row to description; empty if the config does not name the split."""
    samples = open_samples(config, split)
    return (lambda _: "") if samples is None else samples.words
