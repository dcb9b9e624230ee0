"""What a file of a store must hold to be used: a correct digest does not say who wrote it, or that the values fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trak_cli.errors import TrakError
from trak_cli.store.failures import foreign
from trak_cli.types import Json
from trak_cli.user_errors import first_line

#: Numbers of rows, features and the like are at most this: floating-point numbers count so far.
MAX_COUNT = 1 << 53

#: Whether a value is of a kind.
Kind = Callable[[Any], bool]


def is_count(value: Any) -> bool:
    """A number of things, at least one."""
    return type(value) is int and 1 <= value <= MAX_COUNT


def is_text(value: Any) -> bool:
    """A text."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """A number."""
    return type(value) in (int, float)


def is_mapping(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def are_texts(value: Any) -> bool:
    """A list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def require_fields(path: Path, document: Json, fields: Mapping[str, Kind], what: str) -> Json:
    """The document, once these fields are found to be of their kinds.

    Args:
        fields: dotted key -> kind of its value.
        what: the document is, for messages.

    Raises:
        ForeignError: a field is missing or of another kind.
    """
    for key, kind in fields.items():
        value: Any = document
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not kind(value):
            raise foreign(path, f"{key} = {value!r:.80}", what)
    return document


def require_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected_shapes: Mapping[str, tuple[int | None, ...]], what: str
) -> None:
    """Refuse a file in which an array is missing or of another shape.

    Args:
        shapes: of the arrays of the file.
        expected_shapes: None stands for any length.

    Raises:
        ForeignError: with what was found.
    """
    for name, expected in expected_shapes.items():
        found = shapes.get(name)
        fits = found is not None and len(found) == len(expected)
        if not fits or any(size not in (None, one) for size, one in zip(expected, found or (), strict=True)):
            raise foreign(path, f"{name} of shape {found}", f"shape {expected}, in {what}")


@contextmanager
def understanding(path: Path, what: str) -> Iterator[None]:
    """Turn the exceptions of code that uses values which are not as expected into an error that names the file.

    Raises:
        ForeignError: the values of the file are not those of ``what``.
    """
    try:
        yield
    except TrakError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise foreign(path, f"values that do not fit together ({type(error).__name__}: {first_line(error)})", what) from error
