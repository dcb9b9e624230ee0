"""State dicts: reading them from checkpoint files, writing them, and loading them into a model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.archive import ForeignClassesError
from trak_cli.plugins.checkpoints.formats.pickles import allowing
from trak_cli.plugins.checkpoints.formats.tensors import Entry, NamedTensors, as_tensor, named_tensors
from trak_cli.plugins.checkpoints.matching.choice import choose
from trak_cli.plugins.checkpoints.matching.places import Place
from trak_cli.plugins.checkpoints.matching.tolerance import Tolerance
from trak_cli.plugins.checkpoints.readers import reader_of
from trak_cli.plurals import counted
from trak_cli.user_errors import report_user_errors


def load(path: Path, allow: Sequence[str] = ()) -> NamedTensors:
    """All tensors of a checkpoint, on the CPU, by the reader registered for the end of the file's name.

    Tensors in nested mappings have dotted names; :func:`apply` finds the weights of a model among them.

    Args:
        allow: dotted names of classes whose objects a pickle may hold besides the weights (``checkpoints.allow``).

    Raises:
        ConfigError: a name in ``allow`` is no class that can be imported.
        InputError: the file is missing, damaged, without tensors, without a registered reader, or holds other objects.
    """
    try:
        with report_user_errors(str(path), any_code=True), allowing(allow):
            content = reader_of(path).read(path)
            tensors = named_tensors(content)
    except ForeignClassesError as error:
        raise InputError([_with_remedy(problem, error.classes, allow) for problem in error.problems]) from error
    if tensors:
        return tensors
    if isinstance(content, Mapping):
        found = f"no tensors, under the keys {', '.join(map(str, list(content)[:8])) or 'of an empty mapping'}"
    else:
        found = f"no tensors: {type(content).__name__}"
    raise InputError(Problem(str(path), found, "names and tensors", "write it with torch.save(model.state_dict(), path)"))


def dump(model: nn.Module, notes: dict[str, str] | None = None) -> bytes:
    """A model's weights as the bytes of a safetensors file; a tensor with several names is stored once, under the first.

    For a model with a PEFT adapter: the adapter's weights only, under the names that peft gives them.

    Args:
        notes: metadata of the file, such as those of notes.py.

    Raises:
        InputError: the format has no such numbers.
    """
    tensors, names = _tensors(model), _adapter_names(model)
    state = tensors if names is None else {name: tensors[own] for name, own in names.items()}
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        unique.setdefault(id(tensor), (name, tensor))
    if wide := [name for name, tensor in unique.values() if tensor.dtype == torch.complex128]:
        remedy = "use complex64, or two real parameters, in the model"
        raise InputError(Problem("model", f"{wide[0]} in complex128", "numbers that a safetensors file can hold", remedy))
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in unique.values()}, notes or None)


def saved_names(model: nn.Module) -> set[str]:
    """The names, in the model, of the tensors that :func:`dump` writes and :func:`apply` sets, tied ones included."""
    names = _adapter_names(model)
    return set(_tensors(model) if names is None else names.values())


def apply(model: nn.Module, state: Mapping[str, Entry], path: Path, key: str | None = None, *, assign: bool = False) -> Place:
    """Put the weights of a checkpoint into a model, in place, in the model's dtypes and on its device.

    The weights are the tensors that have all names and shapes of the model and no others; they may lie anywhere in the file
    and have the names of wrappers, see :mod:`trak_cli.plugins.checkpoints.matching.places`. A tied weight may be present
    under only one of its names. A model with a PEFT adapter takes the adapter's weights alone, under the names that peft
    writes, or all weights.

    Args:
        state: the result of :func:`load`, or a state_dict.
        path: the checkpoint's file, for messages.
        key: ``checkpoints.key``: where in the file the weights lie; None: wherever they fit.
        assign: make the tensors of ``state`` the weights, in the model's dtypes, instead of copying them. Those of a
            .safetensors file are mapped into memory, and the system reads and drops their pages as it needs to.

    Returns:
        Where the weights were found.

    Raises:
        InputError: lists all missing, unexpected and mis-shaped names, tied weights with different values, and parameters
            that are not finite; or several weights fit the model.
    """
    tensors = state if isinstance(state, NamedTensors) else _flat(state)
    everything, names = _tensors(model), _adapter_names(model)
    own = everything if names is None else {name: everything[inside] for name, inside in names.items()}
    tolerance = Tolerance(model)
    try:
        place = choose(own, tensors, path, key, tolerance)
    except InputError as refused:
        if names is None:
            raise
        own, names = everything, None
        try:
            place = choose(own, tensors, path, key, tolerance)
        except InputError:
            raise refused from None
    weights = {name: as_tensor(tensors[file]) for name, file in place.names.items()}
    InputError.raise_for(_value_problems(own, weights, str(path)))
    if names is not None:
        weights = {names[name]: value for name, value in weights.items()}
    # Not strict, because names of tied weights may be missing. Copying into ``own`` instead would have no effect on a model
    # whose state_dict hooks return copies.
    if assign:
        _assign(model, {name: value.to(everything[name].dtype) for name, value in weights.items()})
    else:
        model.load_state_dict(weights, strict=False)
    return place


def _assign(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make tensors the weights of a model, and tie again what shared one parameter."""
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append((module, name))
    shared = [places for places in holders.values() if len(places) > 1]
    before = [module._parameters[name] for (module, name), *_ in shared]
    model.load_state_dict(weights, strict=False, assign=True)
    for places, old in zip(shared, before, strict=True):
        new = next((module._parameters[name] for module, name in places if module._parameters[name] is not old), old)
        for module, name in places:
            module._parameters[name] = new


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The part of a model's state that a checkpoint holds: its tensors, without a module's extra state."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _adapter_names(model: nn.Module) -> dict[str, str] | None:
    """Name in an adapter file -> name in the model's state_dict; None for a model without an adapter.

    A peft model is recognised by the name of its class, so that other models do not need peft.
    """
    if not any(f"{kind.__module__}.{kind.__name__}" == "peft.peft_model.PeftModel" for kind in type(model).__mro__):
        return None
    peft: Any = importlib.import_module("peft")
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    names = {id(tensor): name for name, tensor in state.items()}
    written = peft.get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    return {name: names[id(tensor)] for name, tensor in written.items()}


def _flat(state: Mapping[str, Entry]) -> NamedTensors:
    tensors = NamedTensors()
    for name, entry in state.items():
        tensors.add(name, entry, "")
    return tensors


def _value_problems(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str) -> list[Problem]:
    problems = []
    names: dict[int, list[str]] = {}
    for name, value in own.items():
        if name not in weights:
            continue
        names.setdefault(id(value), []).append(name)
        if value.is_floating_point() and not weights[name].is_floating_point():
            found = f"{name} of {weights[name].dtype}"
            problems.append(Problem(path, found, "floating-point weights", "save the weights before they are quantized"))
        elif isinstance(value, nn.Parameter) and (bad := _not_finite(weights[name])):
            found = f"{name}, of which {bad:,} of {counted(weights[name].numel(), 'number')} are NaN or infinite"
            problems.append(Problem(path, found, "finite weights", "use a checkpoint from before training diverged"))
    for first, *others in names.values():
        problems += [
            Problem(path, f"different values for {first} and {other}", "equal values: the model ties them", _UNTIED)
            for other in others
            if not torch.equal(weights[first], weights[other])
        ]
    return problems


_UNTIED = "load it into the model that it was saved from"


def _not_finite(tensor: Tensor) -> int:
    return int((~tensor.isfinite()).sum()) if tensor.is_floating_point() or tensor.is_complex() else 0


def _with_remedy(problem: Problem, classes: Sequence[str], allowed: Sequence[str]) -> Problem:
    if not classes:
        return problem
    option = f"'checkpoints.allow=[{','.join([*allowed, *classes])}]'"
    return replace(problem, remedy=f"if you trust these classes, give {option}; else {problem.remedy}")
