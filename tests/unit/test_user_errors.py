"""Exceptions of user code are reported; bugs of this program keep their traceback."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trak_cli import user_errors
from trak_cli.errors import ConfigError, InputError, MachineError, Problem
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.user_errors import error_summary, report_user_errors, reported, user_code_location


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
    assert reported(error, "your code") is None
    assert reported(error, "sample 3 of train", any_code=True) is not None


def test_a_bug_of_trak_called_from_user_code_is_not_a_user_error() -> None:
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


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError(Problem("k", "a", "b", "c"))])
def test_interrupts_and_reported_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)), report_user_errors("sample 3 of train", any_code=True):
        raise error


def test_the_summary_is_the_type_and_the_first_line() -> None:
    assert error_summary(ValueError("bad jpeg\nat line 3")) == "ValueError: bad jpeg"
    assert error_summary(KeyError()) == "KeyError: no message"


def test_lack_of_memory_is_a_problem_of_the_machine() -> None:
    with pytest.raises(MachineError, match="out of memory"), report_user_errors("sample 3 of train"):
        raise MemoryError


def exits() -> None:
    raise SystemExit(0)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def is_mute() -> None:
    raise MuteError


def asserts() -> None:
    assert len("four") == 5


def warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.tensor(torch.zeros(2))


def recurses() -> None:
    recurses()


def ends_a_generator() -> None:
    raise GeneratorExit


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (exits, "the end of the program, SystemExit: 0"),
        (is_mute, "MuteError: no message, at `raise MuteError`"),
        (asserts, "AssertionError: "),
        (warns, "a warning raised as an exception, UserWarning: "),
        (recurses, "RecursionError: maximum recursion depth"),
        (ends_a_generator, "GeneratorExit: no message"),
    ],
)
def test_whatever_user_code_raises_is_reported_with_its_line(work: Callable[[], None], says: str) -> None:
    with pytest.raises(InputError) as caught_error, report_user_errors("model"):
        work()
    (problem,) = caught_error.value.problems
    assert problem.found.startswith(says)
    assert f"{__file__}:" in problem.found


def test_an_exception_inside_a_package_is_that_of_the_model_which_uses_it() -> None:
    """The model may be a class of an installed package, so that no frame is the user's."""
    model: dict[str, Any] = {}
    exec(compile("def forward():\n    raise ValueError('image size')\n", "/lib/site-packages/vision/net.py", "exec"), model)
    engine: dict[str, Any] = {"forward": model["forward"]}
    file = Path(user_errors.__file__).parent / "gradients" / "loop.py"
    exec(compile("def run():\n    forward()\n", str(file), "exec"), engine)
    error = caught(engine["run"])
    assert reported(error, "your code") is None
    converted = reported(error, "model", library=True)
    assert converted is not None
    assert "ValueError: image size" in str(converted)
