"""Output files and folders that appear complete or not at all, and arrays kept on disk while a file is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.errors import ConfigError, Problem
from trak_cli.results.exchange.contract import ScoreStream
from trak_cli.store.atomic_write import link_first, sync, writing
from trak_cli.store.temp_files import temporary_of
from trak_cli.types import Float32


def require_free(path: Path, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    """Refuse an output that exists, unless it may be replaced; a folder only if it holds nothing but files of the format.

    Args:
        ours: whether a file of an existing folder is one that the format writes.

    Raises:
        ConfigError: it exists.
    """
    if not path.exists():
        return
    if not overwrite:
        raise ConfigError(Problem("--out", f"{path}, which exists", "a new file or folder", "give another, or --overwrite"))
    if path.is_dir() and (others := [file for file in path.rglob("*") if file.is_file() and not ours(file)]):
        found = f"{path}, a folder with other files ({others[0].relative_to(path)})"
        raise ConfigError(Problem("--out", found, "a folder that an export wrote", "give another folder"))


@contextmanager
def staged(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary name beside ``path``; what the block writes there (a file or a folder) becomes ``path`` at its end.

    Raises:
        ConfigError: another process has written ``path`` meanwhile.
        MachineError: it cannot be written; the temporary files are removed, and an existing output stays.
    """
    temporary = temporary_of(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
                sync(file)
            _publish(temporary, path, overwrite)
            sync(path.parent)
        finally:
            _remove(temporary)


def array_on_disk(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """A new .npy file, mapped. Its room is reserved, because the process ends if a mapped file is written on a full disk.

    Raises:
        OSError: the disk has no room.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    reserve(path)
    return array


def reserve(path: Path) -> None:
    """Reserve room on disk for the whole of a file.

    Raises:
        OSError: the disk has no room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


@contextmanager
def spilled(stream: ScoreStream, path: Path, transposed: bool = False) -> Iterator[Float32]:
    """The scores (targets, n), or (n, targets), mapped from a temporary file beside ``path``."""
    temporary = temporary_of(path.with_name(f"{path.name}.scores"))
    shape = stream.shape[::-1] if transposed else stream.shape
    try:
        scores = array_on_disk(temporary, np.dtype(np.float32), shape)
        for targets, rows, block in stream.blocks():
            place = (slice(targets.start, targets.stop), slice(rows.start, rows.stop))
            scores[place[::-1] if transposed else place] = block.T if transposed else block
        yield scores
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if not temporary.is_dir():
        if overwrite:
            temporary.replace(path)
        elif not link_first(temporary, path):
            raise _written_meanwhile(path)
    elif overwrite and path.is_dir():
        replaced = temporary_of(path)
        path.rename(replaced)
        temporary.rename(path)
        _remove(replaced)
    else:
        try:
            temporary.rename(path)
        except FileExistsError as error:
            raise _written_meanwhile(path) from error


def _written_meanwhile(path: Path) -> ConfigError:
    found = f"{path}, which another process has written meanwhile"
    return ConfigError(Problem("--out", found, "a new file or folder", "give another, or --overwrite"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
