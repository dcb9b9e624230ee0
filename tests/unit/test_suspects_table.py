"""The table of ``trak suspects`` in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from trak_cli.cli.results.suspects import show
from trak_cli.results.suspects import Suspect, SuspectsSummary
from trak_cli.results.suspicion.ranking import CRITERIA

FILE = "data/train/triangle/img0123.png"


def lines(width: int) -> list[str]:
    """The lines that are printed for one sample."""
    values = dict.fromkeys(CRITERIA, 0.0123)
    one = Suspect(1, 17, "triangle", "circle", 0.9, [], values, f"file {FILE}")
    summary = SuspectsSummary(Path("runs/x"), "cosine", "test", "left_out", 90, list(CRITERIA), [one], None, [])
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as captured:
        show(summary, console)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_sample_has_one_line(width: int) -> None:
    (line,) = (line for line in lines(width) if FILE in line)
    assert line.split()[:3] == ["17", "triangle", "circle"]


def test_criteria_that_do_not_fit_are_left_out_and_named_in_a_note() -> None:
    assert "self-influence" in "\n".join(lines(200))
    assert "self-influence" not in "\n".join(lines(80))
    assert "--json" in lines(80)[-1]
