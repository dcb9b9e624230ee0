"""The code blocks of README.md and docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from trak_cli.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: relative to the repository.
        language: after the fence; "" for none.
    """

    page: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block for a shell, without comments; a command that goes on in the next line is one."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks() -> Iterator[Block]:
    """Every fenced block, in the order of the pages."""
    for page in PAGES:
        for _, language, text in _FENCE.findall(page.read_text()):
            yield Block(str(page.relative_to(ROOT)), language, textwrap.dedent(text))


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The subcommand of a line that calls ``trak`` and the values of its options, which the program must accept."""
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "trak"
    group = typer.main.get_command(app)
    context = group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
    return name, context.params
