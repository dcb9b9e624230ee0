"""The kinds of store errors that stages treat differently, and the translation of operating system errors.

All are :class:`~trak_cli.errors.StoreError`; catch that one to treat them alike.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trak_cli.errors import MachineError, Problem, StoreError


class MissingError(StoreError):
    """The file does not exist."""


class DamagedError(StoreError):
    """The bytes of the file cannot be trusted: cut short, changed, or never written by this program."""


class ForeignError(StoreError):
    """The file is intact but not the expected one: another fingerprint, rows, kind or format version."""


def damaged(path: Path, found: str) -> DamagedError:
    """The error for a file whose bytes cannot be trusted."""
    remedy = "delete it and run the stage again; only this shard is recomputed"
    return DamagedError(Problem(str(path), found, "the bytes that were written, complete and unchanged", remedy))


def foreign(path: Path, found: str, expected: str) -> ForeignError:
    """The error for an intact file that does not belong here."""
    remedy = "move it out of the store and run the stage again, or choose another store folder"
    return ForeignError(Problem(str(path), found, expected, remedy))


def missing(path: Path) -> MissingError:
    """The error for a file that does not exist."""
    return MissingError(Problem(str(path), "no such file", "a stored file", "run the stage that writes it"))


@contextmanager
def reading(path: Path, doing: str = "reading") -> Iterator[None]:
    """Turn operating system errors while ``path`` is read into errors that name the file.

    Raises:
        MissingError: the file does not exist.
        MachineError: it exists and cannot be read (permission, input/output error, too little memory, ...).
    """
    try:
        yield
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, MemoryError) as error:
        number = (error.errno if isinstance(error, OSError) else errno.ENOMEM) or errno.EIO
        found = f"{os.strerror(number)} ({errno.errorcode.get(number, number)}) while {doing}"
        remedy = "check the permissions and the health of the file system, then run the stage again"
        raise MachineError(Problem(str(path), found, "a file system that allows it", remedy)) from error
