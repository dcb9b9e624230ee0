"""Atomic writes: a file is complete or absent, even if the process is killed or another process writes the same file.

The bytes are written to a temporary file with a unique name and synced to disk; the file then gets its final name in one
step, and the folder is synced. There are no locks: two writers of the same file do no harm.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trak_cli.errors import MachineError, Problem
from trak_cli.store.safety.visibility import wait_until_visible
from trak_cli.store.temp_files import clean, temporary_of

#: Every step of writing a file, in order; ``on_step`` is called right after each, and after a file is removed.
STEPS: tuple[str, ...] = ("created", "half-written", "written", "synced", "promoted", "unlinked", "folder-synced", "cleaned")
REMOVED = "removed"


def _no_step(step: str, path: Path) -> None:
    del step, path


#: Called with the step's name and the final path; tests replace it to kill the process at a step.
on_step: Callable[[str, Path], None] = _no_step

#: Errors after which writing is tried again: another writer finished first and removed our temporary file (ESTALE: on a
#: network file system), or a signal interrupted a request to a server.
_AGAIN = frozenset({errno.ENOENT, errno.ESTALE, errno.EINTR})

#: Errors of file systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

#: Errors of file systems that cannot sync a folder.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_ATTEMPTS = 10


def write_once(path: Path, data: bytes) -> bool:
    """Write ``data`` as ``path`` unless that file exists; the first writer wins.

    Returns:
        True if the file was written, False if it existed already; an existing file stays as it is.

    Raises:
        MachineError: disk full, read-only, no permission, ...; the temporary file is removed.
    """
    return _write_file(path, data, once=True)


def replace(path: Path, data: bytes) -> None:
    """Write ``data`` as ``path``, replacing an existing file; for files that can be computed again. The last writer wins.

    Raises:
        MachineError: disk full, read-only, no permission, ...; the temporary file is removed, and the old file stays.
    """
    _write_file(path, data, once=False)


def _write_file(path: Path, data: bytes, once: bool) -> bool:
    with writing(path, len(data)):
        for attempt in range(_ATTEMPTS):
            try:
                _make_folder(path.parent)
                if once and path.exists():
                    clean(path)
                    on_step("cleaned", path)
                    return False
                won = _publish(path, data, link_first if once else _rename_over)
                if not won:
                    wait_until_visible([path])
                return won
            except OSError as error:
                # A writer that finishes first removes the temporaries of the others. Or another process has removed the
                # folder, which was empty.
                if error.errno not in _AGAIN or attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


def _publish(path: Path, data: bytes, promote: Callable[[Path, Path], bool]) -> bool:
    temporary = temporary_of(path)
    try:
        _write(temporary, path, data)
        won = promote(temporary, path)
        on_step("promoted", path)
    except BaseException:
        with suppress(OSError):  # report the first error
            temporary.unlink()
        raise
    temporary.unlink(missing_ok=True)
    on_step("unlinked", path)
    sync(path.parent)
    on_step("folder-synced", path)
    clean(path)
    on_step("cleaned", path)
    return won


def _write(temporary: Path, path: Path, data: bytes) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        on_step("created", path)
        view = memoryview(data)
        _write_all(descriptor, view[: len(view) // 2])
        on_step("half-written", path)
        _write_all(descriptor, view[len(view) // 2 :])
        on_step("written", path)
        os.fsync(descriptor)
        on_step("synced", path)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        written = os.write(descriptor, view)  # may write less: near a full disk, or above 2 GiB
        if written <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[written:]


def link_first(temporary: Path, path: Path) -> bool:
    """Give a written file its final name unless that exists; whether ``path`` is now ours."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost: then the existing file is ours. Its name may not
        # be visible here yet, but a second name of the temporary file is.
        return os.stat(temporary).st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    # Without hard links (FAT, some network mounts) there is no portable "rename unless it exists". If another writer's
    # file appears between this check and the rename, ours replaces it. Both are complete and hold the same values; only
    # the other writer's provenance is lost.
    if path.exists():
        return False
    os.rename(temporary, path)
    return True


def _rename_over(temporary: Path, path: Path) -> bool:
    os.replace(temporary, path)
    return True


def _make_folder(folder: Path) -> None:
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for new in reversed(created):
        with suppress(FileExistsError):  # made by another process, and not visible here yet
            new.mkdir()
        sync(new.parent)


def sync(path: Path) -> None:
    """Force the content of a file, or the names of the files in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and user-space file systems cannot sync a folder; nothing more can be done there.
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path, size: int | None = None) -> Iterator[None]:
    """Turn operating system errors while ``path`` is written (``size`` bytes, if known) into errors that name it.

    Raises:
        MachineError: disk full, read-only, no permission, …
    """
    try:
        yield
    except OSError as error:
        raise MachineError(_problem(path, size, error)) from error


def _problem(path: Path, size: int | None, error: OSError) -> Problem:
    number = error.errno or errno.EIO
    room = "" if size is None else f" {size:,} bytes"
    found = f"{os.strerror(number)} ({errno.errorcode.get(number, number)}) while writing{room}"
    if number in _NO_ROOM:
        with suppress(OSError):
            found += f"; {shutil.disk_usage(path.parent).free:,} bytes are free on the disk"
        remedy = "free some space (disk, quota or file-size limit) and run the stage again; finished shards are kept"
    elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "make the folder writable or choose another store folder, and run the stage again"
    else:
        remedy = "check the file system and run the stage again; finished shards are kept"
    return Problem(str(path), found, f"a writable folder {path.parent} with room{' for' if room else ''}{room}", remedy)


def set_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged`` (with a number if that exists); nothing is deleted.

    If another process has just renamed it, nothing happens.

    Raises:
        MachineError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    with writing(path, 0), suppress(FileNotFoundError):
        path.rename(aside)
    return aside


def remove(path: Path) -> None:
    """Delete a file that can be computed again; a missing file is no error.

    Raises:
        MachineError: it cannot be deleted.
    """
    with writing(path, 0):
        path.unlink(missing_ok=True)
    on_step(REMOVED, path)


def remove_empty_folders(folder: Path) -> None:
    """Delete ``folder`` and the folders below it, except those that hold a file."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty, or already deleted by another process
            os.rmdir(parent)


def sync_folder(folder: Path) -> None:
    """Force the names of the files in ``folder`` to the disk.

    Raises:
        MachineError: the file system refuses.
    """
    with writing(folder, 0):
        sync(folder)
