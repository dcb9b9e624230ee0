"""The tasks of one stage, as the executors start them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: The last line of a task's log.
EXIT_LINE = "trak submit: exit code"

#: Bytes at the end of a log that are read for it.
_TAIL = 8192

#: Exit codes of a task that was told to stop: of `trak` itself, and of a process that the signal ended before `trak` had
#: begun (128 + SIGUSR2, 128 + SIGTERM).
STOPPED_CODES = (75, 140, 143)


#: Bash: what happens if a command of ``setup`` fails.
_ON_ERROR = (
    """trap 'code=$?; echo "trak submit: cluster.setup failed: $BASH_COMMAND"; """
    """echo "trak submit: exit code $code"; exit "$code"' ERR"""
)


@dataclass(frozen=True)
class Resources:
    """What each task gets; None leaves the choice to the scheduler."""

    parallel: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory_gb: float | None = None
    minutes: int | None = None
    notice: int = 120
    requeues: int = 10
    setup: Sequence[str] = ()
    sbatch: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)

    def setup_script(self) -> list[str]:
        """The lines of ``setup``; the task ends at the first one that fails, and its log names the command."""
        # A bare true or false of YAML is a boolean there, whose text is capitalised.
        lines = [line.lower() if line in ("True", "False") else line for line in self.setup]
        return [_ON_ERROR, *lines, "trap - ERR"] if lines else []


@dataclass(frozen=True)
class TaskArray:
    """The tasks of one stage. Each runs the same command, with its own number.

    Attributes:
        name: of the job.
        arguments: those of ``trak``, without the number of the task.
        count: number of tasks.
        folder: of the logs.
    """

    name: str
    arguments: Sequence[str]
    count: int
    folder: Path
    resources: Resources

    def command(self, index: int | None) -> str:
        """The command of a task in the syntax of bash; None: of the task that Slurm numbers."""
        words = shlex.join([sys.executable, "-m", "trak_cli", *self.arguments])
        return f"{words} worker.index={'$SLURM_ARRAY_TASK_ID' if index is None else index} worker.count={self.count}"


@dataclass(frozen=True)
class TaskState:
    """What is known about a task.

    Attributes:
        state: in the words of Slurm: PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, …
        reason: why it waits, or where it runs.
        ended: whether it will not run any more.
    """

    index: int
    state: str
    reason: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Ending:
    """How a task ended, by its log.

    Attributes:
        code: its exit code.
        error: the headline of the error that it printed last; may be empty.
    """

    code: int
    error: str

    @property
    def ended(self) -> bool:
        """Whether it is not queued again."""
        return self.code not in STOPPED_CODES

    def __str__(self) -> str:
        return f"exit code {self.code}" + (f" ({self.error})" if self.error and self.code else "")


def ending(log: Path) -> Ending | None:
    """The end of a task by the last lines of its log; None if it is running, was killed, or has no log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    code = lines[-1].removeprefix(EXIT_LINE).strip() if lines and lines[-1].startswith(EXIT_LINE) else ""
    errors = [line.removeprefix("trak: ") for line in lines if line.startswith("trak: ")]
    return Ending(int(code), errors[-1] if errors else "") if code.isdecimal() else None
