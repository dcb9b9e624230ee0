"""Lets the task check samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from trak_cli.tasks import SampleError, Task
from trak_cli.types import listed
from trak_cli.user_errors import report_user_errors


def validate_batch(task: Task, model: nn.Module, batch: Any, split: str, rows: Iterable[int]) -> None:
    """Let the task check a batch of the samples ``rows``; the last one may be repeated as padding.

    Raises:
        InputError: names the first sample that the task refuses.
    """
    numbers = list(rows)
    where = f"sample{'s'[: len(numbers) > 1]} {listed([str(number) for number in numbers])} of {split}"
    try:
        with report_user_errors(where, library=True):
            task.validate(model, batch)
    except SampleError as error:
        raise error.renamed(f"sample {numbers[min(error.position, len(numbers) - 1)]} of {split}") from None
