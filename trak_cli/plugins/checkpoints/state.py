"""State dicts: reading them from checkpoint files, writing them, and loading them into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.adapters import adapter_names
from trak_cli.plugins.checkpoints.readers import reader_of
from trak_cli.user_errors import report_user_errors

#: Where training programs put the state_dict inside a larger dict.
_NESTS = ("state_dict", "model_state_dict", "model")

#: What wrappers (DataParallel, torch.compile) put before every name.
_PREFIXES = ("module.", "_orig_mod.")


def load(path: Path) -> dict[str, Tensor]:
    """The state_dict in a checkpoint file, on the CPU, by the reader registered for the end of the file's name.

    A state_dict may lie under one of the keys state_dict, model_state_dict and model.

    Raises:
        InputError: the file is missing, damaged, without a state_dict, or without a registered reader.
    """
    with report_user_errors(str(path), any_code=True):
        content = reader_of(path).read(path)
    state = _as_state(content)
    if state is not None:
        return state
    nested = {key: _as_state(content[key]) for key in _NESTS if isinstance(content, Mapping) and key in content}
    states = {key: inner for key, inner in nested.items() if inner is not None}
    if len(states) == 1:
        return next(iter(states.values()))
    if states:
        found = f"several state_dicts, under the keys {', '.join(states)}"
    elif isinstance(content, Mapping):
        found = f"a mapping with the keys {', '.join(map(str, list(content)[:8]))}"
    else:
        found = type(content).__name__
    expected = f"names and tensors, at the top or under one of the keys {', '.join(_NESTS)}"
    raise InputError(Problem(str(path), found, expected, "write it with torch.save(model.state_dict(), path)"))


def dump(model: nn.Module) -> bytes:
    """A model's weights as the bytes of a safetensors file; a tensor with several names is stored once, under the first.

    For a model with a PEFT adapter: the adapter's weights only, under the names that peft gives them.
    """
    tensors, names = _tensors(model), adapter_names(model)
    state = tensors if names is None else {name: tensors[own] for name, own in names.items()}
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        unique.setdefault(id(tensor), (name, tensor))
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in unique.values()})


def apply(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a state_dict into a model, in place, in the model's dtypes and on its device.

    Names and shapes must agree exactly, except that a tied weight may be present under only one of its names, and that all
    names may have a prefix that wrappers add ("module.", "_orig_mod."). A model with a PEFT adapter takes the adapter's
    weights only, under the names that peft writes.

    Args:
        path: the checkpoint's file, for messages.

    Raises:
        InputError: lists all missing, unexpected and mis-shaped names, tied weights with different values, and parameters
            that are not finite.
    """
    own = _tensors(model)
    names = adapter_names(model)
    if names is not None:
        own = {name: own[inside] for name, inside in names.items()}
    state = _without_prefix(state, own)
    tied = _aliases(own)
    problems = _problems(own, state, tied, str(path))
    if problems:
        raise InputError(problems)
    if names is not None:
        state = {names[name]: value for name, value in state.items()}
    # Not strict, because names of tied weights may be missing. Copying into ``own`` instead would have no effect on a model
    # whose state_dict hooks return copies.
    model.load_state_dict(dict(state), strict=False)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The part of a model's state that a checkpoint holds: its tensors, without a module's extra state."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _problems(own: dict[str, Tensor], state: Mapping[str, Tensor], tied: dict[str, list[str]], path: str) -> list[Problem]:
    remedy = "load it into the model that it was saved from"
    problems = []
    for name, value in own.items():
        others = [other for other in tied[name] if other in state and other != name]
        if name not in state and not others:
            problems.append(Problem(path, f"no {name}", f"{name} {tuple(value.shape)}", remedy))
        elif name in state and state[name].shape != value.shape:
            found = f"{name} {tuple(state[name].shape)}"
            problems.append(Problem(path, found, f"{name} {tuple(value.shape)}", remedy))
        elif name in state and others and name == tied[name][0]:
            problems += [
                Problem(path, f"different values for {name} and {other}", "equal values: the model ties them", remedy)
                for other in others
                if not torch.equal(state[name], state[other])
            ]
        if isinstance(value, nn.Parameter) and name in state and (bad := _not_finite(state[name])):
            found = f"{name}, of which {bad:,} of {state[name].numel():,} numbers are NaN or infinite"
            problems.append(Problem(path, found, "finite weights", "use a checkpoint from before training diverged"))
    unexpected = [name for name in state if name not in own]
    problems += [
        Problem(path, f"{name} {tuple(state[name].shape)}", "no such name in the model", remedy) for name in unexpected
    ]
    return problems


def _not_finite(tensor: Tensor) -> int:
    return int((~tensor.isfinite()).sum()) if tensor.is_floating_point() else 0


def _aliases(own: dict[str, Tensor]) -> dict[str, list[str]]:
    """Name -> all names of the same tensor."""
    groups: dict[int, list[str]] = {}
    for name, value in own.items():
        groups.setdefault(id(value), []).append(name)
    return {name: groups[id(value)] for name, value in own.items()}


def _without_prefix(state: Mapping[str, Tensor], own: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """The state without a wrapper's prefix, if all names have it and are known without it."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) and name.removeprefix(prefix) in own for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _as_state(content: object) -> dict[str, Tensor] | None:
    if isinstance(content, Mapping) and content:
        items = dict(content.items())
        if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in items.items()):
            return items
    return None
