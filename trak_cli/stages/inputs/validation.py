"""Lets the task check samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from trak_cli.errors import InputError
from trak_cli.stages.inputs.input_shapes import shape_hint
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import SampleError, Task
from trak_cli.types import listed
from trak_cli.user_errors import report_user_errors


def validate_batch(task: Task, model: nn.Module, batch: Any, split: Split, rows: Iterable[int]) -> None:
    """Let the task check a batch of the samples ``rows``; the last one may be repeated as padding.

    Raises:
        InputError: names the first sample that the task refuses.
    """
    numbers = list(rows)
    where = f"sample{'s'[: len(numbers) > 1]} {listed([str(number) for number in numbers])} of {split.name}"
    try:
        with report_user_errors(where, library=True):
            task.validate(model, batch)
    except SampleError as error:
        raise error.renamed(f"sample {numbers[min(error.position, len(numbers) - 1)]} of {split.name}") from None
    except InputError as error:
        cause = error.__cause__
        hint = None if cause is None else shape_hint(cause, batch, split)
        if hint is None:
            raise
        raise InputError(replace(problem, remedy=f"{hint}; {problem.remedy}") for problem in error.problems) from cause
