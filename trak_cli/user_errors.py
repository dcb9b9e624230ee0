"""Distinguishes exceptions of user code (a model, task, dataset or trainer) from bugs of this program, and reports them."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trak_cli.errors import InputError, MachineError, Problem, TrakError

#: Folders of the standard library and of installed packages.
_LIBRARIES = tuple(
    str(Path(path)) for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PROGRAM = str(Path(__file__).parent)
#: Helpers that user code and this program call alike; an error in them belongs to the caller.
_HELPERS = tuple(str(Path(_PROGRAM, file)) for file in ("batches.py", "types.py", "errors.py"))
#: Parts of this program that user code calls, as it calls a library.
_CALLED_BY_USERS = (*(str(Path(_PROGRAM, package)) for package in ("tasks", "plugins")), *_HELPERS)

#: The names under which IPython and Jupyter compile a cell.
_CELL = re.compile(r"^<ipython-input-|[/\\]ipykernel_\d+[/\\]")

#: Exceptions that pass unchanged: Ctrl-C, and errors that are reported already.
_PASS = (KeyboardInterrupt, TrakError)


def user_code_location(error: BaseException) -> str | None:
    """FILE:LINE in FUNCTION of the innermost traceback frame in user code: neither this program's nor a library's; the line
    itself, if it is in a notebook cell, which has no file.

    None if there is no such frame, or if a frame of this program lies further in. That happens when user code calls back
    into the program, for example when a gradient hook raises inside a layer of the user's model: the bug is the program's.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        # Compared with the program first, which may itself be installed among the libraries.
        if _is_program(frame.filename):
            return None
        if _CELL.search(frame.filename):
            return f"line {frame.lineno} of a cell, in {frame.name}: {frame.line}"
        if not (frame.filename.startswith((*_CALLED_BY_USERS, *_LIBRARIES, "<")) or "site-packages" in frame.filename):
            return f"{frame.filename}:{frame.lineno} in {frame.name}"
    return None


def reported(error: BaseException, where: str, *, library: bool = False, any_code: bool = False) -> TrakError | None:
    """The error that reports an exception of user code or a lack of memory; None if no user code raised the exception.

    Args:
        error: the exception.
        where: the config key, file or sample that the report names.
        library: also report exceptions from inside an installed package, which user code or a model of the user called.
        any_code: report exceptions of any code, because the user chose what is called (a dataset, for example).
    """
    if is_out_of_memory(error):
        found = f"out of memory ({error_summary(error)})"
        remedy = "close other programs, lower gradients.memory_mb, or use a machine with more memory"
        return MachineError(Problem(where, found, "enough memory", remedy))
    location, on_gpu = user_code_location(error), "CUDA error" in text_of(error)
    known = any_code or (library and _is_foreign(error)) or isinstance(error, Warning) or on_gpu
    if location is None and not known:
        return None
    found = error_summary(error) + (f" ({location})" if location else "")
    if isinstance(error, Warning):
        remedy = "remove warnings.simplefilter('error') from your code, or unset PYTHONWARNINGS"
        return InputError(Problem(where, f"a warning raised as an exception, {found}", "printed warnings", remedy))
    if isinstance(error, SystemExit):
        return InputError(Problem(where, f"the end of the program, {found}", "code that returns", "remove the call of exit"))
    if on_gpu:
        remedy = "run again with device=cpu, or with CUDA_LAUNCH_BLOCKING=1, to see the line that caused it"
        return InputError(Problem(where, found, "no exception", remedy))
    return InputError(Problem(where, found, "no exception", "fix it there; set TRAK_TRACEBACK=1 to see the full traceback"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in Python or in PyTorch, on a GPU or on the CPU."""
    if isinstance(error, RuntimeError):
        return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text_of(error)
    return isinstance(error, MemoryError)


def error_summary(error: BaseException) -> str:
    """Type and first line of an exception; without a message, the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.line for frame in reversed(frames) if frame.line), None)
    return f"{type(error).__name__}: {first_line(error, f'no message, at `{line}`' if line else 'no message')}"


def first_line(error: BaseException, default: str | None = None) -> str:
    """The first line of the exception's message, cut to 200 characters; if it is empty, ``default`` or the type's name."""
    return (text_of(error).strip().splitlines() or [default or type(error).__name__])[0][:200]


@contextmanager
def report_user_errors(where: str, *, library: bool = False, any_code: bool = False) -> Iterator[None]:
    """Convert exceptions of user code inside the block to an error that names ``where``.

    SystemExit and every other exception is converted, except Ctrl-C.

    Args:
        where: the config key, file or sample that the report names.
        library, any_code: which exceptions are those of user code, as in :func:`reported`.

    Raises:
        InputError: user code raised an exception.
        MachineError: out of memory.
    """
    try:
        yield
    except _PASS:
        raise
    except BaseException as error:
        converted = reported(error, where, library=library, any_code=any_code)
        if converted is None:
            raise
        raise converted from error


def _is_program(filename: str) -> bool:
    return filename.startswith(_PROGRAM) and not filename.startswith(_CALLED_BY_USERS)


def _is_foreign(error: BaseException) -> bool:
    """Whether the innermost frame, apart from helpers and the standard library, belongs to user code."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    files = [file for file in files if not file.startswith(_HELPERS)]
    files = [file for file in files if "site-packages" in file or not file.startswith(_LIBRARIES)]
    return bool(files) and not _is_program(files[-1])


def text_of(error: BaseException) -> str:
    """The message of an exception, even if its class fails to produce one."""
    try:
        return str(error)
    except Exception:  # __str__ of a class of the user
        return ""
