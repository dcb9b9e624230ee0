"""Which rows of the target split are scored, and the batches from which f of a target is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

from trak_cli.config.schema import UnrollConfig
from trak_cli.stages.index.chosen_rows import choose_rows, choose_split
from trak_cli.stages.inputs.split import Split
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.unrolling.contract import Target

#: Target samples of one forward pass; the graph of a group's outputs is kept for one pass at a time.
BATCH = 16


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
    split = choose_split("unroll", unroll.split, list(splits))
    rows = choose_rows("unroll", unroll.targets, split, len(splits[split]))
    every = unroll.targets is None and not unroll.group
    return TargetRows(split, len(splits[split]), None if every else ChosenTargets(rows, unroll.group))
