"""A data set of the samples in a file of arrays: scores any samples without a data set of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.plugins.new_samples import INPUTS, LABELS, by_role, mirrored
from trak_cli.plugins.samples import extreme_rows
from trak_cli.user_hdf5 import UserHdf5Rows, open_user_hdf5

_HDF5 = (".h5", ".hdf5")


class SampleFile(Dataset[Any]):
    """The samples in a .npz, .safetensors or HDF5 file (.h5, .hdf5), or in a dict of tensors saved by torch.save.

    Sample i is the tuple of row i of each named array, in the order of ``names``; a bare row if there is one name.
    Floating arrays become float32, others keep their dtype. HDF5 is read row by row, so it may be larger than memory;
    the other formats are read whole.

    Args:
        path: the file.
        names: the arrays that make up a sample, in the order of the tuple.
        single: the file holds one sample, and its arrays have no leading sample dimension.

    Raises:
        InputError: no such file, a damaged one, or one that holds code to run; arrays that are missing, of a kind that
            is no tensor, without a leading dimension, or of different lengths.
        ConfigError: no names.
    """

    def __init__(self, path: str, names: Sequence[str] = ("x", "y"), single: bool = False) -> None:
        if not names:
            remedy = "name the arrays of a sample, for example [x, y]"
            raise ConfigError(Problem("dataset names", "an empty list", "one name or more", remedy))
        held = _opened(path, names) if path.endswith(_HDF5) and not single else _read(path, names)
        self._names = list(names)
        self._where = [f"{name} in {path}" for name in names]
        self._arrays: list[Tensor | UserHdf5Rows] = [
            one if isinstance(one, UserHdf5Rows) else as_tensor(one, where)
            for one, where in zip((held[name] for name in names), self._where, strict=True)
        ]
        if single:
            self._arrays = [array.unsqueeze(0) for array in self._arrays if isinstance(array, Tensor)]
        self._length = _common_length(self._arrays, path)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Any:
        rows = self.rows(i)
        return rows if len(rows) > 1 else rows[0]

    def sample_from(self, record: Mapping[str, Any]) -> Any:
        """A new sample: the numbers of each array by its name; or ``row``, for the first of them, and ``label``, for the last.

        Raises:
            InputError: an array is missing or unknown, or has another shape.
        """
        roles = {name: name for name in self._names}
        known = dict(record)
        for aliases, name in ((INPUTS, self._names[0]), (LABELS, self._names[-1])):
            known = {name if key in aliases and key not in roles else key: value for key, value in known.items()}
        values = by_role(known, roles)
        parts = tuple(mirrored(values[name], row, name) for name, row in zip(self._names, self.rows(0), strict=True))
        return parts if len(parts) > 1 else parts[0]

    def rows_to_check(self, count: int) -> list[int]:
        """The rows of the smallest and the largest number of each array of single numbers that is in memory."""
        held = (array for array in self._arrays if isinstance(array, Tensor))
        return [row for array in held for row in extreme_rows(array)][:count]

    def rows(self, i: int) -> tuple[Tensor, ...]:
        """Row i of each array."""
        if not -self._length <= i < self._length:
            raise IndexError(i)
        place = i % self._length
        return tuple(
            as_tensor(array[place], where) if isinstance(array, UserHdf5Rows) else array[place]
            for array, where in zip(self._arrays, self._where, strict=True)
        )


def as_tensor(value: Any, where: str) -> Tensor:
    """The value as a tensor on the CPU, floating ones in float32.

    Raises:
        InputError: it is neither a tensor nor an array of numbers; the message names it ``where``.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, Tensor):
        found = f"{value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(Problem(where, found, "numbers", "store numbers under this name"))
    return value.float() if value.is_floating_point() else value


def _opened(path: str, names: Sequence[str]) -> dict[str, UserHdf5Rows]:
    if not Path(path).is_file():
        raise InputError(Problem(path, "no such file", "a file", "correct the path"))
    return open_user_hdf5(Path(path), names)


def _read(path: str, names: Sequence[str]) -> dict[str, Any]:
    if path.endswith(_HDF5):
        raise ConfigError(Problem("dataset single", f"true, with {path}", "an .npz or .safetensors file", "write one of those"))
    content = read_archive(Path(path))
    held = content if isinstance(content, dict) else {}
    InputError.raise_for(
        Problem(path, f"the arrays {', '.join(map(str, held)) or 'of no name'}", f"an array {name!r}", "correct names")
        for name in names
        if name not in held
    )
    return held


def _common_length(arrays: Sequence[Tensor | UserHdf5Rows], path: str) -> int:
    shapes = ", ".join(str(tuple(array.shape)) for array in arrays)
    if any(not array.shape for array in arrays) or len({len(array) for array in arrays}) > 1:
        expected = "the same leading dimension, the number of samples, in every array"
        raise InputError(Problem(path, f"shapes {shapes}", expected, "for a file of one sample, give single=true"))
    return len(arrays[0])
