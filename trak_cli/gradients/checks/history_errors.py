"""The errors of :mod:`~trak_cli.gradients.checks.history`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from trak_cli.errors import InputError, Problem
from trak_cli.types import listed
from trak_cli.user_errors import error_summary, user_code_location

_ALONE = "an output that depends on the sample and the weights alone"


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
    remedy = "use squeeze(-1) instead of squeeze(), which also removes the batch dimension of a batch of one"
    return InputError(Problem(where, found, "the batch dimension first, also for a batch of one", remedy))


def fails_alone(error: Exception) -> InputError:
    """The error for a model that raises an exception for a batch of one only."""
    location = user_code_location(error)
    found = f"a failure on a sample alone, but not on several: {error_summary(error)}" + (f" ({location})" if location else "")
    remedy = "look for statistics over the batch, squeeze() without a dimension, and sizes that are written as numbers"
    return InputError(Problem("model", found, _ALONE, remedy))
