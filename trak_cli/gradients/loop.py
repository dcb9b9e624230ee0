"""Per-sample gradients one sample at a time by plain autograd: the reference for the faster engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, one_sample
from trak_cli.gradients.contract import ModelOutput, PerSample, draining
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector, out_of_memory
from trak_cli.user_errors import is_out_of_memory


@contextmanager
def one_microbatch(model: nn.Module, batch: Any) -> Iterator[int]:
    """B, the number of samples of a batch; inside, computations are exact, and lack of memory names the microbatch.

    Raises:
        MachineError: out of memory.
    """
    if model.training:
        raise RuntimeError("the model is in training mode; engines need evaluation mode")
    size = batch_size(batch)
    try:
        with exact():
            yield size
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(size, error) from error
        raise


class LoopEngine:
    """The engine for any model that autograd can differentiate; batches may hold lists of plain values.

    Memory: gradients of the complete microbatch (given as blocks of B rows), activations of one sample.
    """

    name = "loop"

    def __init__(self, model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor]) -> None:
        self._model = model
        self._task = task
        self._parameters = dict(parameters)

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`~trak_cli.gradients.contract.Engine`."""
        with one_microbatch(self._model, batch) as size, only(self._model, self._parameters):
            return self._one_by_one(batch, size)

    def _one_by_one(self, batch: Any, size: int) -> PerSample:
        gradients = {name: value.new_zeros((size, value.numel())) for name, value in self._parameters.items()}
        outputs, ratios = [], []
        for position in range(size):
            output, ratio = self._of_one(one_sample(batch, position), position, gradients)
            outputs.append(output)
            ratios.append(ratio)
        return PerSample(torch.cat(outputs), torch.cat(ratios), draining(gradients))

    def _of_one(self, sample: Any, position: int, gradients: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """f and q of one sample, each (1,); its gradient goes into row ``position`` of ``gradients``."""
        with torch.enable_grad():
            output = checked_vector(self._task.output(self._model, sample), 1, "output")
        if output.requires_grad:  # otherwise f depends on no parameter, and the rows stay zero
            for name, gradient in backward(output.squeeze(0), self._parameters).items():
                if gradient is not None:
                    dense = gradient.to_dense() if gradient.is_sparse else gradient
                    gradients[name][position].copy_(dense.reshape(-1))
        with torch.no_grad():
            ratio = self._task.out_to_loss_grad(self._model, sample, output.detach())
        return output.detach(), checked_vector(ratio, 1, "out_to_loss_grad").detach()


def backward(output: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """∂output/∂θ of each parameter; None if no path of the autograd graph leads to it.

    Computed by ``backward()``, because activation checkpointing of some libraries refuses ``torch.autograd.grad``.
    """
    before = {name: parameter.grad for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.grad = None
        output.backward()  # type: ignore[no-untyped-call]
        return {name: parameter.grad for name, parameter in parameters.items()}
    finally:
        for name, parameter in parameters.items():
            parameter.grad = before[name]
