"""The global random states of PyTorch, NumPy and Python, from which the plugins of a user may draw."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def set_random_states(seed: int, devices: Collection[torch.device] | None = None) -> None:
    """Set all three to a pure function of ``seed``; that of PyTorch only if it is imported.

    Args:
        devices: of the models in use; only the generators of these GPUs are set. None: those of all devices.
    """
    np.random.seed(seed % 2**32)  # noqa: NPY002 (plugins use the global state)
    random.seed(seed)
    if "torch" not in sys.modules:
        return
    import torch

    if devices is None:
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also formats a traceback for each kind of GPU there is not
    for gpu in _gpus(devices):
        with torch.cuda.device(gpu):
            torch.cuda.manual_seed(seed)


@contextmanager
def random_states_kept(devices: Collection[torch.device] | None = None) -> Iterator[None]:
    """Inside, the states may change; afterwards they are as before.

    Args:
        devices: of the models in use; only the generators of these GPUs are kept. None: those of all GPUs in use.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with _torch_state_kept(devices) if "torch" in sys.modules else nullcontext():
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def _torch_state_kept(devices: Collection[torch.device] | None) -> Iterator[None]:
    import torch

    if devices is not None:
        with torch.random.fork_rng(devices=_gpus(devices)):
            yield
        return
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count() if in_use else 0)):
            yield
    finally:
        if not in_use and torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
            # GPUs that nobody has used yet have no state to keep, only the last seed that torch.manual_seed was given.
            torch.cuda.manual_seed_all(torch.initial_seed())


def _gpus(devices: Collection[torch.device]) -> list[torch.device]:
    return [device for device in devices if device.type == "cuda"]
