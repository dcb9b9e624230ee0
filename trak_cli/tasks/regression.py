"""Regression: f is the prediction itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.tasks.classification import single_value
from trak_cli.tasks.margin import widened
from trak_cli.tasks.quality import Quality
from trak_cli.tasks.task import Inputs, Task, call_model, field

_ARGUMENTS = ("inputs", "value")


#: Standard deviation of R² at chance.
_NOISE = 0.025


class Regression(Task):
    """One real number per sample under the squared loss ½ (f − y)²: f = prediction, q = −∂ℓ/∂f = y − f, of either sign.

    Args:
        inputs: the model's input in the batch, as for :class:`~trak_cli.tasks.Classification`.
        value: the label y in the batch, shape (B,) or (B, 1).

    The model maps the inputs to (B,) or (B, 1).
    """

    def __init__(self, inputs: Inputs = 0, value: int | str = 1) -> None:
        self.inputs = inputs
        self.value = value

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """The prediction, (B,)."""
        return widened(single_value(call_model(model, batch, self.inputs, _ARGUMENTS)))

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """y − f, (B,)."""
        del model
        return self._truth(batch, output) - output

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """½ (f − y)², (B,)."""
        output = self.output(model, batch)
        return 0.5 * (output - self._truth(batch, output)).square()

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """R²: one minus the mean squared error relative to the variance of the labels; 0 for the mean of the labels."""
        if type(self).out_to_loss_grad is not Regression.out_to_loss_grad:  # another loss in a class derived from this one
            return super().quality(model, batches)
        pairs = []
        for batch in batches:
            output = self.output(model, batch).detach()
            pairs.append(torch.stack([output, self._truth(batch, output)]).double())
        predicted, true = torch.cat(pairs, dim=1)
        variance = float((true - true.mean()).square().sum())
        error = float((predicted - true).square().sum())
        if variance == 0:
            return Quality("mean squared error", error / len(true), 0.0)
        return Quality("R²", 1 - error / variance, 1.0, 0.0, _NOISE)

    def _truth(self, batch: Any, output: Tensor) -> Tensor:
        """y in the dtype and shape of the output; refuses shapes that would broadcast."""
        value = field(batch, self.value, _ARGUMENTS)
        if not isinstance(value, Tensor) or value.numel() != output.numel():
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            expected = "one number for each sample, (B,)"
            raise InputError(Problem("regression values", found, expected, "reshape them in the dataset"))
        return value.to(output.dtype).reshape(output.shape)
