"""Job arrays of Slurm. submitit writes the batch script; nothing is pickled, because a task is a command.

Slurm's word about a task is a hint. Whether work is done is decided by the files of the store.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from trak_cli.cluster.tasks import EXIT_LINE, STOPPED_CODES, TaskArray, TaskState, ending
from trak_cli.errors import MachineError, Problem

#: States of a job that will not run any more.
_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)

#: Seconds between two questions about a job, at least: Slurm asks users not to call squeue in a loop.
INTERVAL = 5.0

#: Seconds that a command of Slurm may take.
_PATIENCE = 60


class _Scripts(SlurmExecutor):
    """Writes batch scripts, also on a machine without Slurm."""

    @classmethod
    def affinity(cls) -> int:
        return 1

    def script(self, command: str) -> str:
        """The batch script that runs a command."""
        return self._make_submission_file_text(command, "")


def batch_script(array: TaskArray, after: Sequence[str] = ()) -> str:
    """The text of the batch script of a stage.

    Args:
        after: jobs that must succeed first.
    """
    resources = array.resources
    further: dict[str, Any] = {option: value for option, value in resources.sbatch.items() if value not in (None, False)}
    further |= {"requeue": True}
    if after:
        further |= {"dependency": "afterok:" + ":".join(after), "kill-on-invalid-dep": "yes"}
    executor = _Scripts(array.folder)
    executor.update_parameters(
        job_name=array.name,
        time=resources.minutes,
        partition=resources.partition,
        account=resources.account,
        qos=resources.qos,
        gpus_per_node=resources.gpus or None,
        cpus_per_task=resources.cpus,
        mem=None if resources.memory_gb is None else f"{round(resources.memory_gb * 1024)}M",
        signal_delay_s=resources.notice,
        wckey=None,
        setup=resources.setup_script() or None,
        srun_args=["--open-mode=append", *([f"--cpus-per-task={resources.cpus}"] if resources.cpus else [])],
        stderr_to_stdout=True,
        array_parallelism=resources.parallel or array.count,
        additional_parameters=further,
        teardown=_teardown(resources.requeues),
    )
    executor.parameters["map_count"] = array.count
    return executor.script(array.command(None))


def _teardown(requeues: int) -> list[str]:
    """The end of a batch script: a task that was told to stop is queued again."""
    codes = "|".join(map(str, STOPPED_CODES))
    return [
        "code=$?",
        f'echo "{EXIT_LINE} $code"',
        f"case $code in {codes})",
        f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then scontrol requeue "$SLURM_JOB_ID" && exit 0; fi ;;',
        "esac",
        'exit "$code"',
        "",
    ]


def _reason(text: str) -> str:
    """What squeue tells about a task; Slurm writes None until it has looked at the task."""
    reason = text.strip("()")
    return "" if reason == "None" else reason


def submit(script: str) -> str:
    """Submit a batch script; returns the number of the job.

    Raises:
        MachineError: there is no Slurm here, or it refuses the job.
    """
    done = _run(["sbatch", "--parsable"], script)
    if done is None:
        remedy = "run it where sbatch works; --dry-run prints the scripts anywhere, and cluster=local needs no Slurm"
        raise MachineError(Problem("sbatch", "no answer: not installed, or it took too long", "Slurm on this machine", remedy))
    job = done.stdout.strip().partition(";")[0]
    if done.returncode or not job.isdecimal():
        lines = [line.removeprefix("sbatch: ").strip() for line in (done.stderr or done.stdout).splitlines()]
        found = "; ".join(line.removeprefix("error: ") for line in lines if line) or f"exit code {done.returncode}"
        remedy = "correct the keys of cluster (--dry-run prints the script), and submit again; sinfo lists partitions and nodes"
        raise MachineError(Problem("sbatch", found, "a job that Slurm accepts", remedy))
    return job


def task_states(jobs: Collection[str], name: str | None = None) -> dict[str, list[TaskState]] | None:
    """What Slurm says about the tasks of these jobs. A job that it has forgotten is left out.

    Args:
        jobs: numbers of arrays.
        name: leave out jobs that have another name: Slurm may give a number again.

    Returns:
        None if Slurm does not answer.
    """
    if not jobs:
        return {}
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%F|%K|%T|%R|%j", f"--jobs={','.join(sorted(jobs))}"]
    done = _run(command)
    if done is None or (done.returncode and "Invalid job id" not in done.stderr):
        return None
    states: dict[str, list[TaskState]] = {}
    for line in done.stdout.splitlines():
        job, index, state, reason, called = (line.split("|", 4) + [""] * 4)[:5]
        if job in jobs and index.isdecimal() and name in (None, called):
            states.setdefault(job, []).append(TaskState(int(index), state, _reason(reason), state in _ENDED))
    return states


class SlurmTasks:
    """The tasks of a submitted array."""

    def __init__(self, array: TaskArray, job: str) -> None:
        self.job = job
        self._array = array
        self._known: list[TaskState] | None = None
        self._asked = float("-inf")

    @property
    def count(self) -> int:
        """Number of tasks."""
        return self._array.count

    def states(self) -> list[TaskState] | None:
        """What Slurm says about each task, asked every few seconds; what the logs say if Slurm has forgotten the job.

        None if neither says anything.
        """
        if time.monotonic() - self._asked >= INTERVAL:
            answer = task_states([self.job], self._array.name)
            self._known = self._by_logs(answer is not None) if not answer else answer.get(self.job, [])
            self._asked = time.monotonic()
        return self._known

    def log(self, index: int) -> Path:
        """The log of a task."""
        return self._array.folder / f"{self.job}_{index}_0_log.out"

    def _by_logs(self, forgotten: bool) -> list[TaskState] | None:
        ends = {index: ending(self.log(index)) for index in range(self._array.count)}
        if not forgotten and any(end is None or not end.ended for end in ends.values()):
            return None
        words = {index: "COMPLETED" if end is not None and end.code == 0 else "ENDED" for index, end in ends.items()}
        return [TaskState(index, word, ended=True) for index, word in words.items()]


def _run(command: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
