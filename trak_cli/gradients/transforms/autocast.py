"""Forward and backward passes in 16 bits: torch.autocast around the output function of a task."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.options import AUTOCAST_DTYPES

#: Value of ``gradients.autocast`` -> dtype.
AUTOCAST: dict[str, torch.dtype] = {name: getattr(torch, name) for name in AUTOCAST_DTYPES}


class Autocast:
    """A task whose output is computed under torch.autocast; everything else is that of the task.

    Matrix products, and so the activations and their gradients, are 16 bits wide. Parameters, and the gradients that
    autograd or the hooks engine gives for them, stay float32, and so does f: a task widens the logits before it computes a
    margin from them, and what comes out narrow is widened.
    """

    def __init__(self, task: ModelOutput, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._task = task
        self._device = device

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f, (B,), float32 (or float64, where the task gives that)."""
        with torch.autocast(self._device.type, self.dtype):
            found: Any = self._task.output(model, batch)  # a user's code, checked by the engines
            return found.float() if isinstance(found, Tensor) and found.dtype == self.dtype else found

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """q, (B,), without autocast."""
        return self._task.out_to_loss_grad(model, batch, output)


def with_autocast(task: ModelOutput, model: nn.Module, device: torch.device, name: str | None) -> ModelOutput:
    """The task under the autocast that the config names; the task itself for None.

    Raises:
        ConfigError: the model has no float32 parameters, and autocast leaves others as they are.
        MachineError: the device cannot.
    """
    if name is None:
        return task
    dtype = AUTOCAST[name]
    if all(parameter.dtype != torch.float32 for parameter in model.parameters()):
        found = f"{name}, for a model without float32 parameters"
        expected = "float32 parameters, the only ones that autocast narrows"
        raise ConfigError(Problem("gradients.autocast", found, expected, "use gradients.autocast=null"))
    if not _narrows(device, dtype):
        found = f"{name} on {device}, where torch.autocast does not compute in it"
        expected = "a device with arithmetic of this dtype"
        raise MachineError(Problem("gradients.autocast", found, expected, "use gradients.autocast=null or another dtype"))
    return Autocast(task, device, dtype)


def coarsest(task: ModelOutput, dtype: torch.dtype) -> torch.dtype:
    """The dtype whose rounding shows in gradients and outputs of a model of this dtype."""
    return task.dtype if isinstance(task, Autocast) and dtype == torch.float32 else dtype


def _narrows(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a matrix product under autocast comes out in this dtype; where PyTorch cannot, it warns or raises."""
    if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    try:
        with warnings.catch_warnings(), torch.autocast(device.type, dtype):
            warnings.simplefilter("ignore")
            one = torch.ones(2, 2, device=device)
            return (one @ one).dtype == dtype
    except RuntimeError:
        return False
