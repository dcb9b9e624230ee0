"""Limits for files that somebody else made: memory, text, nesting, and sizes that their contents do not support.

Parsers of damaged or malicious files raise exceptions of any kind, and a few bytes can declare an array that fills the memory.
Every reader of such a file works inside :func:`parsing`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from trak_cli.errors import InputError, Problem, TrakError
from trak_cli.user_errors import first_line, is_out_of_memory

#: Bytes of a JSON or YAML document, at most, and the levels of its nesting.
MAX_TEXT, MAX_DEPTH = 1 << 26, 64

#: What reading a file may allocate: this many times its size, or that many bytes if this is more.
_MEMORY_FACTOR, _LEAST_MEMORY = 16, 2 << 30

#: What contents may declare: this many times the bytes that are stored for them, or that many bytes if this is more.
_SIZE_FACTOR, _LEAST_SIZE = 100, 1 << 28

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

_lock = threading.Lock()
_readers = 0
_limits_before: tuple[int, int] | None = None


@contextmanager
def parsing(path: Path, expected: str, remedy: str = "copy or write the file again") -> Iterator[None]:
    """Read a file or folder that somebody else made: memory is bounded, and exceptions of the parser become user errors.

    Args:
        path: what is read; messages name it.
        expected, remedy: for messages.

    Raises:
        InputError: the parser raised any exception, or wanted more memory than the file can need.
    """
    try:
        with _bounded_memory(_size_of(path)):
            yield
    except TrakError:
        raise
    except Exception as error:  # damaged files raise exceptions of any kind
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # of a temporary file
            raise
        raise InputError(Problem(str(path), _fault(path, error), expected, remedy)) from error


def require_plausible(where: str, declared: int, stored: int) -> None:
    """Refuse contents that declare a size which the bytes stored for them do not support.

    Args:
        where: for messages.
        declared: bytes of the contents in memory.
        stored: bytes of the file that hold them, compressed or not.

    Raises:
        InputError: more than 256 MiB, and more than a hundred times what is stored.
    """
    if declared <= max(_LEAST_SIZE, _SIZE_FACTOR * stored):
        return
    found = f"contents of {declared:,} bytes in {stored:,} bytes of the file"
    raise InputError(Problem(where, found, f"at most {_SIZE_FACTOR} times the stored bytes", "store them uncompressed"))


def read_text(path: Path, encoding: str = "utf-8", limit: int = MAX_TEXT) -> str:
    """The text of a small document.

    Raises:
        OSError: it cannot be read, or is not a file.
        ValueError: it is too long, or not in this encoding.
    """
    return read_bytes(path, limit).decode(encoding)


def read_bytes(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a small file.

    Raises:
        OSError: it cannot be read, or is not a file.
        ValueError: it is too long.
    """
    # Non-blocking, so that a named pipe in place of a file does not hang the program.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"more than {limit:,} bytes")
    return data


def parse_json(text: str | bytes, *, constants: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        constants: accept NaN and infinities.

    Raises:
        ValueError: it is not JSON, nested too deeply, or holds a text that is not Unicode.
    """
    try:
        value = json.loads(text, parse_constant=None if constants else _refuse_constant)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode()  # half of a surrogate pair raises UnicodeEncodeError, a ValueError
            elif isinstance(item, dict | list):
                inner += [*item, *item.values()] if isinstance(item, dict) else item
        level = [item for item in inner if isinstance(item, dict | list | str)]
        if not level:
            return value
    raise ValueError("JSON nested too deeply")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _fault(path: Path, error: Exception) -> str:
    if is_out_of_memory(error):
        return f"contents that need far more memory than the {_size_of(path):,} bytes of the file"
    if isinstance(error, OSError) and error.strerror:
        return f"a file that cannot be read ({error.strerror})"
    return f"a damaged file, or one of another format ({first_line(error)})"


def _size_of(path: Path) -> int:
    """The bytes of a file, or of the files of a folder."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except OSError:  # the reader reports it
        return 0


@contextmanager
def _bounded_memory(size: int) -> Iterator[None]:
    """Bound what is allocated inside, on Linux; of several at once, the first one sets the limit."""
    global _readers
    if sys.platform != "linux":
        yield
        return
    with _lock:
        _readers += 1
        if _readers == 1:
            _set_limit(max(_MEMORY_FACTOR * size, _LEAST_MEMORY))
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                _restore_limit()


def _set_limit(allowance: int) -> None:
    import resource

    global _limits_before
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    wanted = used + allowance
    if all(limit == resource.RLIM_INFINITY or wanted < limit for limit in (soft, hard)):
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
        _limits_before = (soft, hard)


def _restore_limit() -> None:
    import resource

    global _limits_before
    if _limits_before is not None:
        resource.setrlimit(resource.RLIMIT_DATA, _limits_before)
        _limits_before = None
