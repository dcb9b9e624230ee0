"""The help of the subcommands."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from trak_cli.cli import eval_lds, refine, retrain, score, top, tune, unroll
from trak_cli.cli.app import app

COMMANDS = {module.NAME: module for module in (eval_lds, refine, retrain, score, top, tune, unroll)}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_are_printed_as_they_are_typed(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert found.exit_code == 0
    for word in COMMANDS[name].EXAMPLES.split():
        assert word in found.stdout, word
