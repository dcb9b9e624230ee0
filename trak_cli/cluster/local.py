"""Tasks as processes on this machine, through submitit's local executor."""

from __future__ import annotations

import os
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
from trak_cli.errors import MachineError, Problem

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
        """Tasks that are not started yet.

        Raises:
            MachineError: there are not enough GPUs for one task.
        """
        self._array = array
        self._waiting = list(range(array.count))
        self._gpus = _require_gpus(array.resources.gpus)
        places = array.resources.parallel or array.count
        if array.resources.gpus:
            places = min(places, len(self._gpus) // array.resources.gpus)
        self._places = list(range(places))
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

    def finish(self) -> None:
        """Start no further task, and wait for those that run."""
        self._waiting.clear()
        self._wait()

    def stop(self) -> None:
        """Tell the running tasks to stop, and wait until they have."""
        for _, job in self._running.values():
            if job._process is not None:
                with suppress(ProcessLookupError):
                    job._process.send_signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        while any(not job.done() for _, job in self._running.values()):
            time.sleep(0.05)
        self._running.clear()  # submitit's objects must not outlive its modules

    def _start(self, index: int, place: int) -> LocalJob[None]:
        resources = self._array.resources
        executor = _Commands(self._array.folder)
        minutes = resources.minutes or _FOREVER
        executor.update_parameters(
            timeout_min=minutes,
            signal_delay_s=resources.notice,
            stderr_to_stdout=True,
            gpus_per_node=resources.gpus,
            visible_gpus=self._gpus[place * resources.gpus : (place + 1) * resources.gpus],
        )
        script = "\n".join([*resources.setup_script(), f"exec {self._array.command(index)}"])
        return executor.start(shlex.join([sys.executable, "-m", "trak_cli.cluster.local_task", script]))

    def _state(self, index: int) -> TaskState:
        if index in self._running:
            return TaskState(index, "RUNNING")
        if index in self._waiting:
            return TaskState(index, "PENDING")
        end = ending(self._logs[index])
        return TaskState(index, "COMPLETED" if end is not None and end.code == 0 else "FAILED", ended=True)


def _require_gpus(wanted: int) -> list[int]:
    """The numbers of the GPUs that tasks may use, at least ``wanted``; none if none is wanted."""
    if not wanted:
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        found = [int(number) for number in named.split(",") if number.strip().isdecimal()]
    else:
        folder = Path("/proc/driver/nvidia/gpus")
        found = list(range(len(list(folder.iterdir())))) if folder.is_dir() else []
    if len(found) < wanted:
        expected = f"at most {len(found)}, the GPUs of this machine (CUDA_VISIBLE_DEVICES)"
        raise MachineError(Problem("cluster.gpus", str(wanted), expected, f"give cluster.gpus={len(found)}"))
    return found
