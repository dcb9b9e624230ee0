"""Files in which users say which training rows are flipped, planted or marked, and which classes samples have."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.types import BoolArray, IntArray
from trak_cli.user_files import parse_json

_TEXT = (".txt", ".csv", ".json")


def read_flags(option: str, path: Path | Sequence[int], rows: int) -> BoolArray:
    """Which training rows a file or a list names, (rows,): row numbers, one a line or in a list; or a 0 or 1 for every row.

    Args:
        option: for messages.
        path: .txt or .csv with a number a line, .json with a list, or .npy; or the numbers themselves.

    Raises:
        InputError: the file cannot be read, names other rows, or names none or all of them.
    """
    values = np.asarray(_numbers(option, path) if isinstance(path, Path) else path)
    whole = (
        values.ndim == 1
        and values.size
        and (values.dtype.kind in "biu" or (values.dtype.kind == "f" and not (values % 1).any()))
    )
    if not whole:
        raise _refused(option, path, f"{values.dtype} of shape {values.shape}", "a list of row numbers")
    if values.dtype == np.bool_ or (len(values) == rows and set(np.unique(values)) <= {0, 1} and rows > 2):
        if len(values) != rows:
            raise _refused(option, path, f"flags of {counted(len(values), 'row')}", f"{rows}, one for each training row")
        flags = values.astype(np.bool_)
    else:
        if values.min() < 0 or values.max() >= rows:
            raise _refused(option, path, f"rows {values.min():g} to {values.max():g}", f"training rows 0 to {rows - 1}")
        flags = np.zeros(rows, np.bool_)
        flags[values.astype(np.int64)] = True
    if flags.all() or not flags.any():
        raise _refused(
            option, path, f"{int(flags.sum())} of {counted(rows, 'row')}", "some of the training rows, and not all of them"
        )
    return flags


def read_relevant(option: str, path: Path, targets: int, rows: int) -> dict[int, IntArray]:
    """The relevant training rows of targets.

    Args:
        path: .csv with the columns target and row, or .json: an object {"target": [rows]} or a list of lists, one for each
            target. A target without rows is left out.

    Raises:
        InputError: the file cannot be read, or names targets or rows that do not exist.
    """
    found: dict[int, set[int]] = {}
    try:
        for target, row in _pairs(option, path):
            found.setdefault(target, set()).add(row)
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        expected = 'a .csv with the columns target and row, or a .json {"target": [rows], …}'
        raise _refused(option, path, f"another form ({error})", expected) from error
    named = [row for some in found.values() for row in some]
    if not named:
        raise _refused(option, path, "no rows", "at least one target with its training rows")
    if min(found) < 0 or max(found) >= targets:
        raise _refused(option, path, f"targets {min(found)} to {max(found)}", f"rows 0 to {targets - 1} of the split")
    if min(named) < 0 or max(named) >= rows:
        raise _refused(option, path, f"rows {min(named)} to {max(named)}", f"training rows 0 to {rows - 1}")
    return {target: np.array(sorted(some), np.int64) for target, some in sorted(found.items())}


def read_classes(option: str, path: Path, targets: int, rows: int) -> tuple[IntArray, IntArray]:
    """The classes of the training samples (rows,) and of the targets (targets,), from the arrays ``train`` and ``targets``.

    Raises:
        InputError: the file cannot be read, or has other numbers of samples.
    """
    arrays = read_array_file(path, ("train", "targets"))
    for name, count in (("train", rows), ("targets", targets)):
        if arrays[name].shape != (count,) or arrays[name].dtype.kind not in "biuSU":
            found = f"{name}: {arrays[name].dtype} of shape {arrays[name].shape}"
            raise _refused(option, path, found, f"{count} whole numbers or names")
    return encoded(arrays["train"].tolist(), arrays["targets"].tolist())


def encoded(train: list[Any], targets: list[Any]) -> tuple[IntArray, IntArray]:
    """Labels of any kind as numbers, the same number for equal labels."""
    codes: dict[str, int] = {}
    first, second = ([codes.setdefault(str(label), len(codes)) for label in labels] for labels in (train, targets))
    return np.array(first, np.int64), np.array(second, np.int64)


def _numbers(option: str, path: Path) -> Any:
    if path.suffix not in _TEXT:
        return read_array_file(path, ("rows",))["rows"]
    text = _text(option, path)
    try:
        if path.suffix == ".json":
            return parse_json(text)
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise _refused(option, path, f"no numbers ({error})", "one row number in each line") from error


def _pairs(option: str, path: Path) -> list[tuple[int, int]]:
    text = _text(option, path)
    if path.suffix == ".csv":
        return [(int(line["target"]), int(line["row"])) for line in csv.DictReader(text.splitlines())]
    content = parse_json(text)
    lists = content.items() if isinstance(content, dict) else enumerate(content)
    return [(int(target), int(row)) for target, rows in lists for row in rows]


def _text(option: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        found = "no such file" if missing else f"a file that cannot be read ({error})"
        expected, remedy = f"a text file ({', '.join(_TEXT)})", "correct the path" if missing else "correct the file"
        raise InputError(Problem(f"{option} {path}", found, expected, remedy)) from error


def _refused(option: str, path: Path | Sequence[int], found: str, expected: str) -> InputError:
    file = isinstance(path, Path)
    place, remedy = (f"{option} {path}", "correct the file") if file else (option, "correct the list")
    return InputError(Problem(place, found, expected, remedy))
