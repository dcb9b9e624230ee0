"""Whose code an exception came from: that of the user's model, task, dataset or trainer, or this program's own."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trak_cli.errors import InputError, Problem, TrakError

#: Folders of code that no user wrote.
_OTHERS = tuple(
    str(Path(path)) for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_OWN = str(Path(__file__).parent)
#: Parts of this program that users' code calls, as it does a library.
_CALLED = tuple(str(Path(_OWN, room)) for room in ("tasks", "plugins"))


def users_line(error: BaseException) -> str | None:
    """FILE:LINE in FUNCTION of the last frame in code that is neither this program's nor a library's.

    None where there is no such frame, or where the program's own code was called from it and raised, as a hook in a layer is.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = frame.filename
        if file.startswith(_OWN) and not file.startswith(_CALLED):  # first, for it may be installed among the libraries
            return None
        if not (file.startswith((*_CALLED, *_OTHERS, "<")) or "site-packages" in file):
            return f"{file}:{frame.lineno} in {frame.name}"
    return None


def raised_by_user(error: Exception, where: str, *, theirs: bool = False) -> InputError | None:
    """What a user is told of an exception in code of theirs; None where none of it is on the way.

    ``theirs``: whatever was called is the user's choice, such as a dataset, whoever wrote it.
    """
    line = users_line(error)
    if isinstance(error, MemoryError) or (line is None and not theirs):
        return None
    found = in_words(error) + (f" ({line})" if line else "")
    return InputError(Problem(where, found, "no exception", "mend it there; TRAK_TRACEBACK=1 shows the whole way to it"))


def in_words(error: BaseException) -> str:
    """Type and first line of an exception."""
    return f"{type(error).__name__}: {first_line(error, 'without a message')}"


def first_line(error: BaseException, otherwise: str) -> str:
    """The first line of its message, 200 characters at most; ``otherwise`` where it has none."""
    return (str(error).strip().splitlines() or [otherwise])[0][:200]


@contextmanager
def blaming(where: str, *, theirs: bool = False) -> Iterator[None]:
    """What user code raises inside is told as a problem of ``where``; ``theirs``: all that is raised.

    Raises:
        InputError: user code raised.
    """
    try:
        yield
    except TrakError:
        raise
    except Exception as error:
        told = raised_by_user(error, where, theirs=theirs)
        if told is None:
            raise
        raise told from error
