"""``trak top``: the training rows with the highest and lowest scores of chosen targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, StoreError
from trak_cli.plurals import counted
from trak_cli.results.neighbours import TargetTop, describer, target_top, with_predictions
from trak_cli.results.outputs.model_outputs import scored_checkpoints
from trak_cli.results.outputs.predictions import read_predictions
from trak_cli.results.samples import SampleSets
from trak_cli.results.scored import Scored, open_scored
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.store.fingerprint import digest
from trak_cli.types import TRAIN, Reporter


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


def top(
    loaded: Loaded,
    reporter: Reporter,
    *,
    split: str | None,
    targets: Sequence[int],
    k: int,
    samples: SampleSets | None = None,
) -> TopSummary:
    """The k highest and k lowest scores of each target.

    Args:
        targets: rows of the split; none: the first one that has scores, or the group whose mean was scored.
        samples: of the configuration, for a caller that needs them too.

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
    samples = samples or SampleSets(loaded.config)
    training, described = describer(samples[TRAIN]), describer(samples[scored.split])
    found = [
        target_top(target, "" if target is None else described(target), one, training)
        for target, one in zip(targets or (None,), ends, strict=True)
    ]
    found = _predicted(scored, found, samples)
    return TopSummary(scored.layout.root, scored.estimator, scored.split, found, scored.group, scored.warnings)


def _predicted(scored: Scored, found: Sequence[TargetTop], samples: SampleSets) -> list[TargetTop]:
    """The targets and their training rows with what the model predicts."""
    checkpoints = scored_checkpoints(scored)
    shown = {
        scored.split: [one.row for one in found if one.row is not None],
        TRAIN: [near.row for one in found for near in (*one.helpful, *one.harmful)],
    }
    known = {split: read_predictions(scored.layout, checkpoints, split, rows, samples[split]) for split, rows in shown.items()}
    own = [None if one.row is None else known[scored.split].get(one.row) for one in found]
    return [replace(with_predictions(one, known[TRAIN]), predicted=mine) for one, mine in zip(found, own, strict=True)]


def _log_other_checkpoints(config: TrakConfig, shown: Scored, reporter: Reporter) -> None:
    """Log it if the store has features of other checkpoints than those whose scores are shown."""
    if not shown.from_features:
        return
    try:
        _, count = config.estimator.shown
        here = take_inventory(shown.layout, config.estimator.average_over).first(count).features.values()
    except (ConfigError, StoreError):
        return
    scored = shown.fingerprint["checkpoints"]
    if {digest(one) for one in here} != set(scored):
        reporter.log(
            f"these scores average {counted(len(scored), 'checkpoint')}, and"
            f" estimator.average_over now names {len(here)} in the store:"
            " trak score score.overwrite=true scores again"
        )
