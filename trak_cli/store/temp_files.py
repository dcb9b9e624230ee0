"""Temporary files: how they are named, and how those of a killed writer are removed.

A temporary file is ``.NAME.HOST.PID.RANDOM.tmp`` beside the file NAME that it becomes: the name tells who writes it.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trak_cli.store.failures import reading

_PATTERN = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>[0-9]{1,9})\.[0-9a-f]{16}\.tmp", re.DOTALL)


@dataclass(frozen=True)
class _Temporary:
    """A temporary file, with the parts of its name."""

    path: Path
    final: Path
    host: str
    pid: int


def this_host() -> str:
    """This machine's name as it is used in temporary file names: no dots, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "localhost"


def temporary_of(path: Path) -> Path:
    """A name in the folder of ``path`` that no other writer uses."""
    return path.with_name(f".{path.name}.{this_host()}.{os.getpid()}.{secrets.token_hex(8)}.tmp")


def clean(path: Path) -> int:
    """Remove every temporary file of ``path``, whichever process wrote it; returns how many.

    Call this only when ``path`` is complete: another writer of it then finds its temporary file gone and uses ``path``.
    """
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries]
    return sum(_remove(temporary) for temporary in _temporaries(path.parent, names) if temporary.final == path)


def sweep(folder: Path) -> int:
    """Remove the stale temporary files in ``folder`` and below; returns how many.

    A temporary file is stale if its final file exists, or if its writer ran on this host and is dead. The folder may be
    missing.

    Raises:
        MachineError: a file cannot be removed.
    """
    removed = 0
    with reading(folder, "removing temporary files"):
        for parent, _, names in os.walk(folder):
            for temporary in _temporaries(Path(parent), names):
                if temporary.final.exists() or _writer_is_dead(temporary):
                    removed += _remove(temporary)
    return removed


def _temporaries(folder: Path, names: Iterable[str]) -> Iterator[_Temporary]:
    for name in names:
        match = _PATTERN.fullmatch(name)
        if match:
            yield _Temporary(folder / name, folder / match["name"], match["host"], int(match["pid"]))


def _writer_is_dead(temporary: _Temporary) -> bool:
    if temporary.host != this_host() or temporary.pid == 0:
        return False
    try:
        os.kill(temporary.pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _remove(temporary: _Temporary) -> bool:
    try:
        temporary.path.unlink()
    except FileNotFoundError:  # already removed by another process
        return False
    return True
