"""The table of ``trak top`` and ``trak ask``."""

from __future__ import annotations

import pytest
from rich.console import Console

from trak_cli.cli.results.top import show_neighbours
from trak_cli.results.neighbours import Neighbour, TargetTop

ROW = Neighbour(3, 0.5, "label 1")


@pytest.mark.parametrize(
    ("helpful", "harmful", "missing"), [([ROW], [], ["negative"]), ([], [ROW], ["positive"]), ([ROW], [ROW], [])]
)
def test_a_sign_that_no_score_has_is_named(helpful: list[Neighbour], harmful: list[Neighbour], missing: list[str]) -> None:
    console = Console(width=80)
    with console.capture() as captured:
        show_neighbours(TargetTop(0, "", helpful, harmful), console, {})
    assert [word for word in ("positive", "negative") if f"no training sample has a {word} score" in captured.get()] == missing
