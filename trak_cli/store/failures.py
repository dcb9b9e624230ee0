"""The kinds of store errors that a stage treats differently, and the translation of the machine's own errors.

All are :class:`~trak_cli.errors.StoreError`: a caller that does not care catches that one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trak_cli.errors import MachineError, Problem, StoreError


class MissingError(StoreError):
    """The file is not there."""


class DamagedError(StoreError):
    """The bytes of the file cannot be trusted: cut short, changed, or never written by this program."""


class ForeignError(StoreError):
    """The file is whole but not the expected one: other fingerprint, other rows, other kind, other format version."""


def damaged(path: Path, found: str) -> DamagedError:
    """The error for a file whose bytes cannot be trusted."""
    return DamagedError(
        Problem(
            where=str(path),
            found=found,
            expected="the bytes that were written, whole and unchanged",
            remedy="delete it and run the stage again; only this shard is recomputed",
        )
    )


def foreign(path: Path, found: str, expected: str) -> ForeignError:
    """The error for a whole file that is not the one that belongs here."""
    return ForeignError(
        Problem(
            where=str(path),
            found=found,
            expected=expected,
            remedy="move it out of the store and run the stage again, or choose another store folder",
        )
    )


def missing(path: Path) -> MissingError:
    """The error for a file that is not there."""
    return MissingError(
        Problem(where=str(path), found="no such file", expected="a stored file", remedy="run the stage that writes it")
    )


@contextmanager
def reading(path: Path, doing: str = "reading") -> Iterator[None]:
    """Turn what the operating system says while ``path`` is read into an error that names the file.

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
        raise MachineError(
            Problem(
                where=str(path),
                found=f"{os.strerror(number)} ({errno.errorcode.get(number, number)}) while {doing}",
                expected="a file system that allows it",
                remedy="check the permissions and the health of the file system, then run the stage again",
            )
        ) from error
