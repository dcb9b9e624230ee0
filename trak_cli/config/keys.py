"""How the schema declares a key: its default, its help text and the values that it accepts, in one place."""

from __future__ import annotations

import copy
import functools
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field
from typing import Any

#: The value of a key that must be given, as OmegaConf spells it. Importing OmegaConf takes longer than shell completion may.
MISSING: Any = "???"


def types_of(section: Any) -> Mapping[str, Any]:
    """The type of each key of a section of the schema."""
    return _types_of(typing.cast("Hashable", section))


@functools.cache
def _types_of(section: Hashable) -> Mapping[str, Any]:
    return typing.get_type_hints(section)


def key(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    at_least: int | None = None,
    not_empty: bool = False,
    fields_of: type[Any] | None = None,
) -> Any:
    """A dataclass field that is a configuration key.

    Args:
        default: the only place where the default of the key stands.
        help: one or two sentences for `trak config --describe` and docs/configuration.md, with the unit of numbers.
        choices: the accepted texts, of the key or of each item of a list; null is accepted where the type allows it.
        at_least: the smallest accepted number.
        not_empty: whether an empty text or list is refused.
        fields_of: for a mapping of fields to lists of values, the section whose fields these are.
    """
    metadata = {"help": help, "choices": tuple(choices), "at_least": at_least, "not_empty": not_empty, "fields_of": fields_of}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)
