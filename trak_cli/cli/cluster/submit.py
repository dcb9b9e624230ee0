"""``trak submit``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trak_cli.cli.run import AsJson, ConfigDir, ConfigName, Results, guarded, print_result, table
from trak_cli.cli.terminal.completion import complete_override
from trak_cli.cli.terminal.progress import make_reporter
from trak_cli.errors import ConfigError, Problem
from trak_cli.interrupts import raise_on_interrupt
from trak_cli.plurals import counted
from trak_cli.stop_signals import raised_stop_signals

if TYPE_CHECKING:
    from trak_cli.stages.submit import SubmitSummary
    from trak_cli.stages.submitting.jobs import Request

NAME = "submit"
HELP = """Run stages on a cluster: a Slurm job array for each, which starts when the one before has succeeded.

Stages are featurize, finalize and score unless others are named: refine, retrain, unroll. Each task runs trak STAGE with the
same overrides and its share of the work. Only what is missing is submitted, so the same command continues after any failure.
The section cluster of the configuration chooses partition, GPUs, time limit and so on; cluster=local uses this machine."""
EXAMPLES = """Examples:

  trak submit -d my_project cluster.tasks=64 cluster.gpus=1 cluster.minutes=120 cluster.partition=gpu

  trak submit -d my_project --dry-run   (prints the batch scripts)

  trak submit retrain -d my_project cluster.tasks=100 cluster.parallel=20

  trak submit experiment=digits cluster=local cluster.tasks=2

  trak submit -d my_project --wait      (follows the jobs, and submits what is missing)"""

DEFAULT_STAGES = ("featurize", "finalize", "score")


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE|KEY=VALUE",
            help="Stages, in any order, and overrides.",
            show_default=False,
            autocompletion=complete_override,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the batch scripts; submit nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the jobs until all work is stored.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Submit finished stages too, for example after the training set has grown.")
    ] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    reporter = make_reporter()
    with guarded(reporter):
        stages = [text for text in arguments or [] if "=" not in text and not text.startswith(("~", "-"))]
        overrides = [text for text in arguments or [] if text not in stages]
        request = _request(stages, overrides, config_name, config_dir)
        from trak_cli.stages.submit import Options, submit

        raise_on_interrupt()
        with raised_stop_signals():
            summary = submit(request, Options(dry_run, wait, everything), reporter)
    print_result(summary, as_json, show)


def _request(stages: list[str], overrides: list[str], config_name: str | None, config_dir: ConfigDir) -> Request:
    """The stages with their checked configurations. All problems of all stages are reported together."""
    from trak_cli.config.load import load
    from trak_cli.config.validate.cluster import SHARED
    from trak_cli.config.wording import nearest, one_of
    from trak_cli.stages.submitting.jobs import Request, task_arguments

    problems = []
    for stage in stages:
        if stage not in SHARED:
            meant = nearest(stage, SHARED)
            remedy = f"did you mean {meant}?" if meant else "name stages, and KEY=VALUE for overrides"
            problems.append(Problem(stage, "no stage that is shared", one_of(SHARED), remedy))
    loaded, arguments = {}, []
    known = [stage for stage in stages if stage in SHARED] or DEFAULT_STAGES
    for stage in SHARED:
        if stage in known:
            try:
                loaded[stage] = load(stage, config_name, config_dir, overrides)
            except ConfigError as error:
                problems += error.problems
    try:
        arguments = task_arguments(config_dir, config_name, overrides)
    except ConfigError as error:
        problems += error.problems
    ConfigError.raise_for(problems)
    return Request(loaded, arguments)


def show(summary: SubmitSummary, console: Results) -> None:
    """Print the scripts of a dry run; else the jobs, their logs, and the command that follows them."""
    scripts = [job for job in summary.jobs if job.script is not None]
    for job in scripts:
        console.print(f"# trak {job.stage}: {counted(job.tasks, 'task')}\n{job.script}", soft_wrap=True)
    if scripts:
        return
    if not summary.jobs:
        console.print(f"nothing to do: {', '.join(summary.complete)} complete in {summary.store}", soft_wrap=True)
        return
    rows = table("stage", "job", "#tasks", "#files to write", "after")
    for job in summary.jobs:
        number = (job.job or "this machine") + (" (in the queue)" if job.queued_before else "")
        missing = "unknown" if job.missing is None else str(job.missing)
        rows.add_row(job.stage, number, str(job.tasks), missing, ", ".join(job.after))
    console.print(rows)
    if summary.complete:
        console.print(f"complete already: {', '.join(summary.complete)}", soft_wrap=True)
    console.print(f"logs: {summary.logs}", soft_wrap=True)
    if summary.finished:
        console.print(f"finished: everything is stored in {summary.store}", soft_wrap=True)
    else:
        console.print(f"to follow: {summary.follow}", soft_wrap=True)
