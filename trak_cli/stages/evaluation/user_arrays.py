"""Arrays in files that users bring: .npy, .npz, .safetensors, HDF5. Nothing in them is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.types import Float32
from trak_cli.user_hdf5 import read_user_hdf5

_HDF5 = (".h5", ".hdf5", ".hdf")


#: Floating types of torch that NumPy has too.
_FLOATS = (torch.float16, torch.float32, torch.float64)


_ARCHIVES = (".npz", ".safetensors", ".pt", ".pth")


def read_array_file(path: Path, names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays ``names`` of a file; a .npy file has no names and answers for a single one.

    Raises:
        InputError: the file is missing, damaged, of another format, or lacks an array.
    """
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "a .npy, .npz, .safetensors or HDF5 file", "correct the path"))
    if path.suffix in _HDF5:
        return read_user_hdf5(path, names)
    if path.suffix == ".npy" and len(names) == 1:
        return {names[0]: _read_npy(path)}
    if path.suffix not in _ARCHIVES:
        known = ", ".join((*([".npy"] if len(names) == 1 else []), *_ARCHIVES, *_HDF5))
        found = f"a file {path.suffix}" if path.suffix else "a file without suffix"
        raise InputError(Problem(str(path), found, f"one of {known}", "save the arrays with numpy.savez"))
    content = read_archive(path)
    arrays = content if isinstance(content, dict) else {}
    problems = [
        Problem(
            f"{path}: {name}",
            f"no such array (the file has {', '.join(map(str, arrays)) or 'none'})",
            f"an array {name!r}",
            "save it under this name",
        )
        for name in names
        if not isinstance(arrays.get(name), np.ndarray | torch.Tensor)
    ]
    if problems:
        raise InputError(problems)
    return {name: _as_array(f"{path}: {name}", arrays[name]) for name in names}


def _as_array(where: str, value: np.ndarray[Any, Any] | torch.Tensor) -> np.ndarray[Any, Any]:
    """An array, or a tensor as one; floating types that NumPy does not have become float32, which holds their values."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    try:
        plain = value.detach().cpu()
        if plain.is_floating_point() and plain.dtype not in _FLOATS:
            plain = plain.float()
        return plain.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        found = f"a tensor of {value.dtype} and layout {value.layout}"
        raise InputError(Problem(where, found, "numbers that NumPy can hold", "save a dense float32 tensor")) from error


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            Problem(str(path), f"no array that can be read ({error})", "a .npy file of numbers", "save it with numpy.save")
        ) from error


def read_foreign_scores(name: str, path: Path, targets: int, rows: int) -> Float32:
    """Scores that another tool wrote: .npy, or the array ``scores`` of .npz, .safetensors or HDF5; (targets, rows).

    Raises:
        InputError: the file cannot be read, or holds another shape.
    """
    scores = read_array_file(path, ("scores",))["scores"]
    if scores.shape != (targets, rows) or scores.dtype.kind not in "fiu":
        hint = "transpose it" if scores.shape == (rows, targets) else "score the same targets and training rows"
        raise InputError(
            Problem(
                f"lds.scores.{name} ({path})",
                f"{scores.dtype} of shape {scores.shape}",
                f"numbers of shape (targets, training rows) = ({targets}, {rows})",
                hint,
            )
        )
    if not np.isfinite(scores).all():
        raise InputError(Problem(f"lds.scores.{name} ({path})", "NaN or infinite scores", "finite numbers", "mend the file"))
    return scores.astype(np.float32)
