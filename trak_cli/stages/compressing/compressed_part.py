"""One part of the compressed features: the arrays of its file, and what they must be to be used."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.compressed import PER_BYTE, Basis, CompressedRows, compress
from trak_cli.store.container import Image
from trak_cli.store.failures import foreign
from trak_cli.store.partial.single_rows import PlaceInFile, row_digests
from trak_cli.store.safety.records import require_shapes
from trak_cli.store.shards import FeatureShard
from trak_cli.types import AnyArray, Float32, Rows

_PART = "a part of compressed features"
_ROWS = {"scales": "float32", "lengths": "float32", "out_to_loss": "float32", "row_digests": "uint64"}


@dataclass(frozen=True)
class CompressedPart:
    """Some training rows under one checkpoint.

    Attributes:
        out_to_loss: (r,) float32, q, as the shards have it.
        row_digests: (r,) of the features of each row.
        places: of the features in each shard.
    """

    rows: Rows
    compressed: CompressedRows
    out_to_loss: Float32
    row_digests: npt.NDArray[np.uint64]
    places: list[PlaceInFile]


def part_arrays(basis: Basis, shards: Iterable[FeatureShard]) -> dict[str, AnyArray]:
    """The datasets of a part with the rows of these shards."""
    columns, places = [], []
    for shard in shards:
        columns.append((*compress(basis, shard.features), shard.out_to_loss, row_digests(shard.features)))
        places.append(shard.place)
    names = (*CompressedRows._fields, "out_to_loss", "row_digests")
    whole = [np.concatenate(column) for column in zip(*columns, strict=True)]
    arrays: dict[str, AnyArray] = dict(zip(names, whole, strict=True))
    arrays["shard_digests"] = np.array([list(bytes.fromhex(place.digest)) for place in places], np.uint8)
    arrays["shard_starts"] = np.array([(place.start, place.scales) for place in places], np.int64)
    return arrays


def part_of(path: Path, image: Image, rows: Rows, sizes: tuple[int, int]) -> CompressedPart:
    """A part, once its values fit together; ``sizes``: rows of a shard, and k."""
    shards, width = math.ceil(len(rows) / sizes[0]), math.ceil(sizes[1] / PER_BYTE)
    expected: dict[str, tuple[int | None, ...]] = dict.fromkeys(_ROWS, (len(rows),))
    expected |= {"codes": (len(rows), width), "shard_digests": (shards, 32), "shard_starts": (shards, 2)}
    require_shapes(path, image.shapes, expected, _PART)
    arrays = image.arrays
    dtypes = _ROWS | {"codes": "uint8", "shard_digests": "uint8", "shard_starts": "int64"}
    fits = all(image.dtypes[name] == dtype for name, dtype in dtypes.items())
    if not fits or not all(np.isfinite(arrays[name]).all() for name, dtype in _ROWS.items() if dtype == "float32"):
        raise foreign(path, f"dtypes {image.dtypes}, or values that are not finite", _PART)
    starts = arrays["shard_starts"].tolist()
    digests = [bytes(digest).hex() for digest in arrays["shard_digests"]]
    places = [PlaceInFile(digest, *start) for digest, start in zip(digests, starts, strict=True)]
    compressed = CompressedRows(*(arrays[name] for name in CompressedRows._fields))
    return CompressedPart(rows, compressed, arrays["out_to_loss"], arrays["row_digests"], places)
