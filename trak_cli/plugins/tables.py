"""Tables with named columns: numbers as inputs, a class or a number as label."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.new_samples import by_role
from trak_cli.plugins.optional import needed
from trak_cli.plugins.samples import extreme_rows
from trak_cli.plurals import counted
from trak_cli.types import Float64


class Table(Dataset[tuple[Tensor, Tensor]]):
    """The rows of a CSV or Parquet file: sample i is (inputs (d,) float32, label).

    Args:
        path: a .csv file whose first line names the columns, or a .parquet file (needs pyarrow).
        inputs: names of the input columns, in order.
        label: name of the label column: an integer class, or any number for regression.
        classes: names of the classes in the order of their labels, if the label column holds names.
        first, last: half-open range of rows; null: all.

    The label is int64 if ``classes`` is given or the whole column holds integers, else float32.

    Raises:
        InputError: no such file or column, or a value that is not a finite number (the first of each column).
        ConfigError: no inputs; pyarrow is not installed.
    """

    def __init__(
        self,
        path: str,
        inputs: Sequence[str],
        label: str,
        classes: Sequence[str] | None = None,
        first: int | None = None,
        last: int | None = None,
    ) -> None:
        if not inputs:
            raise ConfigError(Problem("dataset inputs", "an empty list", "the columns that the model takes", "name them"))
        columns = _columns(Path(path), [*inputs, label])
        problems: list[Problem] = []
        arrays = [_numbers(columns[name], f"{path}: {name}", problems) for name in inputs]
        places = {name: position for position, name in enumerate(classes or ())}
        truth = _numbers(columns[label], f"{path}: {label}", problems, places if classes is not None else None)
        InputError.raise_for(problems)
        whole = classes is not None or bool((truth == np.floor(truth)).all())
        rows = slice(first, last)
        self._inputs = torch.from_numpy(np.stack(arrays, axis=1).astype(np.float32))[rows]
        self._labels = torch.from_numpy(truth.astype(np.int64 if whole else np.float32))[rows]
        self._names, self._label, self._places = list(inputs), label, places

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self._inputs[i], self._labels[i]

    def sample_from(self, record: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The sample of a new row: a value of every column by its name; or ``row``, the inputs in order, and ``label``.

        Raises:
            InputError: a value is missing or unknown, or not a finite number.
        """
        names = {"row": "row"} if "row" in record else {name: name for name in self._names}
        values = by_role(record, {**names, "label": self._label})
        inputs = np.ravel(values["row"]).tolist() if "row" in record else [values[name] for name in self._names]
        if len(inputs) != len(self._names):
            expected = f"{len(self._names)}: {', '.join(self._names)}"
            raise InputError(Problem("row", counted(len(inputs), "value"), expected, "give a value of every input"))
        problems: list[Problem] = []
        row = [_numbers([value], name, problems)[0] for name, value in zip(self._names, inputs, strict=True)]
        label = _numbers([values["label"]], self._label, problems, self._places or None)
        InputError.raise_for(problems)
        return torch.tensor(row, dtype=torch.float32), torch.tensor(label[0]).to(self._labels.dtype)

    def rows_to_check(self, count: int) -> list[int]:
        """The rows of the smallest and the largest label."""
        return extreme_rows(self._labels)[:count]

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: its columns by name."""
        inputs = dict(zip(self._names, self._inputs[i].tolist(), strict=True))
        label = self._labels[i].item()
        return {**inputs, self._label: self.classes[int(label)] if self.classes else label}

    @property
    def label_name(self) -> str:
        """The name of the label in a description."""
        return self._label

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty if the label is a number."""
        return list(self._places)


def _columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The named columns."""
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "a .csv or .parquet file", "correct the path"))
    read = _parquet if path.suffix.lower() in (".parquet", ".pq") else _csv
    held = read(path)
    unknown, expected = [name for name in names if name not in held], f"one of: {', '.join(held)}"
    InputError.raise_for(Problem(str(path), f"no column {name!r}", expected, "correct it") for name in unknown)
    return {name: held[name] for name in names}


def _csv(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        found = f"a file that cannot be read as CSV ({error})"
        raise InputError(Problem(str(path), found, "UTF-8 text", "fix the file")) from error
    header, rows = (lines[0], [line for line in lines[1:] if line]) if lines else ([], [])
    for number, row in enumerate(rows):
        if len(row) != len(header):
            found = counted(len(row), "value")
            raise InputError(Problem(f"row {number} of {path}", found, f"{len(header)}, as in the first line", "fix the file"))
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    parquet = needed("pyarrow.parquet", "tables", "dataset")
    arrow = needed("pyarrow", "tables", "dataset")
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        found = f"a file that cannot be read ({error})"
        raise InputError(Problem(str(path), found, "a Parquet file", "fix the file")) from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _numbers(values: list[Any], where: str, problems: list[Problem], names: Mapping[str, int] | None = None) -> Float64:
    """A column as numbers; the first bad value is appended to ``problems``."""
    found = np.zeros(len(values))
    for row, value in enumerate(values):
        try:
            number = float(value) if names is None else names[str(value)]
        except (TypeError, ValueError, KeyError):
            number = float("nan")
        if not np.isfinite(number):
            expected = "a finite number" if names is None else f"one of {', '.join(names)}"
            remedy = "fill it, leave the row out, or give classes"
            problems.append(Problem(f"{where}, row {row}", repr(value), expected, remedy))
            break
        found[row] = number
    return found
