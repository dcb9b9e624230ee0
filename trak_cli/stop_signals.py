"""What SIGTERM and SIGUSR2 do: schedulers send them before they end a process, at its time limit or when it is preempted.

Files are published whole or not at all, so a process may end at any moment. A unit of work that is nearly done is finished
first, because computing it again would cost more than the wait.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code after such a signal: EX_TEMPFAIL of sysexits.h. The same command continues.
STOPPED = 75

#: Seconds that a unit of work is given to finish. Slurm kills a process 30 seconds after SIGTERM by default.
PATIENCE = 15.0

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopRequested(KeyboardInterrupt):
    """Raised by a signal of :data:`SIGNALS`; passes through all code that Ctrl-C passes through."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number).name


class _Unit:
    """The unit of work at hand, and how long the one before took."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.began: float | None = None
        self.seconds: float | None = None
        self.request: StopRequested | None = None

    def nearly_done(self) -> bool:
        """Whether it is expected to end within the patience of a scheduler."""
        if self.began is None or self.seconds is None:
            return False
        return self.began + self.seconds - time.monotonic() <= PATIENCE


_unit = _Unit()


def exit_on_stop_signals() -> None:
    """From now on these signals end the process with exit code 75; no effect where one is ignored or handled otherwise."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


@contextmanager
def raised_stop_signals() -> Iterator[None]:
    """Inside the block, these signals raise :class:`StopRequested` in the main thread, at the end of the unit at hand if near.

    No effect in other threads, and on signals that are ignored or handled by someone else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != owner:
            _end_child(number)
        elif _unit.request is None:  # schedulers send several; one that arrived during the clean-up would end it early
            _unit.request = StopRequested(number)
            if not _unit.nearly_done():
                raise _unit.request

    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number in SIGNALS if before[number] in (signal.SIG_DFL, _exit)]
    _unit.reset()
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def unit_of_work() -> Iterator[None]:
    """Mark a unit of work, after which its result is stored. Units do not overlap.

    Raises:
        StopRequested: after the unit, if a signal arrived while it was nearly done.
    """
    _unit.began = time.monotonic()
    try:
        yield
        _unit.seconds = time.monotonic() - _unit.began
    finally:
        _unit.began = None
    if _unit.request is not None:
        raise _unit.request


def _end_child(number: int) -> None:
    """In a forked child, such as a worker that reads data: end at SIGTERM, and leave the rest to the parent."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    os.write(2, f"trak: stopped by {signal.Signals(number).name}\n".encode())
    os._exit(STOPPED)
