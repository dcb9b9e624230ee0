"""Provenance of a stored file: what made it, and where. It is kept in the file and never compared."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from trak_cli import __version__
from trak_cli.types import Json

if TYPE_CHECKING:
    import torch


def provenance(device: torch.device | None = None, **more: str | int) -> Json:
    """Versions, host and device.

    Args:
        device: the device that computed the file; None means the CPU.
        more: further entries.
    """
    import torch  # here, because readers of a store import this module too and need no PyTorch

    from trak_cli.stages.inputs.device import device_name

    return {
        "program": f"trak {__version__}",
        "torch": torch.__version__,
        "host": socket.gethostname(),
        "device": device_name(device or torch.device("cpu")),
        **more,
    }
