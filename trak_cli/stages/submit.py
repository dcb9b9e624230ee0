"""``trak submit``: the tasks of stages that share their work, as job arrays of Slurm or as processes on this machine.

The files of the store decide what is left to do and what is done. Slurm only tells whether a task may still write some.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.plurals import counted
from trak_cli.stages.submitting.following import Followed, follow
from trak_cli.stages.submitting.jobs import Request, StageWork, remaining
from trak_cli.stages.submitting.progress import inputs_of
from trak_cli.store.atomic_write import write_once
from trak_cli.types import Reporter

if TYPE_CHECKING:
    from trak_cli.cluster.slurm import SlurmTasks

#: Jobs of a stage that are looked up, the latest ones.
_LOOKED_UP = 20


@dataclass(frozen=True)
class Options:
    """What to do with the tasks.

    Attributes:
        dry_run: print the batch scripts, and submit nothing.
        wait: follow the tasks until the work is done.
        everything: submit stages whose files are all stored, too.
    """

    dry_run: bool = False
    wait: bool = False
    everything: bool = False


@dataclass(frozen=True)
class StageJob:
    """The tasks of one stage.

    Attributes:
        job: the number of the job; None on this machine, and in a dry run.
        missing: files that are not stored yet; None if the store does not tell.
        after: jobs that must succeed first.
        queued_before: whether an earlier `trak submit` has submitted the job, which has not ended.
        script: the text of the batch script, in a dry run only.
    """

    stage: str
    job: str | None
    tasks: int
    missing: int | None
    after: list[str] = field(default_factory=list)
    queued_before: bool = False
    script: str | None = None


@dataclass(frozen=True)
class SubmitSummary:
    """The result of one call.

    Attributes:
        complete: stages that have nothing left to do.
        follow: the command that follows the jobs; empty if there is nothing to follow.
        finished: whether all files of the stages are stored, as far as they were waited for.
    """

    store: Path
    logs: Path
    kind: str
    jobs: list[StageJob]
    complete: list[str]
    follow: str
    finished: bool


def submit(request: Request, options: Options, reporter: Reporter) -> SubmitSummary:
    """Submit what is missing, and follow it if asked to; on this machine, run it.

    Raises:
        ConfigError: submitit is not installed.
        MachineError: Slurm is not there, or refuses a job.
        StoreError: after waiting, no task is left and files are missing; or the store cannot be read.
    """
    needed("submitit", "slurm", "trak submit")
    kind = request.loaded.config.cluster.kind
    work = list(remaining(request, options.everything))
    if options.dry_run:
        jobs = _scripts(request, work, kind)
    elif kind == "local":
        jobs = _run_here(request, work, reporter)
    else:
        jobs, followed = _submit(request, work)
        if options.wait and followed:
            _announce(jobs, request, reporter)
            follow(followed, reporter)
    finished = not options.dry_run and (not jobs or kind == "local" or options.wait)
    complete = [stage for stage in request.stages if stage not in {one.stage for one in work}]
    command = "" if finished or options.dry_run else _follow_command(request)
    logs = request.layout.logs("").absolute()
    return SubmitSummary(request.layout.root, logs, kind, jobs, complete, command, finished)


def _follow_command(request: Request) -> str:
    cluster = [] if request.loaded.config.cluster.kind == "slurm" else ["cluster=local"]
    return shlex.join(["trak", "submit", *request.stages, *request.arguments, *cluster, "--wait"])


def _announce(jobs: Sequence[StageJob], request: Request, reporter: Reporter) -> None:
    for one in jobs:
        reporter.log(f"{one.stage}: job {one.job}, {counted(one.tasks, 'task')}, logs in {request.layout.logs(one.stage)}")


def _scripts(request: Request, work: Sequence[StageWork], kind: str) -> list[StageJob]:
    from trak_cli.cluster.slurm import batch_script

    jobs: list[StageJob] = []
    for one in work:
        inputs = inputs_of(one.stage, request.stages[one.stage].config)
        after = [f"JOB_OF_{earlier.stage.upper()}" for earlier in jobs if earlier.stage in inputs]
        commands = [one.tasks.command(index) for index in range(one.tasks.count)]
        script = (
            batch_script(one.tasks, after) if kind == "slurm" else "\n".join([*one.tasks.resources.setup_script(), *commands])
        )
        jobs.append(StageJob(one.stage, None, one.tasks.count, _missing(one), after, script=script))
    return jobs


def _run_here(request: Request, work: Sequence[StageWork], reporter: Reporter) -> list[StageJob]:
    """Run the tasks of each stage, one stage after the other."""
    from trak_cli.cluster.local import LocalTasks

    for one in work:
        reporter.log(
            f"{one.stage}: {counted(one.tasks.count, 'task')} on this machine, logs in {request.layout.logs(one.stage)}"
        )
        tasks = LocalTasks(one.tasks)
        try:
            follow([Followed(one.stage, request.stages[one.stage], tasks)], reporter)
            tasks.finish()
        finally:
            tasks.stop()
    return [StageJob(one.stage, None, one.tasks.count, _missing(one)) for one in work]


def _submit(request: Request, work: Sequence[StageWork]) -> tuple[list[StageJob], list[Followed]]:
    """Submit the stages that no job in the queue works on, chained to those before."""
    from trak_cli.cluster.slurm import SlurmTasks, batch_script
    from trak_cli.cluster.slurm import submit as send

    if "%" in str(request.layout.root.absolute()):
        found = f"{request.layout.root.absolute()}, with a %"
        raise ConfigError(Problem("store", found, "a folder whose name Slurm takes as it is", "choose another store folder"))
    jobs: list[StageJob] = []
    followed: list[Followed] = []
    for one in work:
        tasks = _queued(request, one)
        inputs = inputs_of(one.stage, request.stages[one.stage].config)
        after = [earlier.job for earlier in jobs if earlier.stage in inputs and earlier.job is not None]
        queued = tasks is not None
        if tasks is None:
            one.tasks.folder.mkdir(parents=True, exist_ok=True)
            script = batch_script(one.tasks, after)
            tasks = SlurmTasks(one.tasks, send(script))
            write_once(one.tasks.folder / f"{tasks.job}.sbatch", script.encode())
        jobs.append(StageJob(one.stage, tasks.job, tasks.count, _missing(one), [] if queued else after, queued))
        followed.append(Followed(one.stage, request.stages[one.stage], tasks))
    return jobs, followed


def _queued(request: Request, one: StageWork) -> SlurmTasks | None:
    """The tasks of this stage that an earlier call has submitted, if some have not ended."""
    from trak_cli.cluster.slurm import SlurmTasks, task_states

    jobs = [str(job) for job in request.layout.submitted(one.stage)[-_LOOKED_UP:]]
    for job, states in sorted((task_states(jobs, one.tasks.name) or {}).items(), key=lambda item: -int(item[0])):
        if any(not state.ended for state in states):
            return SlurmTasks(replace(one.tasks, count=len(states)), job)
    return None


def _missing(one: StageWork) -> int | None:
    return None if one.progress.total is None else len(one.progress.missing)
