"""The registry of checkpoint readers: which files and folders are checkpoints, and how their tensors are read.

The readers of the package run no code from a file: .safetensors holds tensors only, files of torch.save are read with
``weights_only=True``, and the index of torch.distributed.checkpoint by an unpickler that builds inert records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.formats.folders import INDEX, weights_in
from trak_cli.plugins.checkpoints.formats.kinds import holds_tensors
from trak_cli.plugins.checkpoints.formats.sharded import INDEX_SUFFIX, files_of_index

#: A checkpoint file -> mappings and lists with the tensors, at any depth, on the CPU.
Read = Callable[[Path], object]

#: A checkpoint file -> all files whose bytes make up the checkpoint, in a fixed order.
Files = Callable[[Path], list[Path]]

Function = TypeVar("Function", bound=Read)


@dataclass(frozen=True)
class CheckpointReader:
    """One registered reader; see :func:`register_checkpoint_reader` for the fields."""

    read: Read
    files: Files | None


#: Suffix -> reader.
_READERS: dict[str, CheckpointReader] = {}


def register_checkpoint_reader(*suffixes: str, files: Files | None = None) -> Callable[[Function], Function]:
    """Register the decorated function as the reader of checkpoint files whose names end in one of ``suffixes``.

    The function takes the path of a file and returns a mapping of names to tensors, on the CPU. It should raise
    :class:`~trak_cli.errors.InputError` for a damaged file. If it unpickles, opening a checkpoint runs whatever code the file
    holds. A later registration replaces an earlier one for the same suffix, and a longer suffix wins over a shorter one.

    Args:
        suffixes: ends of file names, compared without case, for example ``".npz"`` or ``".index.json"``.
        files: for checkpoints in several files: all files whose bytes make up the checkpoint. The SHA-256 that identifies
            the checkpoint covers them. By default it covers the file itself.

    Raises:
        ValueError: a suffix does not start with a dot.
    """
    if not suffixes or not all(suffix.startswith(".") and len(suffix) > 1 for suffix in suffixes):
        raise ValueError(f"suffixes of checkpoint files start with a dot, unlike {', '.join(map(repr, suffixes)) or 'none'}")

    def register(read: Function) -> Function:
        _READERS.update({suffix.lower(): CheckpointReader(read, files) for suffix in suffixes})
        return read

    return register


def registered_suffixes() -> list[str]:
    """The suffixes of checkpoint files, in alphabetical order."""
    return sorted(_READERS)


def reader_of(path: Path) -> CheckpointReader:
    """The reader of a checkpoint file, or of a folder with weights.

    Raises:
        InputError: no reader is registered for the end of the file's name, and its content is not a known one; or the folder
            holds no weights.
    """
    if path.is_dir():
        return _reader_of_folder(path)
    fitting = [suffix for suffix in _READERS if path.name.lower().endswith(suffix)]
    if not fitting and holds_tensors(path):
        return _READERS[".pt"]
    if not fitting:
        remedy = "correct the path, or register a checkpoint reader (docs/extending.md)"
        found = "a file that no checkpoint reader reads"
        raise InputError(Problem(str(path), found, f"a name that ends in {', '.join(registered_suffixes())}", remedy))
    return _READERS[max(fitting, key=len)]


def _reader_of_folder(folder: Path) -> CheckpointReader:
    if (folder / INDEX).is_file():
        return CheckpointReader(_read_distributed, _files_of_distributed)
    weights = weights_in(folder)
    if weights is None:
        remedy = "name the files in it, or the folder that holds the weights"
        raise InputError(Problem(str(folder), "a folder without weights", "model.safetensors or the like in it", remedy))
    reader = reader_of(weights)
    files = reader.files
    return CheckpointReader(lambda _: reader.read(weights), lambda _: files(weights) if files else [weights])


def _read_distributed(folder: Path) -> object:
    from trak_cli.plugins.checkpoints.formats.distributed import read_folder  # PyTorch, which finding files does not need

    return read_folder(folder)


def _files_of_distributed(folder: Path) -> list[Path]:
    from trak_cli.plugins.checkpoints.formats.distributed import files_of_folder

    return files_of_folder(folder)


@register_checkpoint_reader(".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
def read_tensors(path: Path) -> object:
    """A .safetensors file, or what torch.save wrote, read with ``weights_only=True``."""
    from trak_cli.plugins.checkpoints.archive import read_archive  # imports PyTorch, which finding files does not need

    return read_archive(path)


@register_checkpoint_reader(INDEX_SUFFIX, files=files_of_index)
def read_sharded(path: Path) -> object:
    """The tensors of all files that an index names."""
    state: dict[str, object] = {}
    for file in files_of_index(path):
        content = reader_of(file).read(file)
        if not isinstance(content, Mapping):
            raise InputError(Problem(str(file), type(content).__name__, "names and tensors", "save the checkpoint again"))
        state |= content
    return state
