"""Tables of texts: JSONL, CSV and Parquet files, and data sets of Hugging Face's `datasets`, read row by row."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.plurals import counted
from trak_cli.user_errors import first_line
from trak_cli.user_files import parse_json

_FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")


class Table(Protocol):
    """Rows, each a mapping of columns to values."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> dict[str, Any]: ...


def read_table(path: str, columns: Sequence[str], split: str | None = None, subset: str | None = None) -> Table:
    """The named columns of a table.

    Args:
        path: a .jsonl, .csv, .tsv (with a line of column names) or .parquet file; a folder written by ``save_to_disk``; or a
            hub id of ``datasets``.
        columns: those that every row must have.
        split: of a data set; needed if there are several.
        subset: name of the hub data set's configuration, such as ``qnli`` of ``glue``.

    Raises:
        ConfigError: ``split`` is missing, unknown, or given for a file; ``datasets`` or pyarrow is not installed.
        InputError: no such file or data set, a damaged one, or one without these columns.
    """
    file = Path(path)
    if file.suffix in _FORMATS:
        if split is not None or subset is not None:
            found = f"split {split}, subset {subset}"
            raise ConfigError(Problem(f"dataset {path}", found, "neither of them: a file has none", "remove them"))
        if not file.is_file():
            raise InputError(Problem(path, "no such file", "a file", "correct the path"))
        return _from_parquet(file, columns) if file.suffix == ".parquet" else _from_text(file, columns)
    return _from_datasets(path, columns, split, subset)


def _from_text(file: Path, columns: Sequence[str]) -> Table:
    rows = []
    for line, row in text_rows(file):
        missing = [column for column in columns if column not in row]
        if missing:
            raise InputError(_no_column(f"{file} line {line}", missing[0], list(row)))
        rows.append({column: row[column] for column in columns})
    return rows


def text_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the row, as mapping of columns to values, of a .jsonl, .csv or .tsv file.

    Raises:
        InputError: the file cannot be read, or a line is no row.
    """
    try:
        yield from (_json_lines if file.suffix.lower() == ".jsonl" else _separated)(file)
    except UnicodeDecodeError as error:
        remedy = "convert the file to UTF-8"
        raise InputError(Problem(str(file), f"bytes that are no UTF-8 ({error.reason})", "UTF-8 text", remedy)) from error
    except OSError as error:
        raise InputError(Problem(str(file), f"{error.strerror}", "a readable file", "correct the path")) from error


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, row); empty lines are skipped."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                where = f"{file} line {number}"
                raise InputError(Problem(where, f"{error}", "one JSON object", "correct or remove the line")) from error
            if not isinstance(row, dict):
                where = f"{file} line {number}"
                raise InputError(Problem(where, type(row).__name__, "one JSON object", "correct or remove the line"))
            yield number, row


def _separated(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row's last line, row) of comma- or tab-separated values with a header line."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    found = f"{'more' if None in row else 'fewer'} values than column names"
                    where = f"{file} line {reader.line_num}"
                    raise InputError(Problem(where, found, counted(len(reader.fieldnames or []), "value"), "correct the line"))
                yield reader.line_num, row
        except csv.Error as error:
            where = f"{file} line {reader.line_num}"
            raise InputError(Problem(where, str(error), "separated values", "correct the line")) from error


def _from_parquet(file: Path, columns: Sequence[str]) -> Table:
    parquet = needed("pyarrow.parquet", "text", f"dataset {file}")
    arrow = needed("pyarrow", "text", f"dataset {file}")
    try:
        names = parquet.read_schema(file).names
        InputError.raise_for(_no_column(str(file), column, names) for column in columns if column not in names)
        rows: list[dict[str, Any]] = parquet.read_table(file, columns=list(columns)).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        remedy = "write the file again"
        raise InputError(Problem(str(file), first_line(error), "a Parquet file", remedy)) from error
    return rows


def _from_datasets(path: str, columns: Sequence[str], split: str | None, subset: str | None) -> Table:
    datasets = needed("datasets", "text", f"dataset {path}")
    try:
        found = datasets.load_from_disk(path) if Path(path).is_dir() else datasets.load_dataset(path, subset)
    except Exception as error:  # the package raises errors of a dozen classes
        expected = f"a file ({', '.join(_FORMATS)}), a folder of save_to_disk, or a hub id that can be reached"
        raise InputError(Problem(f"dataset {path}", first_line(error), expected, "correct the path or id")) from error
    if isinstance(found, dict):
        if split not in found:
            expected = f"one of {', '.join(found)}"
            raise ConfigError(Problem(f"dataset {path}", f"split {split}", expected, "give the dataset split: NAME"))
        found = found[split]
    elif split is not None and str(found.split) != split:
        raise ConfigError(Problem(f"dataset {path}", f"split {split}", f"the only one, {found.split}", "remove split"))
    names = found.column_names
    InputError.raise_for(_no_column(f"dataset {path}", column, names) for column in columns if column not in names)
    table: Table = found.select_columns(list(columns))
    return table


def _no_column(where: str, column: str, names: Sequence[str]) -> Problem:
    meant = difflib.get_close_matches(column, map(str, names), n=1)
    remedy = f"did you mean {meant[0]}?" if meant else "give the data set the name of its column, such as text=NAME"
    return Problem(where, f"the columns {', '.join(map(str, names)) or 'of no name'}", f"a column {column}", remedy)
