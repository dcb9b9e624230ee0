"""Following the tasks of stages until their files are stored, or until no task is left to write them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from trak_cli.cluster.tasks import TaskState, ending
from trak_cli.config.load import Loaded
from trak_cli.errors import Problem, StoreError
from trak_cli.stages.submitting.progress import Progress, inputs_of, progress_of
from trak_cli.types import Meter, Reporter, listed

#: Seconds between two looks at the store, at least. A look that takes long makes the pauses longer.
INTERVAL = 0.5

#: Seconds after the end of the last task until a file that it wrote must be visible, on a network file system too.
VISIBLE = 30.0

#: Files and tasks that are named; the others are only counted.
SHOWN = 5


class Tasks(Protocol):
    """The tasks of one stage, wherever they run."""

    @property
    def job(self) -> str | None:
        """The number of the job; None on this machine."""

    def states(self) -> Sequence[TaskState] | None:
        """What is known about each task; None if nothing is."""

    def log(self, index: int) -> Path:
        """The log of a task."""


@dataclass(frozen=True)
class Followed:
    """A stage whose tasks were started."""

    stage: str
    loaded: Loaded
    tasks: Tasks


class Bar:
    """One progress bar for all stages, in files; it begins when the number of files is known."""

    def __init__(self, reporter: Reporter, stack: ExitStack) -> None:
        self._reporter, self._stack = reporter, stack
        self._meter: Meter | None = None
        self._shown = 0

    def show(self, stages: Mapping[str, Progress]) -> None:
        """Advance the bar to what is stored."""
        known = [progress.total for progress in stages.values() if progress.total is not None]
        done = sum(progress.done for progress in stages.values())
        if self._meter is None and (len(known) == len(stages) or done):
            self._meter = self._stack.enter_context(self._reporter.meter(", ".join(stages), sum(known), "files"))
        if self._meter is not None and done > self._shown:
            self._meter.advance(done - self._shown)
            self._shown = done


def follow(parts: Sequence[Followed], reporter: Reporter) -> None:
    """Return when all files of these stages are stored.

    Raises:
        StoreError: no task is left that could write the missing ones; names the tasks that failed, the files and the logs.
    """
    said = Announcer(reporter)
    ended_since: float | None = None
    with ExitStack() as stack:
        bar = Bar(reporter, stack)
        while True:
            start = time.monotonic()
            states = {part.stage: part.tasks.states() for part in parts}  # before the files, which are written by then
            look = time.monotonic()
            progress = {part.stage: _settled(part, states[part.stage]) for part in parts}
            pause = max(INTERVAL, 3 * (time.monotonic() - look))
            bar.show(progress)
            if all(one.complete for one in progress.values()):
                return
            said.tell(parts, states)
            if not _may_continue(parts, states, progress):
                ended_since = ended_since or start
                if start - ended_since >= VISIBLE or any(_failed(states[part.stage]) for part in parts):
                    break
            else:
                ended_since = None
            time.sleep(pause)
    error = StoreError(_problems(parts, states, progress))
    error.headline = "the tasks have ended, and work is missing"
    raise error


def _settled(part: Followed, states: Sequence[TaskState] | None) -> Progress:
    """The progress of a stage; one whose files cannot be counted is complete when all of its tasks have succeeded."""
    progress = progress_of(part.stage, part.loaded)
    if progress.total is None and states and not _failed(states) and all(state.ended for state in states):
        return replace(progress, total=0)
    return progress


def _may_continue(
    parts: Sequence[Followed], states: Mapping[str, Sequence[TaskState] | None], progress: Mapping[str, Progress]
) -> bool:
    """Whether a task is left that could write a missing file."""
    for part in parts:
        known = states[part.stage]
        if progress[part.stage].complete:
            continue
        if known is None:  # the stages are chained: after one that has failed, nothing more is started
            return True
        if any(not state.ended for state in known):
            return True
        if _failed(known):
            return any(not state.ended for other in parts for state in states[other.stage] or ())
    return False


def _failed(states: Sequence[TaskState] | None) -> list[TaskState]:
    """The tasks that have ended without success."""
    return [state for state in states or () if state.ended and state.state != "COMPLETED"]


def _problems(
    parts: Sequence[Followed], states: Mapping[str, Sequence[TaskState] | None], progress: Mapping[str, Progress]
) -> Iterator[Problem]:
    """The failed tasks and missing files of each stage, except those that were not started because an earlier stage failed."""
    incomplete: list[str] = []
    for part in parts:
        left = progress[part.stage]
        if left.complete or any(earlier in incomplete for earlier in inputs_of(part.stage, part.loaded.config)):
            continue
        incomplete.append(part.stage)
        yield from _failures(part, _failed(states[part.stage]))
        count = "all" if left.total is None else f"{len(left.missing)} of {left.total}"
        paths = listed([str(path) for path in left.missing], SHOWN) or "unknown: the store does not tell their names yet"
        found = f"nothing at {paths}" if left.missing else paths
        yield Problem(f"trak {part.stage}: {count} {left.unit}", found, "the files that its tasks write", _AGAIN)


_AGAIN = "run the same trak submit again: it submits what is missing"


def _failures(part: Followed, failed: Sequence[TaskState]) -> Iterator[Problem]:
    """A problem for all tasks that ended alike."""
    alike: dict[str, list[TaskState]] = {}
    for state in failed:
        end = ending(part.tasks.log(state.index))
        alike.setdefault(state.state + (f", {end}" if end is not None else ", without an exit code"), []).append(state)
    for found, tasks in alike.items():
        numbers = listed([str(state.index) for state in tasks], SHOWN)
        job = "" if part.tasks.job is None else f"job {part.tasks.job}, "
        logs = [part.tasks.log(state.index) for state in tasks]
        there = [str(log) for log in logs if log.exists()]
        remedy = f"read {listed(there, 2)}; then {_AGAIN}" if there else _AGAIN
        word = "task" if len(tasks) == 1 else "tasks"
        yield Problem(f"trak {part.stage}: {job}{word} {numbers}", found, "COMPLETED", remedy)


class Announcer:
    """Logs what changes about the tasks of a stage: how many wait, run and have ended."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last: dict[str, str] = {}

    def tell(self, parts: Sequence[Followed], states: Mapping[str, Sequence[TaskState] | None]) -> None:
        """Log the stages whose tasks have changed."""
        for part in parts:
            known = states[part.stage]
            counts: dict[str, int] = {}
            for state in known or ():
                counts[state.state] = counts.get(state.state, 0) + 1
            reasons = sorted({state.reason for state in known or () if state.state == "PENDING" and state.reason})
            text = ", ".join(f"{count} {word.lower()}" for word, count in sorted(counts.items()))
            text += f" ({', '.join(reasons)})" if reasons else ""
            if text and self._last.get(part.stage) != text:
                self._last[part.stage] = text
                self._reporter.log(f"tasks of {part.stage}: {text}")
