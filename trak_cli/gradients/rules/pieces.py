"""How a large per-sample gradient is cut into pieces that a projector consumes one at a time."""

from __future__ import annotations

from collections.abc import Iterator

#: Bytes of one piece of a gradient, by device type: small enough to stay in a cache until the projector reads it.
PIECE_BYTES = {"cpu": 2**24, "cuda": 2**28}

#: The same for convolutions, which unfold their input again for every piece.
FILTER_BYTES = {"cpu": 30 * 2**20, "cuda": 2**28}

#: Bytes of a convolution's unfolded input that exist at once.
UNFOLDED_BYTES = {"cpu": 6 * 2**20, "cuda": 2**28}


def runs(total: int, bytes_each: int, limit: int) -> Iterator[slice]:
    """[0, total) in consecutive runs, each as long as fits into ``limit`` bytes but at least 1."""
    step = max(limit // max(bytes_each, 1), 1)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
