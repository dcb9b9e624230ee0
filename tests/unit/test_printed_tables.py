"""Tables in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trak_cli.cli.run import table
from trak_cli.cli.terminal.tables import show_table

NAMES = ("full_0-3f2a9c1e", "epoch=11-step=4690-val_loss=0.0431-3f2a9c1e", "a/very/long/path/" + "x" * 90)
SENTENCE = "the simulated training did not come as far as the checkpoint, so its weights are those of the start"


def shown(width: int, *names: str) -> str:
    """A table with these names, a number, a cell that may be wrapped, and an empty one."""
    rows = table("checkpoint", "#ridge λ", "remark", "#training length")
    for name in names:
        rows.add_row(name, "0.01234", SENTENCE, "")
    console = Console(file=io.StringIO(), width=width)
    show_table(console, rows)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 120, 240])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_names_are_never_broken(width: int, count: int) -> None:
    lines = shown(width, *NAMES[:count])
    for name in NAMES[:count]:
        assert name in lines
    assert lines.count("0.01234") == count
    assert " ".join(lines.split()).count("ridge λ") in (1, count)


def test_a_table_that_fits_has_one_line_for_the_headings() -> None:
    lines = shown(120, *NAMES[:2]).splitlines()
    assert [word in lines[0] for word in ("checkpoint", "ridge λ", "training length")] == [True] * 3


def test_a_row_that_does_not_fit_is_a_paragraph_without_its_empty_cells() -> None:
    lines = shown(60, NAMES[2]).splitlines()
    assert lines == [f"checkpoint {NAMES[2]}", "  ridge λ 0.01234", f"  remark {SENTENCE}"]
