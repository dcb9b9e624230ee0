"""Damage and lies: random changes of the bytes of a file, of numbers in it, and of the values of a JSON document."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

#: Integers that overflow, wrap around, or declare far more than a file holds.
LIES = (-1, 0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1, 10**30)

#: Pieces of text that mean something to a parser.
WORDS = (
    *(
        b"[" * 3000,
        b"{" * 3000,
        b'{"a":' * 3000,
        b"null",
        b"NaN",
        b"1e999",
        b"-1",
        b'"',
        b"'",
        b"\\",
        b"\0",
        b"\xff\xfe",
        b"\n",
    ),
    *(
        b"../",
        b"/etc/passwd",
        b"~",
        b"${oc.env:HOME}",
        b"${a}",
        b"${",
        b"&a [*a]",
        b"&a",
        b"*a",
        b"!!python/object:os.system ls",
    ),
    *(
        b'"\\ud800"',
        b"\xed\xa0\x80",
        b"%s%n",
        b": ",
        b"- ",
        b"? ",
        b"<<: *a",
        b"!!binary x",
        b"<html>",
        b"9" * 5000,
        b"0x",
        b"_",
    ),
)

_NUMBER = re.compile(rb"-?\d+")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three random changes of the bytes."""
    changed = data
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed = rng.choice(_CHANGES)(bytearray(changed), rng)
    return changed


def lying(document: Any, rng: random.Random) -> Any:
    """A JSON value in which one value, at any depth, is replaced, removed, renamed or added."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        key = rng.choice(sorted(document))
        action = rng.random()
        if action < 0.1:
            return {name: value for name, value in document.items() if name != key}
        if action < 0.2:
            return {**document, rng.choice(("", "../x", "a.b", "\0", "sha256")): any_value(rng)}
        return {**document, key: lying(document[key], rng)}
    if isinstance(document, list) and document and rng.random() < 0.7:
        place = rng.randrange(len(document))
        return [*document[:place], lying(document[place], rng), *document[place + 1 :]]
    return any_value(rng)


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value of any type."""
    simple: tuple[Any, ...] = (None, True, False, "", "x", "../../x", "/etc/passwd", "9" * 40, 0.5, -0.0, 1e308, "é\0", *LIES)
    if depth > 2 or rng.random() < 0.7:
        return rng.choice(simple)
    several = [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return several if rng.random() < 0.5 else {f"k{place}": value for place, value in enumerate(several)}


def _flip(data: bytearray, rng: random.Random) -> bytes:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _byte(data: bytearray, rng: random.Random) -> bytes:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _insert(data: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return bytes(data[:place]) + rng.randbytes(rng.choice((1, 2, 7, 64))) + bytes(data[place:])


def _word(data: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return bytes(data[:place]) + rng.choice(WORDS) + bytes(data[place + rng.choice((0, 0, 1, 4)) :])


def _remove(data: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return bytes(data[:place] + data[place + rng.choice((1, 2, 8, 64)) :])


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return (
        bytes(data[:place])
        + bytes(data[place : place + rng.choice((1, 8, 100))]) * rng.choice((2, 3, 50))
        + bytes(data[place:])
    )


def _zeros(data: bytearray, rng: random.Random) -> bytes:
    place, length = rng.randrange(len(data) + 1), rng.choice((4, 16, 100))
    return bytes(data[:place]) + bytes(min(length, len(data) - place)) + bytes(data[place + length :])


def _number(data: bytearray, rng: random.Random) -> bytes:
    """A binary integer that lies, in place of any bytes."""
    width = rng.choice((1, 2, 4, 8))
    place = rng.randrange(max(1, len(data) - width))
    lie = (rng.choice(LIES) % 2 ** (8 * width)).to_bytes(width, rng.choice(("little", "little", "big")))
    return bytes(data[:place]) + lie + bytes(data[place + width :])


def _digits(data: bytearray, rng: random.Random) -> bytes:
    """Another number in place of a number in the text."""
    found = list(_NUMBER.finditer(data[:20_000]))
    if not found:
        return _flip(data, rng)
    chosen = rng.choice(found)
    return bytes(data[: chosen.start()]) + str(rng.choice(LIES)).encode() + bytes(data[chosen.end() :])


_CHANGES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flip, _flip, _byte, _cut, _insert, _word, _remove, _repeat, _zeros, _number, _number, _digits),
)
