"""Files on a shared file system: names and contents that another machine has written may become visible seconds later.

Attributes and folder listings are cached by the clients of NFS, and object stores behind a mount may show a name before its
bytes. A reader therefore waits for a short time for a file that is not whole, if it was written recently.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from trak_cli.store.failures import DamagedError, foreign, reading

Value = TypeVar("Value")

#: Seconds between the attempts to read a file that is not whole.
PAUSES: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)

#: Age in seconds up to which a file may still be becoming visible; clocks of machines may differ by as much.
_YOUNG = 120.0


@contextmanager
def open_stored(path: Path) -> Iterator[BinaryIO]:
    """A file of a store, open for reading. Links are refused: in a store from somebody else they may lead anywhere.

    Raises:
        MissingError, ForeignError (a link, or something else that is not a file), MachineError.
    """
    with reading(path):
        try:
            # Non-blocking, so that a named pipe in place of a shard does not hang the program.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise foreign(path, "a symbolic link", "a file of the store itself") from error
            raise
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise foreign(path, "something that is not a file", "a file")
            yield file


def patiently(path: Path, read: Callable[[], Value]) -> Value:
    """The result of ``read``, which is called again for a short time while the file at ``path`` may still become visible.

    Raises:
        StoreError, MachineError: as ``read`` raises them, when the file is old or the time is over.
    """
    for pause in PAUSES:
        try:
            return read()
        except DamagedError:
            if not _is_young(path):
                raise
        except OSError as error:
            if error.errno != errno.ESTALE:  # the file was replaced while it was open
                raise
        time.sleep(pause)
    return read()


def wait_until_visible(paths: Sequence[Path]) -> bool:
    """Wait for a short time for files that another machine may have written; whether all of them are there."""
    for pause in PAUSES:
        if all(path.exists() for path in paths):
            return True
        time.sleep(pause)
    return all(path.exists() for path in paths)


def _is_young(path: Path) -> bool:
    with suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) < _YOUNG
    return False
