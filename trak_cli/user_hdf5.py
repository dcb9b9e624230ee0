"""Read HDF5 files supplied by users. Only plain numeric datasets are accepted. Stages and plugins both use it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import h5py
import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.types import AnyArray
from trak_cli.user_files import parsing, require_plausible


def read_user_hdf5(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, AnyArray]:
    """Read the datasets ``names`` from the root of a user's HDF5 file, and those of ``optional`` that it has.

    Raises:
        InputError: the file cannot be read, or a dataset is missing or does not hold plain numbers stored in this file.
    """
    with parsing(path, "an HDF5 file"), _read_errors(path), _opened(path) as file:
        names = [*names, *(name for name in optional if name in file)]
        return {name: dataset[()] for name, dataset in _numeric_datasets(path, file, names).items()}


class UserHdf5Rows:
    """One dataset of a user's HDF5 file, read row by row. The file stays open.

    Attributes:
        shape: shape of the dataset.
        dtype: dtype of its elements.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path, self._dataset = path, dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> AnyArray:
        """A copy of row ``row``.

        Raises:
            InputError: the file is damaged there.
        """
        with _read_errors(self._path):
            return np.asarray(self._dataset[row])


def open_user_hdf5(path: Path, names: Sequence[str]) -> dict[str, UserHdf5Rows]:
    """Like :func:`read_user_hdf5`, but rows are read on access."""
    with parsing(path, "an HDF5 file"), _read_errors(path):
        file = _opened(path)  # h5py closes it when the last of its datasets is collected
        return {name: UserHdf5Rows(path, dataset) for name, dataset in _numeric_datasets(path, file, names).items()}


#: Options of h5py under which a file is opened, the first ones that work. Without a lock, a file that another process has open
#: for writing is read too; HDF5 refuses two settings of the lock in one process, and files of a SWMR writer without its mode.
_OPTIONS: tuple[dict[str, Any], ...] = ({"locking": False}, {}, {"locking": False, "swmr": True, "libver": "latest"})


def _opened(path: Path) -> h5py.File:
    """The file, open for reading.

    Raises:
        OSError: the first error, if the file opens under none of the options.
    """
    errors: list[OSError] = []
    for options in _OPTIONS:
        try:
            return h5py.File(path, "r", **options)
        except OSError as error:
            errors.append(error)
    raise errors[0]


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        remedy = "correct the path, or copy the file again"
        if "already open for write" in str(error):
            remedy = f"close it in the program that writes it; if that program has ended, run: h5clear -s {quote(str(path))}"
        raise InputError(Problem(str(path), f"an unreadable file ({error})", "an HDF5 file", remedy)) from error


def _numeric_datasets(path: Path, file: h5py.File, names: Sequence[str]) -> dict[str, h5py.Dataset]:
    InputError.raise_for(problem for name in names for problem in _problems(path, file, name))
    return {name: file[name] for name in names}


def _problems(path: Path, file: h5py.File, name: str) -> list[Problem]:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        names = ", ".join(file) or "nothing"
        return [Problem(f"{path}: {name}", f"no such dataset (the file has {names})", f"a dataset {name!r}", "add it")]
    dataset = file[name]
    if dataset.is_virtual or dataset.external or dataset.dtype.kind not in "biuf":
        kind = "virtual or external storage" if dataset.is_virtual or dataset.external else f"dtype {dataset.dtype}"
        return [Problem(f"{path}: {name}", kind, "numbers stored in this file", "write it as a plain dataset")]
    require_plausible(f"{path}: {name}", _bytes_of(dataset.shape, dataset.dtype.itemsize), dataset.id.get_storage_size())
    return []


def _bytes_of(shape: tuple[int, ...] | None, itemsize: int) -> int:
    """In Python integers, which do not overflow whatever shape is declared."""
    return math.prod(int(size) for size in shape or ()) * itemsize
