"""The columns of a data file, and which of them hold what a kind of project needs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.plugins.text.records import text_rows

#: Rows that are read to tell the type of a column.
_ROWS = 200


def first_rows(path: Path, option: str = "--train") -> list[dict[str, Any]]:
    """The first rows of a .jsonl, .csv, .tsv or .parquet file.

    Raises:
        InputError: no such file, another kind of file, or no row.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise InputError(Problem(option, f"{path}: no such file", "a file of samples", "correct the path"))
    if kind not in _READERS:
        remedy = "convert it, or give --kind own with a data set of your own"
        raise InputError(Problem(option, str(path), f"a file that ends in {', '.join(_READERS)}", remedy))
    try:
        rows = _READERS[kind](path)
    except (ValueError, OSError, StopIteration) as error:
        raise InputError(Problem(str(path), str(error), "rows with named columns", "correct the file")) from error
    if not rows:
        raise InputError(Problem(str(path), "no row", "rows with named columns", "check what was written"))
    return rows


def columns_for(
    path: Path, rows: list[dict[str, Any]], wanted: Mapping[str, tuple[str, ...]], given: Mapping[str, str]
) -> dict[str, str]:
    """The column for each key: the given one, or the one that has a usual name.

    Raises:
        InputError: a given column does not exist, or no column has one of the usual names of a key; all at once.
    """
    held = {name.lower(): name for name in rows[0]}
    found = {key: next((held[name] for name in names if name in held), None) for key, names in wanted.items()} | dict(given)
    InputError.raise_for(
        [
            *absent(path, rows, list(given.values()), "correct --column"),
            *(
                Problem(str(path), _columns(rows), f"a column {key}", f"give --column {key}=NAME")
                for key, column in found.items()
                if column is None
            ),
        ]
    )
    return {key: column for key, column in found.items() if column is not None}


def absent(path: Path, rows: list[dict[str, Any]], needed: list[str], remedy: str) -> list[Problem]:
    """A problem for every needed column that the file does not have."""
    return [
        Problem(str(path), _columns(rows), f"a column {column}", remedy)
        for column in dict.fromkeys(needed)
        if column not in rows[0]
    ]


def _columns(rows: list[dict[str, Any]]) -> str:
    return f"the columns {', '.join(rows[0])}"


def number_columns(rows: list[dict[str, Any]], but: str) -> list[str]:
    """The columns whose values are all numbers, without one."""
    return [name for name in rows[0] if name != but and all(_is_number(row.get(name)) for row in rows)]


def class_names(rows: list[dict[str, Any]], column: str) -> list[str] | None:
    """The classes in alphabetical order, if the column holds names; None if it holds numbers."""
    values = [row.get(column) for row in rows]
    return None if all(map(_is_number, values)) else sorted({str(value) for value in values})


def is_whole(rows: list[dict[str, Any]], column: str) -> bool:
    """Whether every value of a column of numbers is whole."""
    return all(float(row[column]).is_integer() for row in rows)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _text(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in itertools.islice(text_rows(path), _ROWS)]


def _parquet(path: Path) -> list[dict[str, Any]]:
    batches = needed("pyarrow.parquet", "tables", str(path)).ParquetFile(path).iter_batches(batch_size=_ROWS)
    rows: list[dict[str, Any]] = next(batches).to_pylist()
    return rows


_READERS = {".jsonl": _text, ".csv": _text, ".tsv": _text, ".parquet": _parquet}
