"""Symbolic links inside a store are refused: in a store from somebody else they may lead anywhere.

The folder of the store itself may be a link. A file is checked again where it is opened
(:func:`~trak_cli.store.safety.visibility.open_stored`).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from trak_cli.errors import Problem
from trak_cli.store.failures import ForeignError


def no_links(root: Path, *names: str) -> Path:
    """The path ``root/NAME/NAME/…``; each is examined once in a process. What does not exist yet is no link.

    Raises:
        ForeignError: a part of it below ``root`` is a link.
    """
    return _examined(root, names, "" if root.is_absolute() else os.getcwd())


@functools.lru_cache(maxsize=1 << 14)
def _examined(root: Path, names: tuple[str, ...], folder: str) -> Path:
    """As :func:`no_links`, for a ``root`` relative to ``folder``, the current one."""
    path = root
    for name in names:
        path = path / name
        if os.path.islink(os.path.join(folder, path)):
            raise link_in_store(path)
    return path


def link_in_store(path: Path) -> ForeignError:
    """The error for a link."""
    remedy = "put the folder or file itself there; a store on another disk is given by store=FOLDER, which may be a link"
    return ForeignError(Problem(str(path), f"a symbolic link to {os.readlink(path)}", "a part of the store itself", remedy))
