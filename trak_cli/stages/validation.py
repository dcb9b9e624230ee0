"""Samples that the task cannot take, called by their row: a task knows only positions in a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from trak_cli.tasks import SampleError, Task


def validate(task: Task, model: nn.Module, batch: Any, split: str, rows: Iterable[int]) -> None:
    """Let the task look at a batch of the samples ``rows`` (the last one may be repeated to fill it up).

    Raises:
        InputError: names the first sample that is refused.
    """
    try:
        task.validate(model, batch)
    except SampleError as bad:
        numbers = list(rows)
        raise bad.renamed(f"sample {numbers[min(bad.position, len(numbers) - 1)]} of {split}") from None
