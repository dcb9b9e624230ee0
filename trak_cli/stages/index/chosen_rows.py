"""Which split and which of its rows a command is about: the keys ``SECTION.split`` and ``SECTION.targets`` of each."""

from __future__ import annotations

from collections.abc import Sequence

from trak_cli.errors import ConfigError, Problem
from trak_cli.types import TRAIN, listed, repeated


def choose_split(section: str, split: str | None, names: Sequence[str]) -> str:
    """The target split that a section of the configuration names, or the only one.

    Args:
        section: for example ``unroll``, for ``unroll.split``.
        names: of all splits; that of the training samples is left out.

    Raises:
        ConfigError: there is no such split, or several to choose from.
    """
    known = [name for name in names if name != TRAIN]
    if split is None and len(known) == 1:
        return known[0]
    if split is not None and split in known:
        return split
    expected = f"one of: {', '.join(known)}" if known else "a target split"
    remedy = f"give {section}.split={known[0]}, for example" if known else "describe one by dataset.targets.NAME, and featurize"
    raise ConfigError(Problem(f"{section}.split", "nothing" if split is None else split, expected, remedy))


def choose_rows(section: str, targets: Sequence[int] | None, split: str, total: int) -> tuple[int, ...]:
    """The rows of a split that a section of the configuration names, in its order; all of them for None.

    Args:
        total: the number of rows of the split.

    Raises:
        ConfigError: a row is not in the split, or given twice; or the list is empty.
    """
    if targets is None:
        return tuple(range(total))
    where, remedy = f"{section}.targets", "correct the list, or leave it out for all rows"
    if not targets:
        raise ConfigError(Problem(where, "an empty list", f"rows of {split}: 0 to {total - 1}", remedy))
    if outside := [row for row in targets if not 0 <= row < total]:
        found = listed([str(row) for row in outside])
        raise ConfigError(Problem(where, found, f"rows of {split}: 0 to {total - 1}", remedy))
    if twice := repeated(targets):
        found = f"{listed([str(row) for row in twice])} more than once"
        raise ConfigError(Problem(where, found, "each row once", remedy))
    return tuple(targets)
