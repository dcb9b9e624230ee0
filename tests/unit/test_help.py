"""The help of the subcommands."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from trak_cli.cli.app import COMMANDS, app

EXAMPLES = {module.NAME: module.EXAMPLES for module in COMMANDS}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_printed_as_they_are_typed(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert found.exit_code == 0
    for word in EXAMPLES[name].split():
        assert word in found.stdout, word


def test_paragraphs_fill_the_width_of_the_terminal() -> None:
    """The texts have line ends where the source has them, which are none in a terminal of another width."""
    found = CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    lines = [line.strip() for line in found.stdout.splitlines()]
    assert any(line.startswith("Store scores of") and line.endswith("lds.ground_truth`.") for line in lines)
