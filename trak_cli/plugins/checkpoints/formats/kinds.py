"""The formats of files that hold weights, recognised by their first bytes and by the members of a zip archive."""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path


class Format(enum.Enum):
    """The format of a file. TORCH stands for every other format."""

    SAFETENSORS = "safetensors"
    TORCH = "torch.save"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "torch.export"
    POINTER = "Git LFS pointer"
    EMPTY = "empty"


def format_of(path: Path) -> Format:
    """The format of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(9)
        if not start:
            return Format.EMPTY
        if start == b"version h" and b"git-lfs" in stream.read(60):
            return Format.POINTER
    if path.suffix == ".safetensors" and not _is_zip(start):
        return Format.SAFETENSORS
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Format.SAFETENSORS
    members = _members(path) if _is_zip(start) else []
    if any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members):
        return Format.TORCHSCRIPT
    if any(name.rpartition("/")[2] == "archive_format" for name in members):
        return Format.EXPORTED
    return Format.TORCH


def holds_tensors(path: Path) -> bool:
    """Whether a file with an unknown suffix is one of safetensors or of torch.save (since version 1.6)."""
    try:
        kind = format_of(path)
        return kind is Format.SAFETENSORS or any(name.endswith("/data.pkl") for name in _members(path))
    except OSError:
        return False


def _is_zip(start: bytes) -> bool:
    return start.startswith(b"PK\x03\x04")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []
