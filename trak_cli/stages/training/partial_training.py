"""Training from a checkpoint, and training of some parameters only: ``train.start`` and ``train.only_parameters``.

A model's state is its parameters and those buffers that a checkpoint holds. By default all of it is trained, from
``train.start`` where that is given. With ``train.only_parameters``, the state whose names match ``parameters.include`` and
not ``parameters.exclude`` starts from the fresh initialisation of the seed and is trained; the rest keeps the values of
``train.start`` (or of the model plugin) bit for bit, the statistics of BatchNorm included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.config.schema import ParametersConfig, TrainConfig
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.types import listed

KEY = "parameters.include"


@contextmanager
def prepared(model: nn.Module, train: TrainConfig, parameters: ParametersConfig) -> Iterator[None]:
    """Context in which a fresh model is trained: it holds the initial weights, and only the chosen parameters can change.

    Fixed parameters require no gradient. Fixed modules compute as in evaluation mode, whatever mode the trainer sets.

    Args:
        train, parameters: the keys ``train`` and ``parameters`` of the config.

    Raises:
        ConfigError, InputError: before the training, everything that is wrong with the patterns and the file.
        InputError: after the training, a fixed parameter or buffer has changed.
    """
    state = _state(model)
    chosen = {id(tensor) for tensor in state.values()}
    problems: list[Problem] = []
    if train.only_parameters:
        chosen = {id(state[name]) for name in state if _matches(parameters.include, name)}
        chosen -= {id(state[name]) for name in state if _matches(parameters.exclude, name)}
        for key in ("include", "exclude"):
            problems += _idle(model, state, f"parameters.{key}", getattr(parameters, key))
        if not problems:
            problems += _choice_problems(model, train, parameters, chosen, set(map(id, state.values())))
    misfits = _load(model, train, [tensor for tensor in state.values() if id(tensor) in chosen])
    if misfits:
        raise InputError([*problems, *misfits])
    if problems:
        raise ConfigError(problems)
    fixed = {name: tensor for name, tensor in state.items() if id(tensor) not in chosen}
    before = {name: tensor.detach().to("cpu", copy=True) for name, tensor in fixed.items()}
    for tensor in fixed.values():
        tensor.requires_grad_(False)
    hooks = [module.register_forward_pre_hook(_evaluate) for module in _fixed_modules(model, chosen, fixed.values())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    changed = [name for name, tensor in fixed.items() if not torch.equal(tensor.cpu(), before[name])]
    if changed:
        raise InputError(_changed(changed))


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and stored buffers under all of their names (tied ones have several)."""
    stored = set(model.state_dict(keep_vars=True))
    buffers = {name: tensor for name, tensor in model.named_buffers(remove_duplicate=False) if name in stored}
    return dict(model.named_parameters(remove_duplicate=False)) | buffers


def _load(model: nn.Module, train: TrainConfig, chosen: Sequence[Tensor]) -> list[Problem]:
    """Load ``train.start`` into the model, except into initialised tensors; returns the problems of the file."""
    if train.start is None:
        return []
    path = Path(train.start)
    fresh = [] if not train.only_parameters else [(tensor, tensor.detach().clone()) for tensor in chosen]
    try:
        apply(model, load(path), path)
    except InputError as error:
        return [replace(problem, where=f"train.start={problem.where}") for problem in error.problems]
    with torch.no_grad():
        for tensor, value in fresh:
            tensor.copy_(value)
    return []


def _fixed_modules(model: nn.Module, chosen: Collection[int], fixed: Iterable[Tensor]) -> set[nn.Module]:
    """Modules without a chosen tensor, together with everything inside them (dropout, say), and modules with a fixed buffer.

    The latter are normalisations whose weights may be chosen while their statistics are not.
    """
    fixed_ids = set(map(id, fixed))
    modules: set[nn.Module] = set()
    for module in model.modules():
        state = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        own = {id(tensor) for tensor in module.buffers(recurse=False)}
        if state & fixed_ids and state.isdisjoint(chosen):
            modules.update(module.modules())
        elif own & fixed_ids:
            modules.add(module)
    return modules


def _evaluate(module: nn.Module, _: Any) -> None:
    """A forward pre-hook that undoes ``model.train()``, which would turn on BatchNorm statistics and dropout."""
    module.training = False


def _idle(model: nn.Module, state: Mapping[str, Tensor], key: str, patterns: Sequence[str]) -> Iterator[Problem]:
    """A problem for each pattern that matches nothing."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(_matches([pattern], name) for name in state):
            close = get_close_matches(pattern.strip("*"), names, n=3, cutoff=0.4) or names[-3:]  # most users mean a head
            expected = f"a pattern over parameter names such as {', '.join(close)}"
            yield Problem(key, f"{pattern!r}, which matches no parameter", expected, "correct the pattern")


def _choice_problems(
    model: nn.Module, train: TrainConfig, parameters: ParametersConfig, chosen: Collection[int], everything: Collection[int]
) -> Iterator[Problem]:
    found = f"{parameters.include} without {parameters.exclude}" if parameters.exclude else f"{parameters.include}"
    if not any(id(parameter) in chosen and parameter.requires_grad for parameter in model.parameters()):
        remedy = f"widen {KEY}, or set train.only_parameters=false to train all of them"
        yield Problem(
            KEY, f"{found}, which selects nothing that can be trained", "a parameter that requires a gradient", remedy
        )
    elif train.start is not None and len(chosen) == len(everything):
        found = f"{found}, which initialises every parameter, so nothing of train.start is used"
        remedy = "set train.only_parameters=false to train all parameters, starting from the file"
        yield Problem(KEY, found, "a part of the model, because train.only_parameters is true", remedy)


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _changed(names: Sequence[str]) -> Problem:
    expected = f"no change of parameters that {KEY} does not match"
    remedy = f"let the trainer skip parameters that require no gradient, or add these to {KEY}"
    return Problem("trainer", f"a training that changed {listed(names)}", expected, remedy)
