"""Exceptions of user code are reported; bugs of this program keep their traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trak_cli import user_errors
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.user_errors import as_input_error, error_summary, report_user_errors, user_code_location


def caught(work) -> Exception:  # type: ignore[no-untyped-def]
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def user_function() -> None:
    torch.stack([torch.zeros(2), torch.zeros(3)])  # raised inside a library, called from here


def test_the_location_is_the_innermost_line_of_user_code() -> None:
    line = user_code_location(caught(user_function))
    assert line is not None
    assert line.endswith("in user_function")
    assert __file__ in line


def test_a_wrong_call_inside_this_program_is_not_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        ProjectionSpec()  # type: ignore[call-arg]

    error = caught(work)
    monkeypatch.setattr("trak_cli.user_errors._PROGRAM", __file__)  # treats this file as a part of the program
    assert user_code_location(error) is None
    assert as_input_error(error, "your code") is None
    assert as_input_error(error, "sample 3 of train", any_code=True) is not None


def test_a_bug_of_this_program_called_from_user_code_stays_a_bug() -> None:
    """For example a gradient hook that raises inside a layer of the user's model."""
    source = "def hook():\n    raise RuntimeError('a bug')\n"
    own: dict[str, Any] = {}
    exec(compile(source, str(Path(user_errors.__file__).parent / "gradients" / "hooks.py"), "exec"), own)
    assert user_code_location(caught(lambda: own["hook"]())) is None
    task: dict[str, Any] = {}
    exec(compile(source, str(Path(user_errors.__file__).parent / "tasks" / "margin.py"), "exec"), task)
    assert user_code_location(caught(lambda: task["hook"]())) is not None


def test_the_report_names_the_sample_the_exception_and_the_line() -> None:
    with pytest.raises(InputError) as caught_error, report_user_errors("sample 3 of train"):
        user_function()
    (problem,) = caught_error.value.problems
    assert problem.where == "sample 3 of train"
    assert problem.found.startswith("RuntimeError: stack expects each tensor")
    assert "in user_function)" in problem.found
    assert isinstance(caught_error.value.__cause__, RuntimeError)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), ConfigError(Problem("k", "a", "b", "c"))])
def test_memory_errors_interrupts_and_reported_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)), report_user_errors("sample 3 of train", any_code=True):
        raise error


def test_the_summary_is_the_type_and_the_first_line() -> None:
    assert error_summary(ValueError("bad jpeg\nat line 3")) == "ValueError: bad jpeg"
    assert error_summary(KeyError()) == "KeyError: no message"
