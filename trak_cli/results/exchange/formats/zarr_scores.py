"""Zarr groups (format 3) with the arrays ``scores`` (targets, n) and ``targets``, in chunks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trak_cli.plugins.optional import needed
from trak_cli.results.exchange.contract import (
    ArrayStream,
    ScoreStream,
    ScoreTable,
    Source,
    matrix_table,
    score_arrays,
    unreadable,
)
from trak_cli.user_files import parse_json, read_bytes, require_plausible

#: Length of a chunk in every dimension, at most.
_CHUNK = 1024

#: Chunks for each file, at most; those without a file have a constant value.
_MOST_EMPTY = 100

#: The codecs that are read. None of them runs code of the file.
_CODECS = {"bytes", "transpose", "blosc", "zstd", "gzip", "crc32c", "sharding_indexed"}


def write(path: Path, stream: ScoreStream) -> None:
    """Write every score."""
    write_arrays(path, score_arrays(stream))


def write_arrays(path: Path, stream: ArrayStream) -> None:
    """Write a group of arrays, with ``about`` as its attributes."""
    zarr = needed("zarr", "tables", "--format zarr")
    group = zarr.create_group(store=str(path), zarr_format=3, attributes=dict(stream.about))
    arrays = {
        name: group.create_array(name, shape=shape, dtype=dtype, chunks=tuple(max(1, min(size, _CHUNK)) for size in shape))
        for name, (shape, dtype) in stream.arrays.items()
    }
    for name, place, values in stream.parts():
        arrays[name][place] = values


def is_ours(path: Path) -> bool:
    """Whether a file of a folder is one of a Zarr group."""
    return path.name == "zarr.json" or "c" in path.parts


def read(source: Source) -> ScoreTable:
    """The array ``scores`` of a group, with ``targets`` where there is one.

    Raises:
        InputError: it is no Zarr group of format 3, lacks the array, or uses a codec that is not known to be harmless.
    """
    zarr = needed("zarr", "tables", "--format zarr")
    for name in ("", "scores"):
        _check(source.path / name)
    group = zarr.open_group(str(source.path), mode="r")
    targets = None
    if (source.path / "targets").exists():
        _check(source.path / "targets")
        targets = group["targets"]
        _require_stored(source.path / "targets", targets)
    _require_stored(source.path / "scores", group["scores"])
    return matrix_table(source.path, group["scores"], targets)


def _require_stored(folder: Path, array: Any) -> None:
    """Refuse an array that is much larger than its files: chunks without a file have a constant value."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    stored = sum(sizes)
    parts = math.prod(-(-size // part) for size, part in zip(array.shape, array.shards or array.chunks, strict=True))
    if parts > _MOST_EMPTY * len(sizes):
        raise unreadable(folder, f"{parts:,} chunks in {len(sizes):,} files", "a file for each chunk")
    require_plausible(str(folder), math.prod(array.shape) * array.dtype.itemsize, stored)
    require_plausible(f"{folder}: chunk", math.prod(array.chunks) * array.dtype.itemsize, stored)


def _check(folder: Path) -> None:
    """Refuse what is no Zarr of format 3, and every codec that may do more than decode numbers."""
    try:
        described = parse_json(read_bytes(folder / "zarr.json"))
        if described["zarr_format"] != 3:
            raise ValueError("another format than 3")
        unknown = set(_codecs(described.get("codecs", []))) - _CODECS
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, f"no Zarr of format 3 ({error})", "a group with the array scores") from error
    if unknown:
        raise unreadable(folder, f"the codec {', '.join(sorted(unknown))}", f"only {', '.join(sorted(_CODECS))}")


def _codecs(codecs: list[dict[str, Any]]) -> list[str]:
    """The names of codecs, and of those inside them."""
    names = []
    for codec in codecs:
        inner = codec.get("configuration", {})
        names += [codec["name"], *_codecs(inner.get("codecs", [])), *_codecs(inner.get("index_codecs", []))]
    return names
