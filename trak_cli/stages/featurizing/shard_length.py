"""The default number of rows in a shard."""

from __future__ import annotations

#: Seconds of work that an interruption may cost at most, and the bounds of the rows of a shard; all rows are powers of two.
SECONDS, LEAST, MOST = 120.0, 16, 1024

#: Shards of a split, at most, as long as they have fewer rows than ``MOST``.
SHARDS = 2**14


def rows_of_a_shard(seconds: float, microbatch: int, rows: int) -> int:
    """The rows that take one to two minutes: the largest power of two in [LEAST, MOST] that takes at most SECONDS.

    It is at least a microbatch, and not so small that the split has more than SHARDS shards. Features do not depend on it
    beyond rounding.

    Args:
        seconds: time of one sample.
        rows: of the split.
    """
    length = LEAST
    while length < MOST and (2 * length * seconds <= SECONDS or length < microbatch or length * SHARDS < rows):
        length *= 2
    return length
