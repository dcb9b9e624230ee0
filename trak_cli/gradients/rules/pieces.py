"""How a large per-sample gradient is cut into pieces that a projector consumes one at a time."""

from __future__ import annotations

from collections.abc import Iterator

#: Bytes of a piece, by device type: small enough to stay in a cache until the projector reads it.
PIECE_BYTES = {"cpu": 4 * 2**20, "cuda": 2**28}

#: The most bytes of a piece. The C library maps each allocation of 32 MiB or more afresh, and filling it takes twice as long.
MOST_BYTES = {"cpu": 30 * 2**20, "cuda": 2**28}

#: Bytes of a convolution's unfolded input that exist at once.
UNFOLDED_BYTES = {"cpu": 6 * 2**20, "cuda": 2**28}

#: A matrix product with fewer rows than this, and fewer than terms in its sums, mostly loads its other factor.
_ROWS = 64


def runs(total: int, bytes_each: int, limit: int) -> Iterator[slice]:
    """[0, total) in consecutive runs, each as long as fits into ``limit`` bytes but at least 1."""
    step = max(limit // max(bytes_each, 1), 1)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def pieces_of_product(rows: int, terms: int, bytes_each: int, device_type: str) -> Iterator[slice]:
    """The rows of a product of matrices in consecutive runs, each of them one piece of a gradient.

    Args:
        terms: of the sum that an entry of the product is.
        bytes_each: of one row, for all samples.
    """
    wanted = max(PIECE_BYTES[device_type], min(terms, _ROWS) * bytes_each)
    return runs(rows, bytes_each, min(wanted, MOST_BYTES[device_type]))
