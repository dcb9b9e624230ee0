"""The errors of gradient engines: a model or a task that breaks its contract, and lack of memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trak_cli.errors import InputError, MachineError, Problem
from trak_cli.user_errors import first_line


def checked_vector(values: Any, size: int, method: str) -> Tensor:
    """``values``, the result of a task's ``method`` for a batch of ``size`` samples, if it has the right form.

    Raises:
        InputError: not a floating tensor of shape (size,).
    """
    if isinstance(values, Tensor) and values.shape == (size,) and values.is_floating_point():
        return values
    found = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    remedy = "return one value per sample, without averaging over the batch"
    if size == 1 and isinstance(values, Tensor) and values.dim() == 0:
        remedy = "use squeeze(-1) instead of squeeze(), which also removes the batch dimension of a batch of one"
    expected = f"a floating tensor of shape ({size},): one value for each sample"
    raise InputError(Problem(f"task.{method}", f"{found} for a batch of {size}", expected, remedy))


def random_output(found: str) -> InputError:
    """The error for a model whose outputs differ between two runs."""
    expected = "an output that is a function of the sample and the parameters alone, in evaluation mode"
    return InputError(Problem("model", found, expected, "let dropout and other random layers follow self.training"))


def not_for_vmap(found: str, where: str = "model") -> InputError:
    """The error for a model or batch that vmap does not support, with the loop as the remedy."""
    expected = "operations and tensors that torch.func.vmap can batch"
    return InputError(Problem(where, found, expected, "run again with gradients=loop"))


def out_of_memory(size: int, error: RuntimeError) -> MachineError:
    """The error for a microbatch of ``size`` samples that does not fit into memory."""
    found = f"out of memory with a microbatch of {size} ({first_line(error, type(error).__name__)})"
    remedy = "lower gradients.memory_mb, or set gradients.microbatch"
    return MachineError(Problem("gradients", found, "a microbatch whose gradients fit", remedy))
