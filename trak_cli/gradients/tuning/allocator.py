"""Keeps freed memory in the process, so that the same pages hold the gradients of one layer after another."""

from __future__ import annotations

import ctypes
import sys

#: Parameters of glibc's mallopt: from which size an allocation is mapped on its own, and how much free memory is given back.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1

_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """From now on, memory that is freed is used again instead of being returned to the system; no effect without glibc.

    By default, each allocation of 32 MiB or more consists of new pages, which the system fills with zeros. For per-sample
    gradients of convolutions this takes a tenth to a third of the time. The setting holds for the whole process and cannot be
    read, so only a process that does nothing else should use it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MOST)
        mallopt(_TRIM_THRESHOLD, _MOST)
