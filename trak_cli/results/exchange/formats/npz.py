"""NumPy archives: the arrays ``scores`` (targets, n) and ``targets``; any other file of arrays can be imported too."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from trak_cli.results.exchange.contract import (
    ArrayStream,
    ScoreStream,
    ScoreTable,
    Source,
    matrix_table,
    score_arrays,
    unreadable,
)
from trak_cli.results.exchange.staging import array_on_disk
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.types import AnyArray
from trak_cli.user_files import require_plausible


def write(path: Path, stream: ScoreStream) -> None:
    """Write every score."""
    write_arrays(path, score_arrays(stream))


def write_arrays(path: Path, stream: ArrayStream) -> None:
    """Write arrays, each of them through a temporary file beside ``path``."""
    files = {name: path.with_name(f"{path.name}.{name}.npy") for name in stream.arrays}
    try:
        arrays = {name: array_on_disk(files[name], dtype, shape) for name, (shape, dtype) in stream.arrays.items()}
        for name, place, values in stream.parts():
            arrays[name][place] = values
        for array in arrays.values():
            array.flush()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, file in files.items():
                archive.write(file, f"{name}.npy")
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def read(source: Source) -> ScoreTable:
    """The array ``scores`` of a file, with ``targets`` where there is one. Only .npz and .npy are read in blocks.

    Raises:
        InputError: the file cannot be read, or lacks the array.
    """
    if source.path.suffix == ".npy":
        return matrix_table(source.path, _mapped(source.path))
    if source.path.suffix != ".npz":
        arrays = read_array_file(source.path, ("scores",), ("targets",))
    else:
        arrays = {name: _mapped(file) for name, file in _extracted(source).items()}
        if "scores" not in arrays:
            read_array_file(source.path, ("scores",))  # raises, with the names of the arrays that it has
    return matrix_table(source.path, arrays["scores"], arrays.get("targets"))


def _extracted(source: Source) -> dict[str, Path]:
    """The arrays of an archive, unpacked in the scratch folder."""
    files = {}
    try:
        with zipfile.ZipFile(source.path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            require_plausible(str(source.path), size, source.path.stat().st_size)
            for name in {"scores", "targets"} & {member.removesuffix(".npy") for member in archive.namelist()}:
                files[name] = source.scratch / f"{name}.npy"
                with archive.open(f"{name}.npy") as packed, files[name].open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise unreadable(source.path, f"a damaged file ({error})", "a .npz file") from error
    return files


def _mapped(path: Path) -> AnyArray:
    try:
        array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, f"an unreadable array ({error})", "an array of numbers") from error
    return array
