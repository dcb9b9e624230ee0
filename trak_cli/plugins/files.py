"""A dataset of one or several samples in a file, so that anything can be scored without writing a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.archive import read_archive


class SampleFile(Dataset[Any]):
    """The samples in a .npz or .safetensors file, or in a dict of tensors that torch.save wrote.

    Sample i is the tuple of row i of each named array, in the order of ``names``; the bare row when one name is given.
    Floating arrays become float32, others keep their dtype.

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
        content = read_archive(Path(path))
        held = content if isinstance(content, dict) else {}
        problems = [
            Problem(path, f"the arrays {', '.join(map(str, held)) or 'of no name'}", f"an array {name!r}", "correct names")
            for name in names
            if name not in held
        ]
        if problems:
            raise InputError(problems)
        self._arrays = [_as_tensor(held[name], f"{name} in {path}") for name in names]
        if single:
            self._arrays = [array.unsqueeze(0) for array in self._arrays]
        self._length = _common_length(self._arrays, path)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Any:
        if not -self._length <= i < self._length:
            raise IndexError(i)
        rows = tuple(array[i] for array in self._arrays)
        return rows if len(rows) > 1 else rows[0]


def _as_tensor(value: Any, where: str) -> Tensor:
    """The value as a tensor on the CPU, floating ones in float32."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, Tensor):
        found = f"{value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(Problem(where, found, "numbers", "store numbers under this name"))
    return value.float() if value.is_floating_point() else value


def _common_length(arrays: list[Tensor], path: str) -> int:
    shapes = ", ".join(str(tuple(array.shape)) for array in arrays)
    if any(array.dim() == 0 for array in arrays) or len({len(array) for array in arrays}) > 1:
        expected = "the same leading dimension, the number of samples, in every array"
        raise InputError(Problem(path, f"shapes {shapes}", expected, "for a file of one sample, give single=true"))
    return len(arrays[0])
