"""What the formats exchange: scores that are written block by block, and scores that are read in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.types import AnyArray, Float32, IntArray, Json, Rows

#: Yields (targets by their place among the scores, training rows, scores of that shape).
ScoreBlocks = Iterator[tuple[Rows, Rows, Float32]]

#: The number that stands for the mean over a group of targets where a format has a column of target rows.
GROUP = -1


@dataclass(frozen=True)
class ScoreStream:
    """Dense scores that are exported. Positive: training on the sample raises f of the target.

    Attributes:
        shape: (targets, training rows).
        targets: the row of the split of every target, or (:data:`GROUP`,) for scores of the mean over a group.
        about: where the scores come from, for formats that can store it.
        blocks: reads the scores, in blocks of targets and within each in ascending training rows.
    """

    shape: tuple[int, int]
    targets: Sequence[int]
    about: Json
    blocks: Callable[[], ScoreBlocks]


@dataclass(frozen=True)
class LongRows:
    """Scores as three columns of equal length: the row of the target, the training row, and the score."""

    targets: IntArray
    rows: IntArray
    scores: Float32


@dataclass(frozen=True)
class ArrayStream:
    """Named arrays that are exported in parts.

    Attributes:
        arrays: name -> (shape, dtype).
        about: where they come from.
        parts: yields (name, the place in that array, its values); together they fill all arrays.
    """

    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    about: Json
    parts: Callable[[], Iterator[tuple[str, tuple[slice, ...], AnyArray]]]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of another program that are imported, in this program's orientation and sign.

    Attributes:
        shape: (targets, training rows).
        read: the scores of some targets and training rows.
        targets: the row of the split of every target, where the file has it.
        notes: what the file does not say and was assumed.
    """

    shape: tuple[int, int]
    read: Callable[[Rows, Rows], AnyArray]
    targets: Sequence[int] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What is imported.

    Attributes:
        path: a file or a folder.
        experiment: the name of the scores in a folder that has several.
        scratch: an empty folder for temporary files, on the disk of the store.
    """

    path: Path
    experiment: str | None
    scratch: Path


def score_arrays(stream: ScoreStream) -> ArrayStream:
    """Dense scores as the arrays ``scores`` (targets, n) and ``targets`` (targets,)."""
    targets = np.array(stream.targets, np.int64)

    def parts() -> Iterator[tuple[str, tuple[slice, ...], AnyArray]]:
        yield "targets", (slice(0, len(targets)),), targets
        for places, rows, block in stream.blocks():
            yield "scores", (slice(places.start, places.stop), slice(rows.start, rows.stop)), block

    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "scores": (stream.shape, np.dtype(np.float32)),
        "targets": (targets.shape, targets.dtype),
    }
    return ArrayStream(arrays, stream.about, parts)


def long_rows(stream: ScoreStream) -> Iterator[LongRows]:
    """Dense scores as three columns, one part for each target of each block."""
    for places, rows, block in stream.blocks():
        training = np.arange(rows.start, rows.stop)
        for place, scores in zip(places, block, strict=True):
            yield LongRows(np.full(len(rows), stream.targets[place]), training, scores)


def matrix_table(path: Path, scores: Any, targets: Any = None) -> ScoreTable:
    """Scores from an array (targets, n), which may be mapped from a file, or anything that is sliced like one.

    Args:
        targets: the rows of the targets, where the file has them: an array, or anything that becomes one.

    Raises:
        InputError: it has other than two dimensions, or holds no real numbers; or the targets are not one row number for each.
    """
    if len(scores.shape) != 2 or 0 in scores.shape or scores.dtype.kind not in "fiu":
        found = f"{scores.dtype} of shape {scores.shape}"
        raise InputError(Problem(str(path), found, "numbers with two dimensions", "save the scores of all targets as a matrix"))
    shape = (int(scores.shape[0]), int(scores.shape[1]))
    same_length = targets is None or tuple(np.shape(targets) if isinstance(targets, list) else targets.shape) == shape[:1]
    rows = None if targets is None else np.asarray(targets if same_length else [])
    if rows is not None and (rows.dtype.kind not in "iu" or rows.shape != shape[:1]):
        raise unreadable(path, f"targets: {rows.dtype} of shape {rows.shape}", counted(shape[0], "row number"))
    known = None if rows is None else rows.tolist()
    return ScoreTable(shape, lambda t, r: scores[t.start : t.stop, r.start : r.stop], known)


def unreadable(path: Path, found: str, expected: str) -> InputError:
    """The error for a file that is not what its format demands."""
    return InputError(Problem(str(path), found, expected, "correct --file or --format, or write the file again"))
