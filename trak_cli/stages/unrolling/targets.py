"""Which rows of the target split are scored, and the batches from which f of a target is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

from trak_cli.config.schema import UnrollConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.inputs.split import Split
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.types import TRAIN, listed
from trak_cli.unrolling.contract import Target

#: Target samples of one forward pass; the graph of a group's outputs is kept for one pass at a time.
BATCH = 64


@dataclass(frozen=True)
class TargetRows:
    """The targets of a call.

    Attributes:
        split: name of the target split.
        total: number of rows of the split.
        chosen: rows that are scored; None: every row, one by one.
    """

    split: str
    total: int
    chosen: ChosenTargets | None

    @property
    def count(self) -> int:
        """The number of rows of scores."""
        return self.total if self.chosen is None else self.chosen.count

    @property
    def rows(self) -> list[int]:
        """The rows of the split that are read."""
        return list(range(self.total)) if self.chosen is None else list(self.chosen.rows)

    def members(self, position: int) -> list[int]:
        """The rows of the split over which f is averaged for this row of the scores."""
        return self.rows if self.chosen is not None and self.chosen.group else [self.rows[position]]

    def batches(self, split: Split, position: int) -> Target:
        """The batches of the targets of one row of the scores."""
        rows = self.members(position)

        def read() -> Iterator[Any]:
            for start in range(0, len(rows), BATCH):
                yield split.take(rows[start : start + BATCH])

        return read


def choose_targets(unroll: UnrollConfig, splits: Mapping[str, Sized]) -> TargetRows:
    """The targets that the keys ``unroll.split``, ``unroll.targets`` and ``unroll.group`` name.

    Raises:
        ConfigError: the split must be chosen among several, or a row is not in the split.
    """
    names = [name for name in splits if name != TRAIN]
    if unroll.split is None and len(names) > 1:
        expected = f"one of: {', '.join(names)}"
        raise ConfigError(Problem("unroll.split", "nothing", expected, f"give unroll.split={names[0]}, for example"))
    split = names[0] if unroll.split is None else unroll.split
    total = len(splits[split])
    if unroll.targets is None:
        return TargetRows(split, total, ChosenTargets(tuple(range(total)), group=True) if unroll.group else None)
    if outside := [target for target in unroll.targets if target >= total]:
        found = listed([str(target) for target in outside])
        raise ConfigError(Problem("unroll.targets", found, f"rows of {split}: 0 to {total - 1}", "choose rows that exist"))
    return TargetRows(split, total, ChosenTargets(tuple(unroll.targets), unroll.group))
