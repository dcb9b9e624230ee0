"""Tasks as processes on this machine, through submitit's local executor."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from submitit import LocalExecutor
from submitit.local.local import LocalJob

from trak_cli.cluster.tasks import TaskArray, TaskState, ending

#: Time limit in minutes where none is given: a year.
_FOREVER = 525_600


class _Commands(LocalExecutor):
    """Starts commands; nothing is pickled."""

    def start(self, command: str) -> LocalJob[None]:
        """Start a command in a process of its own, which Ctrl-C does not reach."""
        if threading.current_thread() is not threading.main_thread():
            return self._submit_command(command)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return self._submit_command(command)
        finally:
            signal.signal(signal.SIGINT, before)


class LocalTasks:
    """The tasks of one stage; at most ``parallel`` run at a time."""

    def __init__(self, array: TaskArray) -> None:
        self._array = array
        self._waiting = list(range(array.count))
        self._places = list(range(array.resources.parallel or array.count))
        self._running: dict[int, tuple[int, LocalJob[None]]] = {}
        self._logs: dict[int, Path] = {}

    @property
    def job(self) -> None:
        """There is no number."""

    def states(self) -> list[TaskState]:
        """Start tasks while there is room; what is known about every task."""
        for index, (place, job) in list(self._running.items()):
            if job.done():
                del self._running[index]
                self._places.append(place)
        while self._waiting and self._places:
            index, place = self._waiting.pop(0), self._places.pop()
            job = self._start(index, place)
            self._running[index], self._logs[index] = (place, job), job.paths.stdout
        return [self._state(index) for index in range(self._array.count)]

    def log(self, index: int) -> Path:
        """The log of a task that was started."""
        return self._logs.get(index, self._array.folder)

    def stop(self) -> None:
        """Tell the running tasks to stop, and wait until they have."""
        for _, job in self._running.values():
            if job._process is not None:
                with suppress(ProcessLookupError):
                    job._process.send_signal(signal.SIGTERM)
        while any(not job.done() for _, job in self._running.values()):
            time.sleep(0.05)
        self._running.clear()  # submitit's objects must not outlive its modules

    def _start(self, index: int, place: int) -> LocalJob[None]:
        resources = self._array.resources
        executor = _Commands(self._array.folder)
        minutes = resources.minutes or _FOREVER
        gpus = range(place * resources.gpus, (place + 1) * resources.gpus)
        executor.update_parameters(
            timeout_min=minutes,
            signal_delay_s=resources.notice,
            stderr_to_stdout=True,
            gpus_per_node=resources.gpus,
            visible_gpus=list(gpus),
        )
        script = "\n".join([*resources.setup, f"exec {self._array.command(index)}"])
        return executor.start(shlex.join([sys.executable, "-m", "trak_cli.cluster.local_task", script]))

    def _state(self, index: int) -> TaskState:
        if index in self._running:
            return TaskState(index, "RUNNING")
        if index in self._waiting:
            return TaskState(index, "PENDING")
        end = ending(self._logs[index])
        return TaskState(index, "COMPLETED" if end is not None and end.code == 0 else "FAILED", ended=True)
