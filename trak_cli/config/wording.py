"""Types, values and dotted keys of the configuration as texts for messages."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from trak_cli.config.keys import types_of
from trak_cli.errors import Problem

_WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def describe(hint: Any) -> str:
    """A type of the schema in words."""
    united = members(hint)
    word = " or ".join(_WORDS.get(member, "") or _container(member) for member in united if member is not type(None))
    return f"{word}, or null" if type(None) in united else word


def kind_of(value: Any) -> str:
    """The type of a value in words."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return _WORDS.get(type(value), type(value).__name__)


def members(hint: Any) -> tuple[Any, ...]:
    """The member types of a union; for another type, the type itself."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def all_keys(schema: type[Any] | None = None, prefix: str = "") -> list[str]:
    """Every dotted key of a section of the schema, by default of the whole; sections included."""
    from trak_cli.config.schema import TrakConfig  # here: shell completion uses the other functions and must answer quickly

    keys: list[str] = []
    for name, hint in types_of(schema or TrakConfig).items():
        key = join(prefix, name)
        keys += [key, *(all_keys(typing.cast("type[Any]", hint), key) if dataclasses.is_dataclass(hint) else [])]
    return keys


def _container(hint: Any) -> str:
    if typing.get_origin(hint) is not list:
        return "a mapping of names to texts"
    (item,) = typing.get_args(hint)
    kinds = {float: "a list of numbers", int: "a list of whole numbers", bool: "a list of true and false"}
    return kinds.get(item, "a list of texts")


def join(prefix: str, name: object) -> str:
    """The dotted key of ``name`` inside ``prefix``."""
    return f"{prefix}.{name}" if prefix else str(name)


def covers(parent: str, key: str) -> bool:
    """Whether ``key`` is ``parent`` or lies inside it."""
    return key == parent or key.startswith((parent + ".", parent + "["))


def one_line(text: object) -> str:
    """The text on one line: every run of white space becomes one space."""
    return " ".join(str(text).split())


def nearest(word: str, words: Iterable[str], similarity: float = 0.6) -> str | None:
    """The most similar of the words; None if none reaches ``similarity``, between 0 and 1."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=similarity)
    return matches[0] if matches else None


def unknown(option: str, value: str, known: Sequence[str]) -> Problem:
    """The problem of an option of the command line with a value that is none of the known ones."""
    start = [name for name in known if name.startswith(value)] if value else []
    meant = start[0] if len(start) == 1 else nearest(value, known)
    return Problem(option, value, one_of(known), f"did you mean {option} {meant}?" if meant else "choose one of these")


def one_of(words: Sequence[str]) -> str:
    """`one of: a, b, c`; for an empty list, `nothing`."""
    return f"one of: {', '.join(words)}" if words else "nothing"


def shown(value: object, limit: int = 80) -> str:
    """A value as the user would write it, cut to ``limit`` characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else one_line(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
