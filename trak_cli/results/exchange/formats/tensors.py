"""Tensors that torch.save wrote: the scores of dattri, one tensor (n, targets), and the cache of quanda, files of (targets, n).

They are read with ``weights_only=True``.
"""

from __future__ import annotations

import errno
from pathlib import Path

import torch

from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.results.exchange.contract import unreadable
from trak_cli.types import AnyArray, Float32
from trak_cli.user_errors import first_line


def save_tensor(path: Path, scores: Float32) -> None:
    """Write an array, which may be mapped from a file, without a copy in memory.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        torch.save(torch.from_numpy(scores), path)
    except RuntimeError as error:  # what PyTorch raises where a file cannot be written
        raise OSError(errno.EIO, first_line(error)) from error


def load_tensor(path: Path) -> AnyArray:
    """A two-dimensional tensor of a file, mapped from it where the format allows that; bfloat16 becomes float32.

    Raises:
        InputError: the file is missing or damaged, holds something else, or would run code.
    """
    value = _mapped(path)
    if not isinstance(value, torch.Tensor) or value.ndim != 2 or value.is_complex() or value.layout is not torch.strided:
        found = f"a tensor of {value.dtype} and shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value)
        raise unreadable(path, str(found), "one tensor of numbers with two dimensions")
    plain = value.detach()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _mapped(path: Path) -> object:
    """The content; its tensors stay on disk where the format allows it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, OSError, EOFError):  # an older format, which cannot be mapped; or a damaged file
        return read_archive(path)
    except Exception:  # what weights_only refuses; read_archive says why
        return read_archive(path)
