"""Numbers with nouns in messages: one is singular."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trak_cli.plurals import counted

PACKAGE = Path(__file__).parents[2] / "trak_cli"


@pytest.mark.parametrize(
    ("count", "noun", "plural", "text"),
    [
        (0, "row", None, "0 rows"),
        (1, "training sample", None, "1 training sample"),
        (2_000, "checkpoint", None, "2,000 checkpoints"),
        (1, "pass", "passes", "1 pass"),
        (3, "pass", "passes", "3 passes"),
    ],
)
def test_a_number_has_the_singular_or_the_plural(count: int, noun: str, plural: str | None, text: str) -> None:
    assert counted(count, noun, plural) == text


def test_no_text_of_the_program_leaves_the_plural_to_the_reader() -> None:
    texts = {path: re.findall(r'"[^"\n]*\} \w+\(s\)[^"\n]*"', path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert not {path.name: found for path, found in texts.items() if found}
