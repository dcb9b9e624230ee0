"""The help of the subcommands."""

from __future__ import annotations

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from trak_cli.cli.app import COMMANDS, app

EXAMPLES = {module.NAME: module.EXAMPLES for module in COMMANDS}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_printed_as_they_are_typed(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert found.exit_code == 0
    for word in EXAMPLES[name].split():
        assert word in found.stdout, word


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_paragraphs_have_no_line_ends_of_the_source(name: str) -> None:
    """Rich would print them, whatever the width of the terminal is."""
    paragraphs = get_command(app).commands[name].help.split("\n\n")  # type: ignore[attr-defined]
    assert not [paragraph for paragraph in paragraphs if "\n" in paragraph.strip()]


def test_the_option_for_formulas_is_where_formulas_are_printed() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = {name for name, command in commands.items() if any("--verbose" in option.opts for option in command.params)}
    assert found == {"run", "finalize", "score"}
