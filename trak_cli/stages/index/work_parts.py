"""How many training rows a unit of work of finalize, of compress, or of score with candidates, has."""

from __future__ import annotations

from collections.abc import Sequence

from trak_cli.stages.index.inventory import Inventory
from trak_cli.types import TRAIN, Rows, shards_of

#: About 2^34 / k² rows, whose sum takes about a second, within these bounds: a part with fewer rows would take longer to write
#: than to sum. A function of the features alone, never of the number of workers.
_LEAST_ROWS, _MOST_ROWS, _PRODUCTS = 2**14, 2**16, 2**34


def part_rows(given: int | None, dim: int) -> int:
    """The rows of a part, for features of ``dim`` numbers; ``given``: as configured."""
    return given or min(max(_PRODUCTS // dim**2, _LEAST_ROWS), _MOST_ROWS)


def parts_of_shards(given: int | None, inventory: Inventory) -> Sequence[Rows]:
    """The training rows in parts of at least that many rows that are whole shards."""
    length = inventory.plan.shard_rows
    shards = -(-part_rows(given, inventory.dim) // length)
    return shards_of(inventory.shards(TRAIN)[-1].stop, shards * length)
