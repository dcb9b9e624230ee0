"""README.md, tried as it stands: the project it shows, and the commands it gives for it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import typer
from small_project import type_command
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

README = Path(__file__).parents[2] / "README.md"
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]

FEATURES, TRAIN_ROWS, TEST_ROWS, FILE_ROWS = 4, 120, 30, 2


def blocks(language: str, text: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def block_after(line: str, language: str) -> str:
    """The first block of a language after a line of the README."""
    return blocks(language, README.read_text().split(f"\n{line}\n", 1)[1])[0]


def commands_with(text: str) -> list[str]:
    """The lines of the one block of shell commands that contains a text."""
    (block,) = [block for block in blocks("sh", README.read_text()) if text in block]
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_the_plugin_has_under_forty_lines() -> None:
    assert len(block_after("`my_project/my_plugin.py`", "python").splitlines()) < 40


def test_your_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files, five commands, then a new target from a file of samples."""
    pytest.importorskip("sklearn", reason="the README's data set comes with scikit-learn")
    folder = tmp_path / "my_project"
    folder.mkdir()
    (folder / "my_plugin.py").write_text(block_after("`my_project/my_plugin.py`", "python"))
    (folder / "my_run.yaml").write_text(block_after("`my_project/my_run.yaml`", "yaml"))
    commands = commands_with("trak train -d my_project")
    assert [line.split()[1] for line in commands] == ["train", "featurize", "finalize", "score", "top"]
    answers = [type_command(tmp_path, monkeypatch, line) for line in commands]
    assert "target 0 of test" in answers[-1]
    layout = Layout(tmp_path / "runs" / "flowers")
    assert read_scores(layout.scores("early_training", "test")).shape == (TEST_ROWS, TRAIN_ROWS)

    inputs = np.random.default_rng(0).normal(size=(FILE_ROWS, FEATURES))
    np.savez(tmp_path / "one.npz", x=inputs, y=np.array([0, 2]))
    for line in commands_with("SampleFile"):
        type_command(tmp_path, monkeypatch, line)
    assert read_scores(layout.scores("early_training", "mine")).shape == (FILE_ROWS, TRAIN_ROWS)


def test_the_table_in_docs_lists_every_subcommand() -> None:
    table = (README.parent / "docs" / "command_line.md").read_text().split("\n## Subcommands\n", 1)[1].split("\n## ", 1)[0]
    assert sorted(re.findall(r"^\| `trak ([a-z-]+)`", table, flags=re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert f"trak {command} " in result.stdout.split("Examples", 1)[1]
