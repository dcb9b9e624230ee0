"""Scores in three columns, in any order: how a matrix is collected from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import LongRows, ScoreTable, Source, matrix_table, unreadable
from trak_cli.results.exchange.staging import array_on_disk

#: The names of the columns.
COLUMNS = ("target", "row", "score")


def collect(source: Source, parts: Callable[[], Iterator[LongRows]]) -> ScoreTable:
    """The matrix (targets, n) of scores in three columns, kept in a file of the scratch folder.

    Targets keep the order in which they first appear.

    Args:
        parts: reads the columns; it is called twice.

    Raises:
        InputError: there are no scores, or a pair of a target and a training row is missing, negative or there twice.
    """
    places: dict[int, int] = {}
    count, training = 0, 0
    for part in parts():
        if len(part.rows) and (part.rows.min() < 0 or part.targets.min() < 0):
            raise unreadable(source.path, f"row {min(part.rows.min(), part.targets.min())}", "rows, counted from 0")
        first = np.sort(np.unique(part.targets, return_index=True)[1])
        for target in part.targets[first].tolist():
            places.setdefault(target, len(places))
        count += len(part.rows)
        training = max(training, int(part.rows.max(initial=-1)) + 1)
    if not count:
        raise unreadable(source.path, "no scores", "lines of target, row and score")
    if count != len(places) * training:
        raise InputError(_incomplete(source, count, len(places), training))
    scores = array_on_disk(source.scratch / "scores.npy", np.dtype(np.float32), (len(places), training))
    for row in scores:
        row[:] = np.nan
    targets = np.array(sorted(places), np.int64)
    order = np.array([places[target] for target in targets.tolist()])
    for part in parts():
        scores[order[np.searchsorted(targets, part.targets)], part.rows] = part.scores
    if any(np.isnan(row).any() for row in scores):  # as many pairs as places, but not every place has one
        raise unreadable(source.path, "a pair of target and row that is there twice, or a NaN", "one score for each pair")
    return matrix_table(source.path, scores, list(places))


def _incomplete(source: Source, count: int, targets: int, training: int) -> Problem:
    found = f"{counted(count, 'score')} of {counted(targets, 'target')} and {counted(training, 'training row')}"
    remedy = "export every score (not only the highest and lowest)"
    return Problem(str(source.path), found, f"{targets * training:,}, one for each pair", remedy)
