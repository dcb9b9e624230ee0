"""The errors of gradient engines and their checks: a model or a task that breaks its contract, and lack of memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from trak_cli.errors import InputError, MachineError, Problem
from trak_cli.types import listed
from trak_cli.user_errors import error_summary, first_line, user_code_location

_ALONE = "an output that depends on the sample and the weights alone"

_SQUEEZE = "use squeeze(-1) instead of squeeze(), which also removes the batch dimension of a batch of one"


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
        remedy = _SQUEEZE
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
    found = f"out of memory with a microbatch of {size} ({first_line(error)})"
    remedy = "lower gradients.memory_mb, or set gradients.microbatch"
    return MachineError(Problem("gradients", found, "a microbatch whose gradients fit", remedy))


def keeps(found: str, names: Sequence[str], module: str = "") -> InputError:
    """The error for a model whose outputs depend on earlier calls; ``names``: attributes that may hold the kept value."""
    found += "; the model keeps a value between calls" + (f": {listed(names)}" if names else "")
    remedy = "compute such values in each call of forward, and reset hidden states and caches at its start"
    return InputError(Problem(f"model, module {module}" if module else "model", found, _ALONE, remedy))


def random_build(names: Sequence[str]) -> InputError:
    """The error for a model whose values differ each time it is built."""
    what = listed(names) if names else "a value"
    found = f"{what}, which differs each time the model is built and is not in the checkpoint"
    remedy = "register it as a persistent buffer, or draw it from a generator with a fixed seed"
    return InputError(Problem("model", found, "an output that the checkpoint determines", remedy))


def changes(names: Sequence[str], buffers: Collection[str]) -> InputError:
    """The error for a forward pass that changes parameters or buffers."""
    kind = "the buffer" if names[0] in buffers else "the parameter"
    remedy = f"change {names[0]} only if self.training, or compute the new value in a local variable"
    found = f"a forward pass that changes {kind} {listed(names)} in evaluation mode"
    return InputError(Problem("model", found, "parameters and buffers that stay as the checkpoint has them", remedy))


def squeezed(module: str) -> InputError:
    """The error for a module that loses the batch dimension of a batch of one."""
    where = f"model, module {module}" if module else "model"
    found = "an output with one dimension fewer for a batch of one than for a larger batch"
    return InputError(Problem(where, found, "the batch dimension first, also for a batch of one", _SQUEEZE))


def fails_alone(error: Exception) -> InputError:
    """The error for a model that raises an exception for a batch of one only."""
    location = user_code_location(error)
    found = f"a failure on a sample alone, but not on several: {error_summary(error)}" + (f" ({location})" if location else "")
    remedy = "look for statistics over the batch, squeeze() without a dimension, and sizes that are written as numbers"
    return InputError(Problem("model", found, _ALONE, remedy))
