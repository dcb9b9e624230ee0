"""The machine a stage runs on: its device, its threads, its name."""

from __future__ import annotations

import platform

import torch
from threadpoolctl import threadpool_limits

from trak_cli.errors import MachineError, Problem


def choose_device(name: str) -> torch.device:
    """The torch device for ``device``: ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        MachineError: CUDA was asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MachineError(
            Problem(
                "device",
                f"{name}, but PyTorch sees {torch.cuda.device_count()} CUDA device(s)",
                "a device of this machine",
                "use device=cpu or device=auto, or install a CUDA build of PyTorch",
            )
        )
    return device


def use_threads(threads: int | None) -> None:
    """Let PyTorch and NumPy's BLAS use this many CPU threads (null: PyTorch's own choice, for both)."""
    if threads is not None:
        torch.set_num_threads(threads)
    threadpool_limits(torch.get_num_threads(), user_api="blas")  # stays until the process ends


def device_name(device: torch.device) -> str:
    """The model name of the device, for the log."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"
