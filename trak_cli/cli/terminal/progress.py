"""Progress of a stage on stderr: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.types import Meter, Reporter

#: Seconds between two plain progress lines.
PLAIN_INTERVAL = 10.0


def make_reporter() -> Reporter:
    """The reporter for the kind of stderr that this process has."""
    if sys.stderr.isatty():
        return TerminalReporter(Console(stderr=True))
    return PlainReporter()


class TerminalReporter:
    """Progress bars with rate and time left; messages appear above them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def log(self, message: str) -> None:
        self._console.print(message, style="dim", markup=False, highlight=False)

    @contextmanager
    def meter(self, label: str, total: int, unit: str) -> Iterator[Meter]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = _Bar(progress, label, total, unit)
            yield bar
        self.log(f"{label}: {counted(bar.done, unit.removesuffix('s'))} in {bar.elapsed:.1f} s{bar.rate(', ')}")


class PlainReporter:
    """One line per message, and one line of progress every few seconds."""

    def log(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)  # noqa: T201

    @contextmanager
    def meter(self, label: str, total: int, unit: str) -> Iterator[Meter]:
        count = _Lines(self, label, total, unit)
        yield count
        self.log(f"{label}: {counted(count.done, unit.removesuffix('s'))} in {count.elapsed:.1f} s{count.rate(', ')}")


class _Count:
    """Counts finished units and the time since the start."""

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.done, self._start = total, unit, 0, time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def rate(self, before: str = "") -> str:
        if not self.done or self.elapsed < 1e-3:
            return ""
        return f"{before}{self.done / self.elapsed:,.1f} {self.unit}/s"

    def left(self) -> str:
        if not self.done:
            return "unknown"
        return f"{self.elapsed / self.done * (self.total - self.done):.0f} s"


class _Bar(_Count):
    def __init__(self, progress: Progress, label: str, total: int, unit: str) -> None:
        super().__init__(total, unit)
        self._progress = progress
        self._task = progress.add_task(label, total=total, rate="")

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        self._progress.update(self._task, completed=self.done, rate=self.rate())


class _Lines(_Count):
    def __init__(self, reporter: PlainReporter, label: str, total: int, unit: str) -> None:
        super().__init__(total, unit)
        self._reporter, self._label, self._next = reporter, label, PLAIN_INTERVAL

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.elapsed >= self._next:
            self._next = self.elapsed + PLAIN_INTERVAL
            self._reporter.log(
                f"{self._label}: {self.done:,} of {self.total:,} {self.unit}{self.rate(', ')}, left {self.left()}"
            )
