"""What Ctrl-C does before a stage starts: the process exits at once.

An exception could not be relied on there: modules that are being imported, and Hydra and OmegaConf, turn a KeyboardInterrupt
into other errors. Nothing has been written yet, so there is nothing to clean up.
"""

from __future__ import annotations

import os
import signal

#: Exit code after Ctrl-C: 128 + SIGINT, as shells report it.
INTERRUPTED = 130


def exit_on_interrupt() -> None:
    """From now on Ctrl-C ends the process with exit code 130; no effect where SIGINT is ignored or handled otherwise."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Undo :func:`exit_on_interrupt`: Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(*_: object) -> None:
    os.write(2, b"trak: interrupted\n")
    os._exit(INTERRUPTED)
