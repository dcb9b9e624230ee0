"""Whether files of a store have the fingerprint that a stage would give them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from trak_cli.errors import StoreError
from trak_cli.store.fingerprint import differences
from trak_cli.store.virtual import read_fingerprint
from trak_cli.types import Json


def has_fingerprint(path: Path, expected: Json) -> bool:
    """Whether a file is there whose fingerprint has these values."""
    try:
        status = path.stat()
        found = _fingerprint(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    except (OSError, StoreError):
        return False
    return not differences({key: found.get(key) for key in expected}, expected)


@cache
def _fingerprint(path: Path, stamp: tuple[int, ...]) -> Json:
    """The fingerprint in a file, which is read once for each state of the file."""
    del stamp
    return read_fingerprint(path)
