"""What `trak train` notes in a checkpoint, as metadata of the safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from trak_cli.plugins.checkpoints.formats.kinds import Format, format_of
from trak_cli.plugins.checkpoints.member import FRESH

_KIND = "trak.ensemble.kind"

#: The note of a checkpoint whose training started from random weights of the model plugin, with which it can be blended.
CAN_BE_BLENDED = {_KIND: FRESH}


def can_be_blended(path: Path) -> bool:
    """Whether a checkpoint has the note that it can be blended with fresh weights; files of other programs have none."""
    try:
        if not path.is_file() or format_of(path) is not Format.SAFETENSORS:
            return False
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(_KIND) == FRESH
    except (OSError, SafetensorError):  # reading the weights says what is wrong with the file
        return False
