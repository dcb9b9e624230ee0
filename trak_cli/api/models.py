"""Models and checkpoints in memory: a fresh model for every stage, and weights as files of a store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.state import apply, dump
from trak_cli.plugins.model_state import uninitialised
from trak_cli.store.atomic_write import write_once
from trak_cli.user_errors import error_summary, report_user_errors

#: A model, or a function without arguments that builds one.
ModelOrFactory = nn.Module | Callable[[], nn.Module]

_EXPECTED = "a torch.nn.Module, or a function without arguments that builds a new one"


def factory_of(model: object) -> Callable[[], nn.Module]:
    """A function that builds a new model: copies of ``model``, which is never changed, or what the function returns.

    Raises:
        InputError: neither a model nor a function that builds new ones; a model that cannot be copied.
    """
    if isinstance(model, nn.Module):
        inner = _unwrapped(model)
        _refuse_lazy(inner)
        return lambda: _copied(inner)
    if not callable(model):
        raise InputError(Problem("model", f"an object of type {type(model).__name__}", _EXPECTED, "give the model"))
    with report_user_errors("model", any_code=True):
        first, second = model(), model()
    if not isinstance(first, nn.Module):
        remedy = "let the function return the module"
        raise InputError(Problem("model", f"a function that returns {type(first).__name__}", _EXPECTED, remedy))
    if first is second:
        remedy = "give the model itself, which is copied"
        raise InputError(Problem("model", "a function that returns the same model each time", _EXPECTED, remedy))
    return model


def weight_files(checkpoints: Any, model: ModelOrFactory, build: Callable[[], nn.Module], folder: Path) -> list[Path]:
    """The checkpoint files: paths as they are given; state dicts and models are written into ``folder``.

    Equal weights give equal files, whatever object or process they come from: a name with the number of the checkpoint, and
    the tensors alone.

    Args:
        checkpoints: one or several paths, state dicts and models; None: the weights of ``model`` itself.
        build: the result of :func:`factory_of`.

    Raises:
        InputError: weights that do not fit the model, or a model without weights of its own.
    """
    if checkpoints is None:
        payload = dump(build())
        if not isinstance(model, nn.Module) and dump(build()) != payload:
            found = "none, and a function that builds a model with other weights each time"
            raise InputError(
                Problem("checkpoints", found, "weights", "give checkpoints=STATE_DICT, or the trained model itself")
            )
        return [_written(folder, 0, payload)]
    several = isinstance(checkpoints, Sequence) and not isinstance(checkpoints, str)
    items = list(checkpoints) if several else [checkpoints]
    if not items:
        raise InputError(Problem("checkpoints", "an empty list", "paths, state dicts or models", "give at least one"))
    files: list[Path] = []
    problems: list[Problem] = []
    for number, item in enumerate(items):
        key = f"checkpoints[{number}]" if several else "checkpoints"
        try:
            files.append(Path(item) if isinstance(item, str | Path) else _written(folder, number, _payload(item, build, key)))
        except InputError as error:
            problems += error.problems
    InputError.raise_for(problems)
    return files


def _payload(item: Any, build: Callable[[], nn.Module], key: str) -> bytes:
    """The weights of one state dict or model as the bytes of a file, under the names of the model that ``build`` makes."""
    state = item.state_dict() if isinstance(item, nn.Module) else item
    if not isinstance(state, Mapping):
        expected = "a path, a state dict or a model"
        raise InputError(Problem(key, f"an object of type {type(item).__name__}", expected, f"give {key} as one of these"))
    if inside := [name for name, value in state.items() if isinstance(value, Mapping)]:
        found = f"a mapping with the keys {', '.join(map(str, list(state)[:6]))}"
        remedy = f"give the path of its file, or the part with the weights, such as CHECKPOINT[{inside[0]!r}]"
        raise InputError(Problem(key, found, "names and tensors", remedy))
    model = build()
    apply(model, {name: value for name, value in state.items() if isinstance(value, Tensor)}, Path(key))
    return dump(model)


def _written(folder: Path, number: int, payload: bytes) -> Path:
    path = folder / f"weights_{number}.safetensors"
    if not write_once(path, payload) and path.read_bytes() != payload:
        found, expected = "other weights, of an earlier call", "the weights of this call"
        remedy = "give another store (a model that was trained again has other weights), or those that the store was made with"
        raise InputError(Problem(str(path), found, expected, remedy))
    return path


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DataParallel and DistributedDataParallel, which computes the same outputs."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while (inner := model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)) is not None:
        model = inner
    return model


def _copied(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model)
    except Exception as error:  # code of the user runs here and may raise anything
        found = f"a {type(model).__name__} that cannot be copied ({error_summary(error)})"
        raise InputError(
            Problem("model", found, _EXPECTED, "give a function that builds the model, and checkpoints")
        ) from error
    copied.zero_grad(set_to_none=True)
    return copied


def _refuse_lazy(model: nn.Module) -> None:
    if lazy := uninitialised(model):
        found = f"lazy parameters without shapes: {', '.join(lazy[:3])}"
        raise InputError(Problem("model", found, "a trained model", "call the model once on a batch"))
