"""Reads pickles of torch.save with ``weights_only=True``, and finds the classes in them that are not allowed.

PyTorch's reader builds objects of listed classes only. Here NumPy's arrays and numbers, dates and paths are listed as well:
building them runs no code of the file. More classes are listed by the user (``checkpoints.allow``).
"""

from __future__ import annotations

import datetime
import importlib
import pathlib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import _weights_only_unpickler

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.checkpoints.formats.numpy_values import Array, Dtype, empty_array, number
from trak_cli.user_errors import error_summary

_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")

_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, slice, range, object)

#: Name in a pickle -> the class or function that is used for it.
_HARMLESS: dict[str, Any] = {
    "numpy.ndarray": Array,
    "numpy.dtype": Dtype,
    **{f"{package}.multiarray._reconstruct": empty_array for package in ("numpy.core", "numpy._core")},
    **{f"{package}.multiarray.scalar": number for package in ("numpy.core", "numpy._core")},
    **{f"{module}.{name}": pathlib.PurePosixPath for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{f"builtins.{kind.__name__}": kind for kind in _PLAIN},
    "typing.Any": Any,
    **{f"datetime.{name}": getattr(datetime, name) for name in ("datetime", "date", "time", "timedelta", "timezone")},
}

_FOREIGN = re.compile(r"GLOBAL (\S+) was not an allowed global")

#: Modules whose classes a message never offers to allow, because calling them runs commands or code.
_DANGEROUS = {
    *("builtins", "commands", "importlib", "pickle", "runpy"),
    *("nt", "os", "posix", "pty", "shutil", "socket", "subprocess", "sys"),
}


class _ShortError(UnpicklingError):
    """A refusal with a message of bounded length: PyTorch searches it in a time that grows with the square of its length."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message[:2000])


_weights_only_unpickler.UnpicklingError = _ShortError  # type: ignore[assignment, attr-defined]


class _Placeholder:
    """Stands for an object of an unknown class while its place in a file is searched."""

    def __new__(cls, *_: object, **__: object) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        self.is_module = False

    def __setstate__(self, state: object) -> None:
        self.is_module = isinstance(state, dict) and "_modules" in state


@dataclass
class ForeignClasses:
    """The classes of a file that may not be built.

    Attributes:
        places: dotted name of a class -> the dotted key of its first object; empty if it is unknown.
        module: the key of the first whole model; None if there is none.
    """

    places: dict[str, str]
    module: str | None = None


def load_pickle(path: Path, extra: Mapping[str, Any] | None = None) -> Any:
    """The content of a file of torch.save. Tensors are mapped into memory where the format allows it."""
    listed = _HARMLESS | dict(extra or {})
    with torch.serialization.safe_globals([(value, name) for name, value in listed.items()]):
        if path.suffix == ".safetensors":  # torch.load would take the suffix for the format
            with path.open("rb") as stream:
                return torch.load(stream, map_location="cpu", weights_only=True)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def allowing(names: Sequence[str]) -> AbstractContextManager[None]:
    """A context in which files may hold objects of these classes, given by dotted names.

    Raises:
        ConfigError: a name that is no class, or whose module cannot be imported.
    """
    return torch.serialization.safe_globals([(_class(name), name) for name in names])


def foreign_classes(path: Path) -> ForeignClasses:
    """The classes in the file that are not listed.

    The objects are replaced by placeholders, so that nothing of the file runs.
    """
    stubs: dict[str, Any] = {}
    content: object = None
    while len(stubs) < 200:
        try:
            content = load_pickle(path, stubs)
            break
        except Exception as error:  # damaged files raise exceptions of any kind
            refused = _FOREIGN.search(str(error))
            if refused is None:
                break
            name = refused.group(1) if "." in refused.group(1) else f"builtins.{refused.group(1)}"
            if name in stubs:
                break
            stubs[name] = type(name.rpartition(".")[2], (_Placeholder,), {})
    foreign = ForeignClasses({})
    _search(content, "", {kind: name for name, kind in stubs.items()}, foreign, set())
    foreign.places = {name: foreign.places.get(name, "") for name in stubs}
    return foreign


def may_be_allowed(names: Iterable[str]) -> bool:
    """Whether a message may offer to allow these classes."""
    return all(name.partition(".")[0] not in _DANGEROUS for name in names)


def _search(value: object, key: str, kinds: Mapping[Any, str], foreign: ForeignClasses, seen: set[int]) -> None:
    name = kinds.get(value if isinstance(value, type) else type(value))
    if name is not None:
        foreign.places.setdefault(name, key)
        if foreign.module is None and getattr(value, "is_module", False) is True:
            foreign.module = key
    elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for part, item in items:
            _search(item, f"{key}.{part}" if key else str(part), kinds, foreign, seen | {id(value)})


def _class(name: str) -> Any:
    where, expected = "checkpoints.allow", "module.Class, a class that can be imported"
    module, _, last = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), last)
    except Exception as error:  # the user's module may raise anything
        remedy = "correct the name, or install the package"
        raise ConfigError(Problem(where, f"{name} ({error_summary(error)})", expected, remedy)) from error
    if not isinstance(value, type):
        expected = "a class: a file could call a function with any arguments"
        raise ConfigError(Problem(where, f"{name}, a {type(value).__name__}", expected, f"remove {name}"))
    return value
