"""Scores of chosen targets: which rows of the split they belong to. It is part of the fingerprint of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trak_cli.plurals import counted
from trak_cli.types import Json, listed

#: The key of a fingerprint; without it, the scores are of every row of the split.
KEY = "chosen"


@dataclass(frozen=True)
class ChosenTargets:
    """Some rows of a target split.

    Attributes:
        rows: their row numbers, each once, in the order of the scores.
        group: True for one row of scores, those of the mean of f over ``rows``.

    Raises:
        ValueError: no row, a negative one, or the same one twice.
    """

    rows: tuple[int, ...]
    group: bool = False

    def __post_init__(self) -> None:
        if not self.rows or min(self.rows) < 0 or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"chosen targets {self.rows}: expected different row numbers, at least one")

    @property
    def count(self) -> int:
        """The number of rows of scores."""
        return 1 if self.group else len(self.rows)

    def entry(self) -> Json:
        """The entry of the fingerprint."""
        return {KEY: {"rows": list(self.rows), "group": self.group}}

    @classmethod
    def of(cls, fingerprint: Json) -> ChosenTargets | None:
        """The chosen targets of scores with this fingerprint; None if they are of every row of the split.

        Raises:
            ValueError: the entry is not one that :meth:`entry` returns.
        """
        match fingerprint.get(KEY):
            case None:
                return None
            case {"rows": list(rows), "group": bool(group)} if all(type(row) is int for row in rows):
                return cls(tuple(rows), group)
            case other:
                raise ValueError(f"{KEY}: {other!r}")

    def position(self, row: int) -> int | None:
        """The row of the scores that belongs to this row of the split; None if there is none."""
        return self.rows.index(row) if not self.group and row in self.rows else None

    def __str__(self) -> str:
        rows = listed([str(row) for row in self.rows], 8)
        if self.group:
            return f"the mean of f over {counted(len(self.rows), 'target')} (rows {rows})"
        return f"{len(self.rows)} chosen target(s) (rows {rows})"


def positions(chosen: ChosenTargets | None, targets: Sequence[int]) -> list[int]:
    """The rows of the scores of these rows of the split.

    Raises:
        ValueError: the scores have no row for one of them.
    """
    if chosen is None:
        return list(targets)
    found = [chosen.position(target) for target in targets]
    if any(position is None for position in found):
        raise ValueError(f"targets {list(targets)} are not all among {chosen}")
    return [position for position in found if position is not None]
