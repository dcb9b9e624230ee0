"""Errors and summaries as people read them in a notebook."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trak_cli.api.html import show_summaries
from trak_cli.api.wording import as_arguments, count_problems, options_of
from trak_cli.errors import ConfigError, InputError
from trak_cli.results.evaluation.contract import Inputs
from trak_cli.results.report import ReportOptions
from trak_cli.user_errors import report_user_errors


def in_a_cell(source: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What IPython shows for a cell that raises."""
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shown: list[str] = []
    monkeypatch.setattr(shell, "_showtraceback", lambda kind, error, lines: shown.extend(lines))
    shell.run_cell(source)
    return "\n".join(shown)


REFUSED = """
from trak_cli.errors import ConfigError, Problem
raise ConfigError([Problem("k", "0", "a number", "give k=5"), Problem("split", "tset", "test", "did you mean test?")])
"""

RAISES = """
from trak_cli.user_errors import report_user_errors

def collate(samples):
    return {}[samples]

with report_user_errors("collating train"):
    collate("zebra")
"""


def test_a_notebook_shows_the_problems_and_not_the_frames_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = in_a_cell(REFUSED, monkeypatch)
    assert "ConfigError: the configuration cannot be used (2 problems)" in shown
    assert "do:       give k=5" in shown
    assert "Traceback" not in shown


def test_a_line_of_a_cell_is_shown_where_code_of_the_user_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = in_a_cell(RAISES, monkeypatch)
    assert "KeyError: 'zebra'" in shown
    assert "line 4 of a cell, in collate: return {}[samples]" in shown
    monkeypatch.setenv("TRAK_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in in_a_cell(RAISES, monkeypatch)


def test_outside_of_notebooks_an_error_has_one_traceback() -> None:
    program = (
        "from trak_cli.api.wording import as_arguments\nfrom trak_cli.errors import ConfigError, Problem\n"
        "with as_arguments():\n    raise ConfigError(Problem('--k', '0', 'a number', 'give -k 5'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.count("Traceback") == 1
    assert "give k=5" in done.stderr


def test_the_exception_of_the_user_stays_the_cause() -> None:
    with pytest.raises(InputError) as refused, as_arguments(), report_user_errors("sample 3", any_code=True):
        _ = {}["zebra"]
    assert isinstance(refused.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (ReportOptions, {"out": "a.html", "target": [0]}, "did you mean targets?"),
        (ReportOptions, {"out": "a.html", "k": 0}, "k: found 0"),
        (Inputs, {"flippd": "rows.txt"}, "did you mean flipped?"),
    ],
)
def test_an_unknown_or_impossible_argument_is_refused(kind: type[Any], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        options_of(kind, given)
    assert says in str(refused.value)


def test_one_value_stands_for_a_list_of_one() -> None:
    options = options_of(ReportOptions, {"out": "a.html", "targets": 3, "splits": "test"})
    assert (options.targets, options.splits) == ((3,), ("test",))
    assert options_of(ReportOptions, {"out": "a.html", "targets": np.int64(3)}).targets == (3,)
    assert options_of(ReportOptions, {"out": "a.html", "targets": {3}}).targets == {3}


@pytest.mark.parametrize(("count", "refused"), [(1, False), (0, True), (-2, True), (2.5, True), ("3", True), (True, True)])
def test_numbers_of_samples_are_whole_and_positive(count: Any, refused: bool) -> None:
    assert bool(list(count_problems(k=count))) == refused


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None
    formula: str = "x = y"


@dataclass(frozen=True)
class Whole:
    path: Path
    rows: int
    parts: list[Part]
    warnings: list[str]


def test_a_notebook_shows_a_summary_as_tables() -> None:
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        show_summaries(Whole)
        summary = Whole(Path("runs/<a>"), 12000, [Part("train", 0.123456), Part("test", None)], [])
        html = shell.display_formatter.format(summary)[0]["text/html"]
    finally:
        InteractiveShell.clear_instance()
    assert "<b>Whole</b>" in html
    assert "runs/&lt;a&gt;" in html
    assert "12,000" in html
    assert "0.1235" in html
    assert "warnings" not in html
    assert "formula" not in html
