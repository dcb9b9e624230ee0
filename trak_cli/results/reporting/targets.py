"""Which targets a report shows, and in which order they are added to a page of limited size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trak_cli.results.scored import Scored
from trak_cli.types import evenly_spaced


@dataclass(frozen=True)
class Choice:
    """The targets of one split that a report may show.

    Attributes:
        rows: of the split, in the order in which they are added; one entry, None, for a group.
        positions: of these rows among the scores.
        available: how many targets have scores.
    """

    rows: Sequence[int | None]
    positions: Sequence[int]
    available: int


def choose_targets(scored: Scored, wanted: Sequence[int], most: int) -> Choice:
    """The wanted rows; without any, at most ``most`` of those that have scores, evenly spaced.

    The order of evenly spaced rows is that of a binary search: if a page is full before all of them are on it, those that are
    on it are still spread over the split.

    Raises:
        ConfigError, StoreError: a wanted row has no scores.
    """
    if scored.group is not None:
        scored.positions(wanted)  # refuses single targets
        return Choice([None], [0], 1)
    available = len(scored.target_rows)
    if wanted:
        rows = list(dict.fromkeys(wanted))
        return Choice(rows, scored.positions(rows), available)
    spaced = evenly_spaced(available, most).tolist()
    order = [spaced[place] for place in _spread(len(spaced))]
    return Choice([scored.target_rows[position] for position in order], order, available)


def _spread(count: int) -> list[int]:
    """0 … count − 1 in the order of their bits, reversed."""
    bits = max(count - 1, 0).bit_length()
    return sorted(range(count), key=lambda place: int(f"{place:0{bits or 1}b}"[::-1], 2))
