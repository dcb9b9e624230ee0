"""Dotted keys and the sentences about them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def join(prefix: str, name: object) -> str:
    """The dotted key of ``name`` inside ``prefix``."""
    return f"{prefix}.{name}" if prefix else str(name)


def covers(parent: str, key: str) -> bool:
    """Whether ``key`` is ``parent`` or lies inside it."""
    return key == parent or key.startswith((parent + ".", parent + "["))


def one_line(text: object) -> str:
    """The text with every run of white space, line breaks included, made one space."""
    return " ".join(str(text).split())


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant, if one is near."""
    matches = difflib.get_close_matches(word, list(words), n=1)
    return matches[0] if matches else None


def one_of(words: Sequence[str]) -> str:
    """`one of: a, b, c`; for an empty list, `nothing`."""
    return f"one of: {', '.join(words)}" if words else "nothing"


def shown(value: object, limit: int = 80) -> str:
    """A value as the user would write it, cut to a readable length."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else one_line(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
