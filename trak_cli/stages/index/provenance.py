"""TODO doc."""

from __future__ import annotations

import socket

import torch

from trak_cli import __version__
from trak_cli.stages.inputs.device import device_name
from trak_cli.types import Json

_CPU = torch.device("cpu")


def provenance(device: torch.device = _CPU, **more: str | int) -> Json:
    """Where and by what a file was made: kept in the file, never compared."""
    return {
        "program": f"trak {__version__}",
        "torch": torch.__version__,
        "host": socket.gethostname(),
        "device": device_name(device),
        **more,
    }
