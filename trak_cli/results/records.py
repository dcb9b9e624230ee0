"""Files of records: a CSV or Parquet table with a column for each name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.store.atomic_write import replace

FORMATS = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Check that a table can be written, before any work.

    Raises:
        ConfigError: another suffix, a folder, or a package that is not installed.
    """
    if path.suffix not in FORMATS or path.is_dir():
        found = f"{path}, a folder" if path.is_dir() else str(path)
        remedy = f"for example --out {path.stem or 'table'}.csv"
        raise ConfigError(Problem("--out", found, f"a file with the suffix {' or '.join(FORMATS)}", remedy))
    if path.suffix == ".parquet":
        needed("pyarrow.parquet", "tables", f"--out {path}")


def write_table(path: Path, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> None:
    """Write the records; None is an empty cell (null in Parquet). An existing file is replaced.

    Raises:
        MachineError: the file cannot be written.
    """
    replace(path, _parquet(path, columns, records) if path.suffix == ".parquet" else _csv(columns, records))


def _csv(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([record.get(name) for name in columns] for record in records)
    return text.getvalue().encode()


def _parquet(path: Path, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    arrow = needed("pyarrow", "tables", f"--out {path}")
    parquet = needed("pyarrow.parquet", "tables", f"--out {path}")
    buffer = arrow.BufferOutputStream()
    parquet.write_table(
        arrow.table({name: arrow.array(_alike([one.get(name) for one in records])) for name in columns}), buffer
    )
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def _alike(values: Sequence[Any]) -> list[Any]:
    """The values of a column; as texts if they are of several types, which Parquet does not have."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 or kinds == {int, float}:
        return list(values)
    return [None if value is None else str(value) for value in values]
