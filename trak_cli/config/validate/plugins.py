"""Plugin nodes (``_target_: module.Name`` and its arguments): checking them, and building the objects."""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from trak_cli.config.compose.plugin_import import locate
from trak_cli.config.wording import join, nearest, one_of, shown
from trak_cli.errors import ConfigError, InputError, Problem, TrakError
from trak_cli.types import Json
from trak_cli.user_errors import error_summary, is_out_of_memory, user_code_location

TARGET = "_target_"
PARTIAL = "_partial_"
#: Other special keys of Hydra. They are refused: arguments are passed by name, as plain Python values.
_FOREIGN = ("_args_", "_convert_", "_recursive_")

#: The plugin that is a function. ``_target_`` may name the function, or a factory that returns it.
FUNCTION_KEY = "dataset.collate"

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def instantiate(node: Any, key: str, **extra: Any) -> Any:
    """Build the object of a plugin node. Nested nodes are built first; arguments are plain Python values.

    Args:
        node: a mapping with ``_target_``; with ``_partial_: true``, the result is a ``functools.partial``. A function that
            collates samples needs no ``_partial_``.
        key: its dotted key, for messages.
        extra: arguments that the program adds, such as a seed; they replace those of the node.

    Raises:
        ConfigError: the target cannot be found.
        InputError: the constructor raised; its exception is the cause of this one.
    """
    if not _is_node(node):
        raise ConfigError(_no_node(node, key))
    target = locate(node[TARGET], join(key, TARGET))
    arguments = {name: _build(value, join(key, name)) for name, value in _arguments(node).items()} | extra
    if _is_partial(target, node, arguments, key):
        return functools.partial(target, **arguments)
    try:
        return target(**arguments)
    except (KeyboardInterrupt, TrakError):
        raise
    except BaseException as error:  # code of the user runs here and may raise anything, SystemExit included
        if is_out_of_memory(error):
            raise
        location = user_code_location(error)
        found = f"{node[TARGET]} raised {error_summary(error)}" + (f" ({location})" if location else "")
        remedy = f"check the arguments of {key}, or fix the plugin"
        raise InputError(Problem(key, found, "an object built from the arguments given", remedy)) from error


def instantiate_repeatable(node: Any, key: str) -> Any:
    """Build the object as :func:`instantiate` does, with global random states that are a function of the node.

    So a data set that draws its samples from the states of PyTorch, NumPy or Python is the same in every process. The states
    are restored.
    """
    from trak_cli.random_states import random_states_kept, set_random_states  # here, because `trak config` needs no NumPy

    if _is_node(node):
        locate(node[TARGET], join(key, TARGET))  # this imports PyTorch where the plugin needs it
    text = json.dumps(target_of(node), sort_keys=True)
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    while True:
        known = "torch" in sys.modules
        with random_states_kept():
            set_random_states(seed)
            built = instantiate(node, key)
        if known or "torch" not in sys.modules:
            return built  # otherwise it has imported PyTorch, whose state was not set


def target_of(node: Any) -> Json:
    """A plugin node in canonical form for fingerprints: keys sorted, JSON values only; {} for no node."""
    if node is None:
        return {}
    canonical: Json = _canonical(node)
    return canonical


def plugin_problems(node: Any, key: str) -> Iterator[Problem]:
    """Every problem of a plugin node and the nodes nested in it. Nothing is built; modules are imported."""
    if not _is_node(node):
        yield _no_node(node, key)
        return
    for name in _FOREIGN:
        if name in node:
            yield Problem(join(key, name), "a key of Hydra's instantiate", "arguments by name", f"remove {name}")
    if not isinstance(node.get(PARTIAL, False), bool):
        yield Problem(join(key, PARTIAL), shown(node[PARTIAL]), "true or false", f"give {join(key, PARTIAL)}=true")
    arguments = _arguments(node)
    for name, value in arguments.items():
        yield from _nested_problems(value, join(key, name))
    try:
        target = locate(node[TARGET], join(key, TARGET))
    except ConfigError as error:
        yield from error.problems
        return
    if not callable(target):
        found = f"{node[TARGET]}, which is of type {type(target).__name__}"
        yield Problem(join(key, TARGET), found, "a class or a function", "name a class or a function")
        return
    yield from _signature_problems(target, node, arguments, key)


def _signature_problems(
    target: Callable[..., Any], node: Mapping[str, Any], arguments: Mapping[str, Any], key: str
) -> Iterator[Problem]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):  # some built-in callables have no signature to check
        return
    accepted = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    for name in arguments:
        if name not in accepted and not takes_any:
            meant = nearest(name, accepted)
            remedy = f"did you mean {join(key, meant)}?" if meant else "remove the argument"
            yield Problem(join(key, name), f"an argument that {node[TARGET]} does not take", one_of(accepted), remedy)
    if _is_partial(target, node, arguments, key):
        return
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty
        if required and parameter.kind in _NAMED and parameter.name not in arguments:
            where = join(key, parameter.name)
            yield Problem(where, "nothing", f"the argument {parameter.name}, which {node[TARGET]} needs", f"give {where}=VALUE")


def _is_partial(target: Any, node: Mapping[str, Any], arguments: Mapping[str, Any], key: str) -> bool:
    """Whether the plugin is the target itself, with these arguments, instead of what the target returns.

    So it is for a collate function: a function whose first argument is required and not given, since it is the samples.
    """
    if node.get(PARTIAL) or key != FUNCTION_KEY or not inspect.isfunction(target):
        return bool(node.get(PARTIAL))
    first = next(iter(inspect.signature(target).parameters.values()), None)
    required = first is not None and first.default is inspect.Parameter.empty and first.kind not in _VARIADIC
    return required and first is not None and first.name not in arguments


def _nested_problems(value: Any, key: str) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        if TARGET in value:
            yield from plugin_problems(value, key)
            return
        for name, item in value.items():
            yield from _nested_problems(item, join(key, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested_problems(item, f"{key}[{index}]")


def _build(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return instantiate(value, key)
        return {name: _build(item, join(key, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_build(item, f"{key}[{index}]") for index, item in enumerate(value)]
    return value


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _canonical(value[name]) for name in sorted(value, key=str) if (name, value[name]) != (PARTIAL, False)
        }
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such numbers
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in node.items() if name not in (TARGET, PARTIAL, *_FOREIGN)}


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get(TARGET), str)


def _no_node(node: Any, key: str) -> Problem:
    found = f"a mapping without {TARGET}" if isinstance(node, Mapping) and TARGET not in node else shown(node)
    remedy = f"give {join(key, TARGET)} in your YAML"
    if isinstance(node, str) and "." in node and all(part.isidentifier() for part in node.split(".")):
        remedy = f"write {key.rpartition('.')[2]}: {{{TARGET}: {node}}} in your YAML"
    return Problem(key, found, f"a plugin: a mapping with {TARGET}: module.Name and its arguments", remedy)
