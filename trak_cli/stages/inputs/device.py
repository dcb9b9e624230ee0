"""The device and the CPU threads that a stage uses."""

from __future__ import annotations

import os
import platform

import torch
from threadpoolctl import threadpool_limits

from trak_cli.cluster.environment import local_rank
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.plurals import counted


def set_up_device(name: str, threads: int | None) -> tuple[torch.device, str]:
    """The device of the config and its model name, after setting the number of CPU threads.

    Raises:
        MachineError: see :func:`choose_device`.
    """
    device = choose_device(name)
    use_threads(threads)
    return device, device_name(device)


def choose_device(name: str, key: str = "device") -> torch.device:
    """The torch device called ``name``, the value of a key of the config; ``auto`` is CUDA if available, else the CPU.

    Without a number, each process that a launcher starts on a node with several GPUs takes its own.

    Raises:
        MachineError: the CUDA device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.device_count() > 1:
        return torch.device("cuda", local_rank(os.environ) % torch.cuda.device_count())
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{name}, but PyTorch sees {counted(torch.cuda.device_count(), 'CUDA device')}"
        remedy = f"use {'device=cpu or device=auto' if key == 'device' else key + '=auto'}, or install a CUDA build of PyTorch"
        raise MachineError(Problem(key, found, "a device of this machine", remedy))
    return device


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads of PyTorch and of NumPy's BLAS. None: PyTorch's default, for both."""
    if threads is not None:
        torch.set_num_threads(threads)
    threadpool_limits(torch.get_num_threads(), user_api="blas")  # a process-wide setting: never reset


def device_name(device: torch.device) -> str:
    """The model name of the device, for the log."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"


def refuse_device_map(config: TrakConfig, stage: str) -> None:
    """Refuse ``device_map`` in a stage that needs the whole model on one device.

    Raises:
        ConfigError: the key has a value.
    """
    if config.device_map is not None:
        found = f"{config.device_map!r} in trak {stage}, which needs the whole model on one device"
        raise ConfigError(Problem("device_map", found, "null", "give device_map=null"))
