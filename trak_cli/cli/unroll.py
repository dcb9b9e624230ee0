"""``trak unroll``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.unrolling.summary import UnrollSummary

NAME = "unroll"
HELP = """Score training samples for one run of `trak train`, exactly: the derivative of f with respect to their weights.

The run is trained once more and differentiated through all its steps, for chosen targets or the mean over a group. The scores
are stored like those of `trak score`. Some trainings without random samples show whether they can be trusted.
An interrupted run resumes, and workers share it, as with featurize."""
EXAMPLES = """Examples:

  trak unroll experiment=digits 'unroll.targets=[0, 7]'

  trak unroll experiment=digits unroll.group=true                  (the mean of f over the split)

  trak unroll experiment=digits unroll.run=1 unroll.name=unroll_1  (the run that trak train trained with seed + 1)

  trak top experiment=digits estimator.name=unroll --target 7"""


def show(summary: UnrollSummary, console: Console) -> None:
    """Print what was computed, what it cost, and whether the scores can be trusted."""
    effort, blocks = summary.effort, summary.blocks
    rows = table("unrolled", "")
    rows.add_row("run", f"seed {summary.seed}, {counted(summary.rows, 'training sample')}")
    rows.add_row("targets", _targets(summary))
    counts = f"{blocks.written} written, {blocks.already_there} already there, {blocks.left_to_others} left to other workers"
    rows.add_row("blocks of targets", counts)
    if effort.steps:
        rows.add_row("training", f"{effort.steps:,} steps in {effort.training_seconds:.1f} s")
    if effort.sweeps:
        each = f"{effort.sweeps} in {effort.sweep_seconds:.1f} s"
        times = f", for each target {effort.ratio:.1f} times the training" if effort.training_seconds else ""
        rows.add_row("backward sweeps", f"{each}{times}")
    if effort.removals:
        rows.add_row("trainings without samples", str(effort.removals))
    rows.add_row("peak memory", f"{effort.peak_mb:,.0f} MiB")
    show_table(console, rows)
    if summary.checkpoint:
        console.print(summary.checkpoint, soft_wrap=True)
    if summary.metasmoothness is not None:
        console.print(f"metasmoothness {summary.metasmoothness:.2f} (1: the weights follow their derivative; 0: they do not)")
    if summary.smoothness is not None and summary.smoothness.trusted:
        console.print(summary.smoothness.verdict, soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    path = str(summary.path) if summary.complete else "incomplete: some blocks are left to other workers"
    console.print(path, soft_wrap=True)


def _targets(summary: UnrollSummary) -> str:
    if summary.targets is None:
        return f"every row of {summary.split}"
    if summary.group:
        return f"the mean over {counted(len(summary.targets), 'row')} of {summary.split}"
    return f"{counted(len(summary.targets), 'row')} of {summary.split}"


command = stage_command(NAME, show)
