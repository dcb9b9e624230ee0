"""Read arrays from users' files: .npy, .npz, .safetensors, .pt and HDF5. Nothing is unpickled."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.user_files import parsing
from trak_cli.user_hdf5 import read_user_hdf5

_HDF5 = (".h5", ".hdf5", ".hdf")

#: Floating-point dtypes of torch that NumPy also has.
_FLOATS = (torch.float16, torch.float32, torch.float64)

#: Suffix -> (module, its function that loads a file by name), of every archive; ``f[name]`` is then an array.
_LOADERS = {
    ".npz": ("numpy", "numpy.load"),
    ".safetensors": ("safetensors.numpy", "safetensors.numpy.load_file"),
    ".pt": ("torch", "torch.load"),
    ".pth": ("torch", "torch.load"),
}


def read_array_file(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray[Any, Any]]:
    """Read the arrays ``names`` from a file, and those of ``optional`` that it has.

    A .npy file has no names; its array is returned for a single name.

    Raises:
        InputError: the file is missing or damaged, has an unknown format, or lacks an array.
    """
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "a .npy, .npz, .safetensors or HDF5 file", "correct the path"))
    if path.suffix in _HDF5:
        return read_user_hdf5(path, names, optional)
    single = len(names) == 1 and not optional
    if path.suffix == ".npy" and single:
        return {names[0]: _read_npy(path)}
    if path.suffix not in _LOADERS:
        known = ", ".join((*([".npy"] if single else []), *_LOADERS, *_HDF5))
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
    names = [*names, *(name for name in optional if isinstance(arrays.get(name), np.ndarray | torch.Tensor))]
    return {name: _as_array(f"{path}: {name}", arrays[name]) for name in names}


def _as_array(where: str, value: np.ndarray[Any, Any] | torch.Tensor) -> np.ndarray[Any, Any]:
    """Convert to a NumPy array. Floating-point dtypes that NumPy lacks become float32, without loss."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    try:
        plain = value.detach().cpu()
        if plain.is_floating_point() and plain.dtype not in _FLOATS:
            plain = plain.float()
        return plain.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        found = f"a tensor of {value.dtype} and layout {value.layout}"
        raise InputError(Problem(where, found, "a dtype that NumPy has", "save a dense float32 tensor")) from error


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    with parsing(path, "a .npy file of numbers", "save it with numpy.save"):
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of several arrays")
        return array


def transposed_copy(path: Path, names: Sequence[str], name: str, order: Sequence[int]) -> str:
    """The remedy for axes of a ground truth in another order, with a shell command that makes a corrected copy.

    Args:
        path: a file that :func:`read_array_file` reads.
        names: its arrays.
        name: the one that is transposed.
        order: the arguments of ``transpose``.
    """
    module, load = _LOADERS.get(path.suffix, ("h5py", "h5py.File"))
    arguments = ", weights_only=True" if module == "torch" else ""
    copy = path.with_name(f"{path.stem}_{name}_transposed.npz")
    code = (
        f"import {', '.join(dict.fromkeys(('numpy', module)))}; f = {load}({json.dumps(str(path))}{arguments});"
        f" a = {{n: numpy.asarray(f[n]) for n in {json.dumps(names)}}};"
        f' a["{name}"] = a["{name}"].transpose{tuple(order)}; numpy.savez({json.dumps(str(copy))}, **a)'
    )
    return f"give lds.ground_truth={copy}, a transposed copy made by: python -c {shlex.quote(code)}"
