"""The score tensors of dattri: (training rows, targets), as its attributors return them, in a file of torch.save."""

from __future__ import annotations

from pathlib import Path

from trak_cli.results.exchange.contract import ScoreStream, ScoreTable, Source, matrix_table
from trak_cli.results.exchange.formats.tensors import load_tensor, save_tensor
from trak_cli.results.exchange.staging import spilled


def write(path: Path, stream: ScoreStream) -> None:
    """Write one tensor (training rows, targets)."""
    with spilled(stream, path, transposed=True) as scores:
        save_tensor(path, scores)


def read(source: Source) -> ScoreTable:
    """The scores of a tensor (training rows, targets).

    Raises:
        InputError: the file holds something else.
    """
    return matrix_table(source.path, load_tensor(source.path).T)
