"""Objects of the running Python process in the place of plugins.

A configuration names plugins; a caller in Python has the objects themselves. Inside :func:`holding`, the node of
:func:`node_of` stands for such an object in a configuration. A store keeps the node, which is data: a process that does not
hold the object is told so, and nothing is imported or evaluated in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from trak_cli.errors import InputError, Problem
from trak_cli.types import Json

#: Makes an object that a configuration would name as a plugin.
Make = Callable[[], Any]

#: Key -> a function that returns the object, for the stages that run now.
_HELD: ContextVar[Mapping[str, Make]] = ContextVar("held")


def node_of(key: str, **identity: Any) -> Json:
    """The plugin node of an object that :func:`holding` holds under ``key``.

    Args:
        identity: what tells the object from others, as JSON values. For a model, a task and a collate function it is part of
            the fingerprint of features.
    """
    return {"_target_": f"{held.__module__}.{held.__name__}", "key": key, **identity}


def is_object(node: Any) -> bool:
    """Whether a node stands for an object of a process, as those of :func:`node_of` do."""
    return isinstance(node, Mapping) and node.get("_target_") == node_of("")["_target_"]


def same(value: Any) -> Make:
    """A function that returns this object each time."""
    return lambda: value


@contextmanager
def holding(objects: Mapping[str, Make]) -> Iterator[None]:
    """Hold objects for the stages that run inside; each is made by its function whenever a stage builds the plugin."""
    token = _HELD.set({**_HELD.get({}), **objects})
    try:
        yield
    finally:
        _HELD.reset(token)


def held(key: str, **identity: Any) -> Any:
    """The object that this process holds under ``key``; stages call it as the plugin of :func:`node_of`.

    Raises:
        InputError: this process holds no such object.
    """
    make = _HELD.get({}).get(key)
    if make is None:
        described = ", ".join(f"{name} {value}" for name, value in identity.items()) or "without a description"
        found = f"an object of another Python process ({described})"
        remedy = f"call trak.attribute there or here with the object, or give {key}._target_ in your YAML"
        raise InputError(Problem(key, found, "an object that this process can build", remedy))
    return make()
