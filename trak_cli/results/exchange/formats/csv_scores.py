"""CSV with the columns target, row, score: one line for each pair, or for the highest and lowest scores only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from trak_cli.results.exchange.contract import LongRows, ScoreStream, ScoreTable, Source, long_rows, unreadable
from trak_cli.results.exchange.formats.long_scores import COLUMNS, collect

_LINES_AT_ONCE = 200_000


def write(path: Path, stream: ScoreStream) -> None:
    """Write every score."""
    write_rows(path, long_rows(stream))


def write_rows(path: Path, parts: Iterable[LongRows]) -> None:
    """Write some scores. Nine digits restore a float32 exactly."""
    with path.open("w", encoding="ascii") as file:
        file.write(",".join(COLUMNS) + "\n")
        for part in parts:
            columns = zip(part.targets.tolist(), part.rows.tolist(), part.scores.tolist(), strict=True)
            file.writelines(f"{target},{row},{score:.9g}\n" for target, row, score in columns)


def read(source: Source) -> ScoreTable:
    """Scores of a file with these columns, in any order, and with other columns beside them.

    Raises:
        InputError: a column is missing, a line has no numbers, or a pair is missing.
    """
    return collect(source, lambda: _parts(source.path))


def _parts(path: Path) -> Iterator[LongRows]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = [name.strip().strip('"') for name in file.readline().split(",")]
        if missing := [name for name in COLUMNS if name not in header]:
            raise unreadable(path, f"the columns {', '.join(header)[:100]}", f"also: {', '.join(missing)}")
        columns = [header.index(name) for name in COLUMNS]
        line = 2
        while lines := list(islice(file, _LINES_AT_ONCE)):
            try:
                values = np.loadtxt(lines, np.float64, delimiter=",", usecols=columns, ndmin=2)
            except ValueError as error:
                raise unreadable(path, f"in the lines from {line}: {error}", "numbers") from error
            if not (values[:, :2] % 1 == 0).all():
                raise unreadable(path, f"in the lines from {line}: a row that is no whole number", "rows, counted from 0")
            targets, rows, scores = values.T
            yield LongRows(targets.astype(np.int64), rows.astype(np.int64), scores.astype(np.float32))
            line += len(lines)
