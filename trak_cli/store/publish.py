"""Write one HDF5 file atomically; if it exists already, check that it is the same one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from trak_cli.store.atomic_write import remove, replace, write_once
from trak_cli.store.container import Image, build_image, read_image
from trak_cli.store.failures import DamagedError, MissingError
from trak_cli.store.fingerprint import require_same
from trak_cli.types import AnyArray, Json


def write_image(
    path: Path,
    arrays: Mapping[str, AnyArray],
    fingerprint: Json,
    provenance: Json,
    *,
    bfloat16: Collection[str] = (),
    overwrite: bool = False,
) -> bool:
    """Write ``arrays`` as the file ``path``.

    Args:
        path: the file; its folder is created.
        arrays, fingerprint, provenance, bfloat16: as for :func:`~trak_cli.store.container.build_image`.
        overwrite: replace an existing file.

    Returns:
        True if the file was written, False if an intact file with the same fingerprint existed already.

    Raises:
        DamagedError, ForeignError: an existing file is damaged or has another fingerprint.
        MachineError: disk full, read-only, no permission, ...
    """
    data = build_image(arrays, fingerprint, provenance, bfloat16)
    if overwrite:
        replace(path, data)
        return True
    if write_once(path, data):
        return True
    require_same(path, read_image(path, only=()).fingerprint, fingerprint)
    return False


def is_stored(path: Path, fingerprint: Json) -> bool:
    """Whether an intact file with this fingerprint exists; checks every byte.

    Raises:
        DamagedError, ForeignError: the file is damaged or has another fingerprint.
        MachineError: it cannot be read.
    """
    with suppress(MissingError):
        require_same(path, read_image(path, only=()).fingerprint, fingerprint)
        return True
    return False


def read_or_remove(path: Path, only: Collection[str] | None = None) -> Image | None:
    """A file that can be computed again; None if there is none. A damaged one is removed.

    Args:
        path: the file.
        only: as for :func:`~trak_cli.store.container.read_image`.

    Raises:
        ForeignError: it is intact, but holds something that a store does not, or lacks one of ``only``.
        MachineError: it cannot be read or removed.
    """
    if not path.exists():
        return None
    try:
        return read_image(path, only)
    except (DamagedError, MissingError):
        remove(path)
        return None
