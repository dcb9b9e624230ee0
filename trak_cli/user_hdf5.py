"""HDF5 files that users bring: plain numeric datasets are read, anything else is refused. For stages and plugins alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from trak_cli.errors import InputError, Problem

AnyArray = npt.NDArray[Any]


def read_given_hdf5(path: Path, names: Sequence[str]) -> dict[str, AnyArray]:
    """The datasets ``names`` at the root of a user's HDF5 file.

    Raises:
        InputError: the file cannot be read, or a dataset is missing or not plain numbers stored in this file.
    """
    with _refusing(path), h5py.File(path, "r") as file:
        return {name: one[()] for name, one in _vetted(path, file, names).items()}


class GivenRows:
    """One dataset of a user's HDF5 file, read row by row; the file stays open.

    Attributes:
        shape: of the whole dataset.
        dtype: of its numbers.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path, self._dataset = path, dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> AnyArray:
        """Row ``row``, a copy in memory.

        Raises:
            InputError: the file is damaged there.
        """
        with _refusing(self._path):
            return np.asarray(self._dataset[row])


def open_given_hdf5(path: Path, names: Sequence[str]) -> dict[str, GivenRows]:
    """Like :func:`read_given_hdf5`, with the rows read when they are asked for."""
    with _refusing(path):
        file = h5py.File(path, "r")  # closed with the last of its datasets
        return {name: GivenRows(path, one) for name, one in _vetted(path, file, names).items()}


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(
            Problem(
                str(path),
                f"no HDF5 file that can be read ({error})",
                "an HDF5 file",
                "correct the path, or copy it again",
            )
        ) from error


def _vetted(path: Path, file: h5py.File, names: Sequence[str]) -> dict[str, h5py.Dataset]:
    problems = [problem for name in names for problem in _problems(path, file, name)]
    if problems:
        raise InputError(problems)
    return {name: file[name] for name in names}


def _problems(path: Path, file: h5py.File, name: str) -> list[Problem]:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        held = ", ".join(file) or "nothing"
        return [Problem(f"{path}: {name}", f"no such dataset (the file has {held})", f"a dataset {name!r}", "add it")]
    dataset = file[name]
    if dataset.is_virtual or dataset.external or dataset.dtype.kind not in "biuf":
        kind = "virtual or external storage" if dataset.is_virtual or dataset.external else f"dtype {dataset.dtype}"
        return [Problem(f"{path}: {name}", kind, "numbers stored in this file", "write it as a plain dataset")]
    return []
