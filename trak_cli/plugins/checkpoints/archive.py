"""Reads files of tensors without running code from them: .safetensors, .npz, and otherwise what torch.save wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trak_cli.errors import InputError, Problem
from trak_cli.user_errors import first_line

#: Exceptions of torch.load(weights_only=True) for a damaged file or one of another format, besides UnpicklingError.
_DAMAGED = (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, zipfile.BadZipFile)


def read_archive(path: Path) -> object:
    """The content of a file: a dict of tensors (.safetensors) or arrays (.npz, in the order of the file), or any plain value.

    Tensors are on the CPU.

    Raises:
        InputError: the file is missing, damaged, or a pickle that refers to code (which is not run).
    """
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "a file", "correct the path"))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise InputError(_refused(path, error)) from error
    except OSError as error:
        found = f"a file that cannot be read ({error})"
        raise InputError(Problem(str(path), found, "a readable file", "check its permissions and the disk")) from error
    except (SafetensorError, *_DAMAGED) as error:
        found = f"a damaged file, or one of another format ({first_line(error, type(error).__name__)})"
        raise InputError(Problem(str(path), found, _EXPECTED, "copy or write the file again")) from error


_EXPECTED = "tensors in a .safetensors, .npz, or torch.save file"

#: Parts of the messages of torch.load(weights_only=True) for a pickle with more than tensors and plain values.
_WANTS_CODE = ("WeightsUnpickler error", "Unsupported global", "unsupported GLOBAL", "is blocked")


def _refused(path: Path, error: UnpicklingError) -> Problem:
    """Why weights_only reading failed: the pickle holds more than tensors, or the file is no pickle."""
    if not any(part in str(error) for part in _WANTS_CODE):
        return Problem(str(path), "a file that is not an archive of tensors", _EXPECTED, "correct the path")
    return Problem(
        str(path),
        "a pickle that holds more than tensors and plain values; loading it could run code, so it was not loaded",
        _EXPECTED,
        "save only the state_dict: torch.save(model.state_dict(), path), or use safetensors",
    )
