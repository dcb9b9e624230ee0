"""Targets that are evaluated, one by one or as a group."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.plurals import counted
from trak_cli.types import FloatArray


@dataclass(frozen=True)
class EvaluatedTargets:
    """Some rows of a target split, in ascending order.

    Attributes:
        rows: their numbers.
        group: whether their mean output is evaluated, instead of the output of each.
    """

    rows: tuple[int, ...]
    group: bool

    @property
    def count(self) -> int:
        """The number of outputs that are evaluated."""
        return 1 if self.group else len(self.rows)

    def __str__(self) -> str:
        return f"the mean over {counted(len(self.rows), 'target')}" if self.group else counted(len(self.rows), "target")

    def columns(self, values: FloatArray) -> FloatArray:
        """The last axis of an array over all targets of the split, cut to the evaluated ones; (…, 1) for a group: the mean."""
        chosen = values[..., list(self.rows)]
        return chosen.mean(axis=-1, keepdims=True) if self.group else chosen
