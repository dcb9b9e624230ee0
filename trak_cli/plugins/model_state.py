"""The state of a model: its mode, and parameters of lazy modules that have no shape yet."""

from __future__ import annotations

from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from trak_cli.errors import InputError, Problem
from trak_cli.user_errors import report_user_errors


def evaluated(model: nn.Module) -> nn.Module:
    """The model, after ``model.eval()``.

    Raises:
        InputError: it raises an exception, or leaves the model in training mode.
    """
    with report_user_errors("model.eval()", library=True):
        model.eval()
    if model.training:
        remedy = f"let {type(model).__name__}.train(mode) call super().train(mode)"
        raise InputError(Problem("model", "training mode after model.eval()", "evaluation mode", remedy))
    return model


def uninitialised(model: nn.Module) -> list[str]:
    """The parameters and buffers of lazy modules that have no shape yet."""
    return [name for name, value in chain(model.named_parameters(), model.named_buffers()) if is_lazy(value)]
