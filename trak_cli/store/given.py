"""HDF5 files that users bring: plain numeric datasets are read, anything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from trak_cli.errors import InputError, Problem
from trak_cli.store.dtypes import AnyArray


def read_given_hdf5(path: Path, names: Sequence[str]) -> dict[str, AnyArray]:
    """The datasets ``names`` at the root of a user's HDF5 file.

    Raises:
        InputError: the file cannot be read, or a dataset is missing or not plain numbers stored in this file.
    """
    try:
        with h5py.File(path, "r") as file:
            problems = [problem for name in names for problem in _problems(path, file, name)]
            if problems:
                raise InputError(problems)
            return {name: file[name][()] for name in names}
    except (OSError, RuntimeError) as error:
        raise InputError(
            Problem(
                str(path),
                f"no HDF5 file that can be read ({error})",
                "an HDF5 file",
                "correct the path, or copy it again",
            )
        ) from error


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
