"""Reads files of tensors without running code from them: .safetensors, .npz, and otherwise what torch.save wrote.

The content decides about the format, except that .npz is known by its suffix.
"""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
from safetensors.torch import load_file

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.formats.kinds import Format, format_of
from trak_cli.plugins.checkpoints.formats.pickles import foreign_classes, load_pickle, may_be_allowed
from trak_cli.user_files import parsing, require_plausible

_EXPECTED = "tensors in a .safetensors, .npz, or torch.save file"
_SAVE = "save only the state_dict: torch.save(model.state_dict(), path)"


class ForeignClassesError(InputError):
    """A pickle with objects of classes that are not allowed.

    Attributes:
        classes: their dotted names; empty if no message should offer to allow them.
    """

    def __init__(self, problem: Problem, classes: list[str]) -> None:
        super().__init__(problem)
        self.classes = classes


def read_archive(path: Path) -> object:
    """The content of a file: a dict of tensors (.safetensors) or arrays (.npz, in the order of the file), or any plain value.

    Tensors are on the CPU.

    Raises:
        InputError: the file is missing, damaged, of a format that holds no plain tensors, or a pickle that refers to other
            classes (:class:`ForeignClassesError`), of which nothing is run.
    """
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "a file", "correct the path"))
    with parsing(path, _EXPECTED):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            require_plausible(str(path), unpacked, path.stat().st_size)
        try:
            return _content(path)
        except UnpicklingError as error:
            raise _refused(path, error) from error


def _content(path: Path) -> object:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    kind = format_of(path)
    if kind is Format.SAFETENSORS:
        return load_file(path)
    if kind is not Format.TORCH:
        raise InputError(_other_format(path, kind))
    return load_pickle(path)


def _other_format(path: Path, kind: Format) -> Problem:
    """The remedy writes the weights of such a file to a new one beside it."""
    if kind is Format.POINTER:
        return Problem(str(path), "a pointer of Git LFS instead of the file", _EXPECTED, f"git lfs pull --include={path.name}")
    if kind is Format.EMPTY:
        return Problem(str(path), "an empty file", _EXPECTED, "copy or write the file again")
    new = path.with_name(f"{path.stem}_weights.pt")
    if kind is Format.TORCHSCRIPT:
        found = "a TorchScript archive (torch.jit.save)"
        state = f"torch.jit.load({str(path)!r}, map_location='cpu').state_dict()"
    else:
        found, state = "an exported program (torch.export.save)", f"torch.export.load({str(path)!r}).state_dict"
    return Problem(str(path), found, _EXPECTED, f"{_command(f'torch.save({state}, {str(new)!r})')} and use {new}")


def _refused(path: Path, error: UnpicklingError) -> InputError:
    """Why weights_only reading failed: the pickle holds more than tensors, or the file is no pickle."""
    foreign = foreign_classes(path)
    places, module = foreign.places, foreign.module
    if not places:
        if not any(part in str(error) for part in ("WeightsUnpickler error", "Unsupported", "is blocked")):
            return InputError(Problem(str(path), "a file that is not an archive of tensors", _EXPECTED, "correct the path"))
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0].rstrip(".")
        found = f"a pickle that could run code when it is loaded ({reason}); it was not loaded"
        return InputError(Problem(str(path), found, _EXPECTED, _SAVE))
    listed = ", ".join(f"{name} (under {key})" if key else name for name, key in places.items())
    found = f"objects of {listed}; loading them could run code, so the file was not loaded"
    if module is not None:
        new = path.with_name(f"{path.stem}_weights.pt")
        parts = module.split(".") if module else []
        part = "".join(f"[{part}]" if part.isdecimal() else f"[{part!r}]" for part in parts)
        code = f"torch.save(torch.load({str(path)!r}, 'cpu', weights_only=False){part}.state_dict(), {str(new)!r})"
        found = f"a whole model: {found}"
        return InputError(Problem(str(path), found, _EXPECTED, f"if you trust the file: {_command(code)} and use {new}"))
    classes = list(places) if may_be_allowed(places) else []
    return ForeignClassesError(Problem(str(path), found, _EXPECTED, f"{_SAVE}, or use safetensors"), classes)


def _command(code: str) -> str:
    return f"python -c {shlex.quote(f'import torch; {code}')}"
