"""The cache of explanations of quanda: a folder of tensors (targets of a batch, training rows), numbered from 0."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np

from trak_cli.results.exchange.contract import ScoreStream, ScoreTable, Source, matrix_table, unreadable
from trak_cli.results.exchange.formats.tensors import load_tensor, save_tensor
from trak_cli.results.exchange.staging import spilled
from trak_cli.types import AnyArray, Rows

_SCORES_IN_BATCH = 16_000_000


def write(path: Path, stream: ScoreStream) -> None:
    """Write batches of targets, all of the same size but the last."""
    path.mkdir()
    targets, rows = stream.shape
    batch = max(1, _SCORES_IN_BATCH // rows)
    with spilled(stream, path / "0.pt") as scores:
        for number, start in enumerate(range(0, targets, batch)):
            save_tensor(path / f"{number}.pt", scores[start : start + batch])


def is_ours(path: Path) -> bool:
    """Whether a file of a folder is one of a cache."""
    return path.suffix == ".pt"


def read(source: Source) -> ScoreTable:
    """The scores of all batches, in the order of their numbers.

    Raises:
        InputError: there is no batch, or they are of different training sets.
    """
    files = sorted(source.path.glob("*.pt"), key=_order)
    if not files:
        raise unreadable(source.path, "no .pt file", "the batches 0.pt, 1.pt, …")
    batches = [load_tensor(file) for file in files]  # mapped, not read
    lengths = {batch.shape[1]: file.name for batch, file in zip(batches, files, strict=True)}
    if len(lengths) > 1:
        found = ", ".join(f"{rows} in {name}" for rows, name in lengths.items())
        raise unreadable(source.path, f"batches of different numbers of training rows ({found})", "one number")
    starts = np.cumsum([0, *(len(batch) for batch in batches)]).tolist()

    def block(targets: Rows, rows: Rows) -> AnyArray:
        parts = [
            batches[number][max(targets.start - start, 0) : targets.stop - start, rows.start : rows.stop]
            for number, start in enumerate(starts[:-1])
            if number >= bisect_right(starts, targets.start) - 1 and start < targets.stop
        ]
        return np.concatenate(parts)

    first = matrix_table(files[0], batches[0])
    return ScoreTable((starts[-1], first.shape[1]), block)


def _order(file: Path) -> tuple[bool, int, str]:
    """Numbers first, in their order, then names."""
    number = file.stem.removeprefix("-")
    return not number.isdecimal(), int(file.stem) if number.isdecimal() else 0, file.stem
