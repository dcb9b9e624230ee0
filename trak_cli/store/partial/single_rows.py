"""Single rows of a feature shard, without reading the whole file.

The digest of a file covers all of it, so a part of the bytes cannot be checked with it. A reader of single rows needs a
digest of each row, taken when the whole file was checked, and the place of its features, noted at the same time.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem
from trak_cli.store.dtypes import SCALED_DTYPES, STORED_AS, EncodedRows, decode_rows
from trak_cli.store.failures import ForeignError, damaged
from trak_cli.store.header import HEADER_BYTES, read_header
from trak_cli.store.safety.visibility import open_stored
from trak_cli.types import Float32, IntArray

_SCALE = np.dtype("<f4")


@dataclass(frozen=True)
class PlaceInFile:
    """Where the features of a shard lie in its file.

    Attributes:
        digest: of the file, hexadecimal, as its header has it.
        start: offset of the first row of features.
        scales: offset of the scales of the rows; 0 for a dtype without scales.
    """

    digest: str
    start: int
    scales: int


def row_digests(features: Float32) -> npt.NDArray[np.uint64]:
    """A digest of 64 bits of every row (r, k), (r,)."""
    rows = np.ascontiguousarray(features)
    digests = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<u8")


def read_single_rows(path: Path, place: PlaceInFile, rows: IntArray, dtype: str, k: int) -> Float32:
    """Some rows of a shard, (m, k) float32, as :func:`trak_cli.store.shards.read_features` returns them.

    The caller compares their :func:`row_digests`.

    Args:
        path: the file.
        place: where its features lie; it may come from a file of somebody else.
        rows: (m,) counted from the first row of the shard.
        dtype: of the stored features.

    Raises:
        MissingError: no such file.
        DamagedError: the file was cut short.
        ForeignError: it has another digest than ``place``, or ends before these rows.
        MachineError: it cannot be read.
    """
    header = read_header(path)
    if header.digest != place.digest:
        found = "a file that was written after trak compress read it"
        raise ForeignError(Problem(str(path), found, "the file that was compressed", "run trak compress"))
    stored = STORED_AS[dtype]
    with open_stored(path) as file:
        values = _read(path, file.fileno(), (place.start, stored.itemsize * k, header.length), rows)
        scales = None
        if dtype in SCALED_DTYPES:
            scales = _read(path, file.fileno(), (place.scales, _SCALE.itemsize, header.length), rows).view(_SCALE)[:, 0]
    return decode_rows(EncodedRows(values.view(stored), scales), dtype)


def _read(path: Path, descriptor: int, extent: tuple[int, int, int], rows: IntArray) -> npt.NDArray[np.uint8]:
    """The bytes of some rows, (m, bytes of a row); ``extent``: start, bytes of a row, bytes of the file after its header."""
    start, size, length = extent
    if start < HEADER_BYTES or start + (int(rows.max()) + 1) * size > HEADER_BYTES + length:
        found = f"row {rows.max()} of {size} bytes, counted from byte {start}, as the compressed features say"
        remedy = "delete the folder compressed of the store, and run trak compress"
        raise ForeignError(Problem(str(path), found, f"a row within the {HEADER_BYTES + length} bytes of the file", remedy))
    pieces = [os.pread(descriptor, size, start + row * size) for row in rows.tolist()]
    if any(len(piece) < size for piece in pieces):
        raise damaged(path, "a file that was cut short while it was read")
    return np.frombuffer(b"".join(pieces), np.uint8).reshape(len(rows), size).copy()
