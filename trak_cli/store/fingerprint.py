"""Fingerprints: what determines the values in a file, as JSON; compared key by key before a file is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from trak_cli.errors import Problem
from trak_cli.store.failures import ForeignError
from trak_cli.types import Json
from trak_cli.user_files import parse_json

#: Stands for the value of a key that one of two fingerprints lacks.
ABSENT = "(absent)"
_SHOWN = 120


def canonical(document: Json) -> str:
    """The canonical JSON text of ``document``: keys sorted, no spaces, ASCII only.

    Raises:
        TypeError, ValueError: a value is not JSON (NaN and infinities included).
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse(text: str) -> Json:
    """The JSON object that ``text`` holds.

    Raises:
        ValueError: it is not a JSON object.
    """
    document = parse_json(text, constants=False)
    if not isinstance(document, dict):
        raise ValueError("JSON that is not an object")
    return document


def digest(fingerprint: Json) -> str:
    """The sha256, in hexadecimal, of the canonical JSON."""
    return hashlib.sha256(canonical(fingerprint).encode()).hexdigest()


def differences(found: Json, expected: Json) -> list[tuple[str, Any, Any]]:
    """Every key, dotted and sorted, whose value differs: (key, found, expected); "(absent)" if one has no such key.

    Values are compared by their JSON text: 1 and 1.0 differ, a tuple and a list do not.
    """
    differing: list[tuple[str, Any, Any]] = []
    for key in sorted(found.keys() | expected.keys()):
        ours, theirs = expected.get(key, ABSENT), found.get(key, ABSENT)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            differing += [(f"{key}.{inner}", a, b) for inner, a, b in differences(theirs, ours)]
        elif canonical({"": theirs}) != canonical({"": ours}):
            differing.append((key, theirs, ours))
    return differing


def problems_between(path: Path, found: Json, expected: Json) -> list[Problem]:
    """One problem for each key in which the fingerprint found in ``path`` differs from the expected one."""
    remedy = "go back to the configuration that wrote it, or choose another store folder"
    return [
        Problem(f"{path}: fingerprint {key}", shown(theirs), shown(ours), remedy)
        for key, theirs, ours in differences(found, expected)
    ]


def require_same(path: Path, found: Json, expected: Json) -> None:
    """Raise unless the fingerprint ``found`` in ``path`` equals ``expected``.

    Raises:
        ForeignError: with one problem for each differing key.
    """
    if canonical(found) != canonical(expected):
        raise ForeignError(problems_between(path, found, expected))


def shown(value: Any) -> str:
    """A value of a fingerprint for a message, cut to a readable length."""
    if isinstance(value, list) and len(json.dumps(value)) > _SHOWN:
        return f"a list of {len(value)}, with the digest {digest({'': value})[:12]}"
    text = ABSENT if value == ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
