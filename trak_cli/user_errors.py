"""Tell exceptions raised by user code (a model, task, dataset or trainer) from bugs of this program."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trak_cli.errors import InputError, Problem, TrakError

#: Folders of the standard library and of installed packages.
_LIBRARIES = tuple(
    str(Path(path)) for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PROGRAM = str(Path(__file__).parent)
#: Packages of this program that user code calls, as it calls a library.
_CALLED_BY_USERS = tuple(str(Path(_PROGRAM, package)) for package in ("tasks", "plugins"))


def user_code_location(error: BaseException) -> str | None:
    """FILE:LINE in FUNCTION of the innermost traceback frame in user code: neither this program's nor a library's.

    None if there is no such frame, or if a frame of this program lies further in. That happens when user code calls back
    into the program, for example when a gradient hook raises inside a layer of the user's model: the bug is the program's.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = frame.filename
        # Compared with the program first, which may itself be installed among the libraries.
        if file.startswith(_PROGRAM) and not file.startswith(_CALLED_BY_USERS):
            return None
        if not (file.startswith((*_CALLED_BY_USERS, *_LIBRARIES, "<")) or "site-packages" in file):
            return f"{file}:{frame.lineno} in {frame.name}"
    return None


def as_input_error(error: Exception, where: str, *, any_code: bool = False) -> InputError | None:
    """The :class:`InputError` that reports an exception of user code, or None if no user code raised it.

    Args:
        error: the exception.
        where: the config key, file or sample that the report names.
        any_code: report exceptions of any code, because the user chose what is called (a dataset, for example).
    """
    location = user_code_location(error)
    if isinstance(error, MemoryError) or (location is None and not any_code):
        return None
    found = error_summary(error) + (f" ({location})" if location else "")
    return InputError(Problem(where, found, "no exception", "fix it there; set TRAK_TRACEBACK=1 to see the full traceback"))


def error_summary(error: BaseException) -> str:
    """Type and first line of an exception."""
    return f"{type(error).__name__}: {first_line(error, 'no message')}"


def first_line(error: BaseException, default: str) -> str:
    """The first line of the exception's message, cut to 200 characters; ``default`` if the message is empty."""
    return (str(error).strip().splitlines() or [default])[0][:200]


@contextmanager
def report_user_errors(where: str, *, any_code: bool = False) -> Iterator[None]:
    """Convert exceptions of user code inside the block to an :class:`InputError` that names ``where``.

    Args:
        where: the config key, file or sample that the report names.
        any_code: convert exceptions of any code, as in :func:`as_input_error`.

    Raises:
        InputError: user code raised an exception.
    """
    try:
        yield
    except TrakError:
        raise
    except Exception as error:
        converted = as_input_error(error, where, any_code=any_code)
        if converted is None:
            raise
        raise converted from error
