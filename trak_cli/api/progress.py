"""Progress of stages that run inside a Python program: bars of tqdm, and messages through :mod:`logging`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trak_cli.types import Meter, Reporter, Silent

#: Messages of stages go to this logger: warnings as such, everything else at level INFO, which Python does not show by default.
LOGGER = logging.getLogger("trak_cli")

_WARNING = "warning: "


def reporter_of(progress: bool | Reporter) -> Reporter:
    """The reporter that a caller asked for: True for bars, False for messages only, or one of the caller's own."""
    return Progress(bars=progress) if isinstance(progress, bool) else progress


class Progress:
    """A reporter for notebooks and programs. Bars need tqdm (extra ``notebook``); without it there are none."""

    def __init__(self, *, bars: bool = True) -> None:
        self._bars = bars and importlib.util.find_spec("tqdm") is not None

    def log(self, message: str) -> None:
        level = logging.WARNING if message.startswith(_WARNING) else logging.INFO
        LOGGER.log(level, "%s", message.removeprefix(_WARNING))

    @contextmanager
    def meter(self, label: str, total: int, unit: str) -> Iterator[Meter]:
        if not self._bars:
            yield Silent()
            return
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=label, unit=f" {unit}") as bar:
            yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, amount: int = 1) -> None:
        self._bar.update(amount)
