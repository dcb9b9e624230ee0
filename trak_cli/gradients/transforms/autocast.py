"""torch.autocast around the output function of a task, for forward and backward passes in 16 bits."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.options import AUTOCAST_DTYPES

#: Value of ``gradients.autocast`` -> dtype.
AUTOCAST: dict[str, torch.dtype] = {name: getattr(torch, name) for name in AUTOCAST_DTYPES}


class Autocast:
    """A task whose output is computed under torch.autocast; its other methods are unchanged.

    Matrix products, activations and gradients of activations have 16 bits. Parameters and their gradients stay float32. f is
    float32 too: tasks convert logits to float32 before they compute a margin, and an output of 16 bits is converted.
    """

    def __init__(self, task: ModelOutput, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._task = task
        self._device = device

    def narrowed(self) -> AbstractContextManager[None]:
        """Inside, torch.autocast is on."""
        return torch.autocast(self._device.type, self.dtype)

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f, (B,), float32 (or float64, where the task gives that)."""
        with self.narrowed():
            output: Any = self._task.output(model, batch)  # of any type until an engine has checked it
            return output.float() if isinstance(output, Tensor) and output.dtype == self.dtype else output

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """q, (B,), without autocast."""
        return self._task.out_to_loss_grad(model, batch, output)


def with_autocast(task: ModelOutput, model: nn.Module, device: torch.device, name: str | None) -> ModelOutput:
    """The task under the autocast dtype ``name``; the task itself for None.

    Raises:
        ConfigError: the model has no float32 parameters, the only ones that autocast converts.
        MachineError: the device does not support the dtype.
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
    """The coarsest dtype in the computation of a model of this dtype, which determines its rounding errors."""
    return task.dtype if isinstance(task, Autocast) and dtype == torch.float32 else dtype


def _narrows(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a matrix product under autocast has this dtype; PyTorch warns or raises if it is not supported."""
    if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    try:
        with warnings.catch_warnings(), torch.autocast(device.type, dtype):
            warnings.simplefilter("ignore")
            ones = torch.ones(2, 2, device=device)
            return (ones @ ones).dtype == dtype
    except RuntimeError:
        return False
