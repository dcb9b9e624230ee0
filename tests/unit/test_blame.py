"""Whose code an exception came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trak_cli import user_errors as blame
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.user_errors import blaming, in_words, raised_by_user, users_line


def caught(work) -> Exception:  # type: ignore[no-untyped-def]
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def users() -> None:
    torch.stack([torch.zeros(2), torch.zeros(3)])  # raised inside a library, called from here


def test_the_last_line_that_a_user_wrote_is_named() -> None:
    line = users_line(caught(users))
    assert line is not None
    assert line.endswith("in users")
    assert __file__ in line


def test_code_of_this_program_called_with_nonsense_is_not_a_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        ProjectionSpec()  # type: ignore[call-arg]

    error = caught(work)
    monkeypatch.setattr("trak_cli.user_errors._OWN", __file__)  # as if this file belonged to the program
    assert users_line(error) is None
    assert raised_by_user(error, "your code") is None
    assert raised_by_user(error, "sample 3 of train", theirs=True) is not None


def test_a_bug_of_this_program_inside_a_users_call_stays_a_bug() -> None:
    """As when a hook of an engine raises in a layer of the user's model."""
    source = "def hook():\n    raise RuntimeError('a bug')\n"
    own: dict[str, Any] = {}
    exec(compile(source, str(Path(blame.__file__).parent / "gradients" / "hooks.py"), "exec"), own)
    assert users_line(caught(lambda: own["hook"]())) is None
    task: dict[str, Any] = {}
    exec(compile(source, str(Path(blame.__file__).parent / "tasks" / "margin.py"), "exec"), task)
    assert users_line(caught(lambda: task["hook"]())) is not None


def test_what_a_user_is_told() -> None:
    with pytest.raises(InputError) as told, blaming("sample 3 of train"):
        users()
    (problem,) = told.value.problems
    assert problem.where == "sample 3 of train"
    assert problem.found.startswith("RuntimeError: stack expects each tensor")
    assert "in users)" in problem.found
    assert isinstance(told.value.__cause__, RuntimeError)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), ConfigError(Problem("k", "a", "b", "c"))])
def test_what_is_no_fault_of_the_code_stays_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)), blaming("sample 3 of train", theirs=True):
        raise error


def test_an_exception_in_words() -> None:
    assert in_words(ValueError("bad jpeg\nat line 3")) == "ValueError: bad jpeg"
    assert in_words(KeyError()) == "KeyError: without a message"
