"""The state of a sweep, from which it can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trak_cli.unrolling.model_state import State

_ADJOINT = "adjoint/"


@dataclass(frozen=True)
class SweepState:
    """T targets after a sweep has gone back to the state before step ``step``.

    Attributes:
        step: the steps before it are not differentiated yet; 0 at the end.
        adjoint: ∂f/∂(state before the step), (T, …) for each tensor of the state.
        derivative: ∂f/∂w of every sample, summed over the steps from ``step`` on, (T, n) float64 on the CPU.
    """

    step: int
    adjoint: State
    derivative: Tensor

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The state as arrays to store."""
        adjoint = {f"{_ADJOINT}{name}": as_array(value) for name, value in self.adjoint.items()}
        return {"step": np.array(self.step), "derivative": self.derivative.numpy(), **adjoint}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> SweepState:
        """The inverse of :meth:`arrays`."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items() if name != "step"}
        adjoint = {name.removeprefix(_ADJOINT): value for name, value in tensors.items() if name.startswith(_ADJOINT)}
        return SweepState(int(arrays["step"]), adjoint, tensors["derivative"])

    def moved(self, like: State) -> SweepState:
        """The same state, the adjoint with the dtypes and on the device of the state ``like``."""
        adjoint = {name: value.to(like[name].device, like[name].dtype) for name, value in self.adjoint.items()}
        return SweepState(self.step, adjoint, self.derivative)


def as_array(value: Tensor) -> np.ndarray[Any, Any]:
    """The values as an array; NumPy has no bfloat16, which float32 contains."""
    found: np.ndarray[Any, Any] = (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
    return found
