"""Folders of ``torch.distributed.checkpoint``: a pickled index, ``.metadata``, and shards with pieces of tensors.

PyTorch unpickles the index without restrictions. Here it is read by an unpickler that knows the few classes of an index by
name and puts inert records in their place, so that no code of the file can run. Every piece in a shard is what torch.save
wrote, and is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.formats.folders import INDEX
from trak_cli.plugins.checkpoints.formats.tensors import StoredTensor
from trak_cli.plurals import counted
from trak_cli.user_errors import first_line
from trak_cli.user_files import parsing

_EXPECTED = "what torch.distributed.checkpoint.save wrote"

_PACKAGE = "torch.distributed.checkpoint."
_RECORDS = {
    *(f"{_PACKAGE}metadata.{name}" for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata")),
    *(f"{_PACKAGE}metadata.{name}" for name in ("BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties")),
    *(f"{_PACKAGE}metadata._MEM_FORMAT_ENCODING", f"{_PACKAGE}filesystem._StorageInfo"),
    *(f"{_PACKAGE}filesystem._StoragePrefix", "torch.serialization._get_layout"),
    *("pathlib.PosixPath", "pathlib._local.PosixPath", "pathlib.WindowsPath", "pathlib._local.WindowsPath"),
}


class _Record:
    """The attributes of an object of an index, without its class."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in _RECORDS:
            return _Record
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"the class {module}.{name}")


def files_of_folder(folder: Path) -> list[Path]:
    """The index and all shards, sorted by name. A shard holds pieces of the weights and possibly of the optimizer's state."""
    with parsing(folder, _EXPECTED):
        _, pieces_of = _contents(folder)
        pieces = (info for pieces in pieces_of.values() for _, info in pieces)
        return [folder / INDEX, *sorted({folder / info.relative_path for info in pieces})]


def read_folder(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a folder by name; each is read from its shards when it is needed.

    Raises:
        InputError: the index or a shard is missing, damaged, or of another kind.
    """
    with parsing(folder, _EXPECTED):
        entries, pieces = _contents(folder)
        tensors: dict[str, StoredTensor] = {}
        for name, entry in entries.items():
            shape = getattr(entry, "size", None)
            if isinstance(shape, torch.Size):
                tensors[name] = StoredTensor(shape, partial(_read, folder, name, shape, pieces.get(name, [])))
        return tensors


def read_values(folder: Path, part: str) -> dict[str, Any]:
    """The plain values of a folder, such as numbers and lists, whose names have a part: ``optim.param_groups.0.lr``.

    Raises:
        InputError: the index or a shard is missing, damaged, or of another kind.
    """
    with parsing(folder, _EXPECTED):
        return _plain_values(folder, part)


def _plain_values(folder: Path, part: str) -> dict[str, Any]:
    entries, pieces = _contents(folder)
    names = [name for name, entry in entries.items() if not hasattr(entry, "size")]
    return {name: _value(folder, pieces[name][0][1]) for name in names if part in name.split(".") and name in pieces}


def _value(folder: Path, info: Any) -> Any:
    path = folder / info.relative_path
    with path.open("rb") as stream:
        stream.seek(info.offset)
        content = io.BytesIO(stream.read(info.length))
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise exceptions of any kind
        raise _damaged(path, first_line(error)) from error


def _index(folder: Path) -> Any:
    path = folder / INDEX
    try:
        index = _IndexUnpickler(io.BytesIO(path.read_bytes())).load()
        if isinstance(index.state_dict_metadata, Mapping) and isinstance(index.storage_data, Mapping):
            return index
    except OSError as error:
        raise InputError(Problem(str(path), str(error.strerror), "a readable file", "correct the path")) from error
    except Exception as error:  # a damaged pickle raises exceptions of any kind
        raise _damaged(path, first_line(error)) from error
    raise _damaged(path, "no list of tensors")


def _contents(folder: Path) -> tuple[Mapping[str, Any], dict[str, list[tuple[tuple[int, ...], Any]]]]:
    """Name -> the entry of the index; and name -> offset and place of each piece. An entry that is no tensor has one piece."""
    index = _index(folder)
    pieces: dict[str, list[tuple[tuple[int, ...], Any]]] = {}
    missing: set[str] = set()
    for key, info in index.storage_data.items():
        pieces.setdefault(key.fqn, []).append((tuple(getattr(key, "offset", None) or ()), info))
        shard = Path(info.relative_path)
        if shard.name != str(shard) or not (folder / shard).is_file():
            missing.add(str(shard))
    expected, remedy = "the shards beside .metadata", "copy every file of the folder"
    InputError.raise_for(Problem(str(folder), f"no {name}", expected, remedy) for name in sorted(missing))
    return index.state_dict_metadata, pieces


def _read(folder: Path, name: str, shape: torch.Size, pieces: list[tuple[tuple[int, ...], Any]]) -> Tensor:
    with parsing(folder, _EXPECTED):
        whole: Tensor | None = None
        filled = 0
        for offset, piece in _loaded(folder, name, pieces):
            if whole is None:
                whole = torch.empty(shape, dtype=piece.dtype)
            starts = offset or [0] * piece.dim()
            place = tuple(slice(start, start + size) for start, size in zip(starts, piece.shape, strict=True))
            whole[place] = piece
            filled += piece.numel()
        if whole is None or filled != math.prod(shape):
            raise _damaged(folder / INDEX, f"{filled:,} of {counted(math.prod(shape), 'number')} of {name}")
        return whole


def _loaded(folder: Path, name: str, pieces: list[tuple[tuple[int, ...], Any]]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    for offset, info in pieces:
        path = folder / info.relative_path
        if getattr(info, "transform_descriptors", None):
            found = f"{name}, stored with {', '.join(map(str, info.transform_descriptors))}"
            raise InputError(Problem(str(path), found, "uncompressed tensors", "save the folder without extensions"))
        piece = _value(folder, info)
        if not isinstance(piece, Tensor):
            raise _damaged(path, f"{name} of type {type(piece).__name__}")
        yield offset, piece


def _damaged(path: Path, found: str) -> InputError:
    return InputError(Problem(str(path), found, _EXPECTED, "copy or save the folder again"))
