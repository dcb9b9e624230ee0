"""Which rows and columns of the complete scores each score file covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.errors import Problem
from trak_cli.store.failures import ForeignError
from trak_cli.types import Rows

#: Cells between the edges of the sources, for each source, at most. A grid of sources has four, edges included.
_MOST_CELLS = 100


@dataclass(frozen=True)
class Source:
    """One score file and its place in the complete scores: the rows ``targets`` and the columns ``train``.

    Attributes:
        path: the file; its dataset "scores" is (targets, train) float32.
        targets: which targets.
        train: which training rows.
    """

    path: Path
    targets: Rows
    train: Rows

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.targets), len(self.train)


def require_tiling(path: Path, sources: Sequence[Source], shape: tuple[int, int]) -> None:
    """Raise unless every cell of ``shape`` belongs to exactly one source.

    Raises:
        ForeignError: the sources leave gaps, overlap or stick out.
    """
    edges = [
        np.unique([0, length, *(bound for source in sources for bound in bounds(getattr(source, axis)))])
        for axis, length in (("targets", shape[0]), ("train", shape[1]))
    ]
    if math.prod(len(edge) for edge in edges) > _MOST_CELLS * (len(sources) + 1):  # far more than those of a grid
        raise _no_tiling(path, shape)
    covered = np.zeros([len(edge) - 1 for edge in edges], dtype=np.int64)
    for source in sources:
        top, bottom = np.searchsorted(edges[0], bounds(source.targets))
        left, right = np.searchsorted(edges[1], bounds(source.train))
        covered[top:bottom, left:right] += 1
    inside = all(edge[0] == 0 and edge[-1] == length for edge, length in zip(edges, shape, strict=True))
    if not inside or (covered != 1).any():
        raise _no_tiling(path, shape)


def _no_tiling(path: Path, shape: tuple[int, int]) -> ForeignError:
    found = "sources that leave gaps, overlap or stick out"
    return ForeignError(Problem(str(path), found, f"{shape} covered once", "score again"))


def bounds(rows: Rows) -> list[int]:
    """Start and stop as a list, for JSON."""
    return [rows.start, rows.stop]


def overlap(a: Rows, b: Rows) -> Rows:
    """The rows that are in both ranges."""
    start = max(a.start, b.start)
    return Rows(start, max(start, min(a.stop, b.stop)))
