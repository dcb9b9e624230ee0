"""Parquet with the columns target, row, score; features with one row for each sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.plugins.optional import needed
from trak_cli.results.exchange.contract import ArrayStream, LongRows, ScoreStream, ScoreTable, Source, long_rows, unreadable
from trak_cli.results.exchange.formats.long_scores import COLUMNS, collect
from trak_cli.user_files import require_plausible

_ROWS_AT_ONCE = 1_000_000

#: Of a row in memory: two int64 and a float32.
_ROW_BYTES = 20


def write(path: Path, stream: ScoreStream) -> None:
    """Write every score."""
    write_rows(path, long_rows(stream))


def write_rows(path: Path, parts: Iterable[LongRows]) -> None:
    """Write some scores, about a million to a row group."""
    arrow, parquet = _packages()
    schema = arrow.schema(list(zip(COLUMNS, (arrow.int64(), arrow.int64(), arrow.float32()), strict=True)))
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _grouped(parts):
            columns = [[getattr(part, name) for part in group] for name in ("targets", "rows", "scores")]
            writer.write_table(arrow.table([np.concatenate(column) for column in columns], schema=schema))


def write_arrays(path: Path, stream: ArrayStream) -> None:
    """Write arrays of equal length, one column each, a matrix as lists of fixed length.

    All parts of one range of rows must follow one another.
    """
    arrow, parquet = _packages()
    fields = {}
    for name, (shape, dtype) in stream.arrays.items():
        kind = arrow.from_numpy_dtype(dtype)
        fields[name] = kind if len(shape) == 1 else arrow.list_(kind, shape[1])
    schema = arrow.schema(list(fields.items()))
    with parquet.ParquetWriter(path, schema) as writer:
        columns: dict[str, Any] = {}
        for name, _, values in stream.parts():
            flat = arrow.array(values.reshape(-1))
            columns[name] = flat if values.ndim == 1 else arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
            if len(columns) == len(fields):
                writer.write_table(arrow.table([columns[name] for name in fields], schema=schema))
                columns = {}


def read(source: Source) -> ScoreTable:
    """Scores of a file with these columns.

    Raises:
        InputError: the file cannot be read, a column is missing or holds no numbers, or a pair is missing.
    """
    arrow, parquet = _packages()
    try:
        with parquet.ParquetFile(source.path) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            require_plausible(str(source.path), _ROW_BYTES * file.metadata.num_rows, source.path.stat().st_size)
    except (OSError, arrow.ArrowException) as error:
        raise unreadable(source.path, f"a file that cannot be read ({error})", "a Parquet file") from error
    if missing := [name for name in COLUMNS if name not in kinds]:
        raise unreadable(source.path, f"the columns {', '.join(kinds)[:100]}", f"also: {', '.join(missing)}")
    if wrong := [name for name in COLUMNS if not (arrow.types.is_integer(kinds[name]) or arrow.types.is_floating(kinds[name]))]:
        raise unreadable(source.path, f"{wrong[0]} of type {kinds[wrong[0]]}", "numbers")
    return collect(source, lambda: _parts(source.path))


def _parts(path: Path) -> Iterator[LongRows]:
    _, parquet = _packages()
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(COLUMNS)):
            if any(batch.column(name).null_count for name in COLUMNS):
                raise unreadable(path, "an empty cell", "a number in each")
            targets, rows, scores = (batch.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS)
            yield LongRows(targets.astype(np.int64), rows.astype(np.int64), scores.astype(np.float32))


def _grouped(parts: Iterable[LongRows]) -> Iterator[list[LongRows]]:
    group: list[LongRows] = []
    for part in parts:
        group.append(part)
        if sum(len(one.rows) for one in group) >= _ROWS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _packages() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet."""
    return needed("pyarrow", "tables", "--format parquet"), needed("pyarrow.parquet", "tables", "--format parquet")
