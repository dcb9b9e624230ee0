"""The score file of DATE-LM: JSON, one list over the training rows for each reference sample, or a single list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import ScoreStream, ScoreTable, Source, matrix_table, unreadable
from trak_cli.results.exchange.staging import spilled
from trak_cli.types import Float64
from trak_cli.user_files import parse_json

_NUMBERS_AT_ONCE = 65_536
_CHARACTERS_AT_ONCE = 1 << 20


def write(path: Path, stream: ScoreStream) -> None:
    """Write one list for each target; a single list for scores of the mean over a group."""
    single = stream.shape[0] == 1
    with spilled(stream, path) as scores, path.open("w", encoding="ascii") as file:
        file.write("" if single else "[")
        for number, row in enumerate(scores):
            file.write(",\n[" if number else "[")
            for start in range(0, len(row), _NUMBERS_AT_ONCE):
                numbers = (f"{score:.9g}" for score in row[start : start + _NUMBERS_AT_ONCE].tolist())
                file.write(("," if start else "") + ",".join(numbers))
            file.write("]")
        file.write("\n" if single else "]\n")


def read(source: Source) -> ScoreTable:
    """The scores of a file; a single list is one row of scores. One list is in memory at a time.

    Raises:
        InputError: the file is no list of numbers, or of lists of equal length.
    """
    path = source.path
    packed = source.scratch / "scores.f4"
    length: int | None = None
    count = 0
    with packed.open("wb") as file:
        for row in _rows(path):
            if length not in (None, len(row)) or not len(row):
                raise unreadable(
                    path, f"list {count} with {counted(len(row), 'number')}", f"{length or 'at least 1'}, as in the first"
                )
            length, count = len(row), count + 1
            row.astype(np.float32).tofile(file)
    if length is None:
        raise unreadable(path, "an empty list", "a list of scores for each reference sample")
    return matrix_table(path, np.memmap(packed, np.float32, "r", shape=(count, length)))


def _rows(path: Path) -> Iterator[Float64]:
    """Every innermost list. What stands between them must be brackets and commas of one list of lists."""
    with path.open(encoding="utf-8", errors="replace") as file:
        rest = file.read(_CHARACTERS_AT_ONCE).lstrip()
        nested = rest[1:].lstrip().startswith("[")
        if not rest.startswith("["):
            raise unreadable(path, f"a file that begins with {rest[:20]!r}", "a JSON list of scores")
        rest = rest[1:] if nested else rest
        first = True
        while True:
            parts = [rest]
            while "]" not in parts[-1] and (more := file.read(_CHARACTERS_AT_ONCE)):
                parts.append(more)
            text, closed, rest = "".join(parts).partition("]")
            if not closed:
                raise unreadable(path, "a file that ends inside a list", "a complete JSON list")
            if nested and not text.strip():
                break  # the end of the outer list
            text = text.lstrip()
            if not first:
                if not text.startswith(","):
                    raise unreadable(path, f"{text[:20]!r} between two lists", "a comma")
                text = text[1:].lstrip()
            yield _numbers(path, text + "]")
            first = False
            if not nested:
                break
        if (rest + file.read(_CHARACTERS_AT_ONCE)).strip():
            raise unreadable(path, "more text after the last list", "one JSON list")


def _numbers(path: Path, text: str) -> Float64:
    try:
        values = parse_json(text)
        array = np.array(values)
    except ValueError as error:
        raise unreadable(path, f"no list of numbers ({error})", "a JSON list of scores") from error
    if not isinstance(values, list) or array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise unreadable(path, f"no list of numbers ({text[:20]!r})", "a JSON list of scores")
    return array.astype(np.float64)
