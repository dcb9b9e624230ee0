"""Numbers with their nouns. Imports nothing, because every subcommand uses it."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun: "1 row", "2,000 rows"; ``plural`` where that is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
