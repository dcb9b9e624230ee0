"""Symbolic links inside a store are refused: in a store from somebody else they may lead anywhere.

The folder of the store itself may be a link. The last part of a path is checked where the file is opened
(:func:`~trak_cli.store.safety.visibility.open_stored`).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from trak_cli.errors import Problem
from trak_cli.store.failures import ForeignError

#: Folders that were found to be no links; a store has few of them.
_known: set[Path] = set()


def require_no_link(path: Path) -> None:
    """Refuse a link; what does not exist or cannot be examined is left to those who open it.

    Raises:
        ForeignError: it is a link.
    """
    if path in _known:
        return
    with suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise link_in_store(path)
        if stat.S_ISDIR(mode):
            _known.add(path)


def link_in_store(path: Path) -> ForeignError:
    """The error for a link."""
    remedy = "put the folder or file itself there; a store on another disk is given by store=FOLDER, which may be a link"
    return ForeignError(Problem(str(path), f"a symbolic link to {os.readlink(path)}", "a part of the store itself", remedy))
