"""``trak status``"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, imported, run, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.status import StatusSummary

#: Number of damaged files of one kind that are named; the others are only counted.
SHOWN = 5

NAME = "status"
HELP = """Show what a store holds: finished, missing and damaged shards of each checkpoint and split, Gram matrices and
scores, by the names and sizes of the files. With --verify every file is read and its digest checked."""
EXAMPLES = """Examples:

  trak status experiment=digits

  trak status store=runs/digits --verify --json"""


def command(
    overrides: Overrides = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and check its digest and fingerprint.")] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    run(NAME, Call(overrides, config_name, config_dir, as_json), partial(imported, NAME, verify=verify), show)


def show(summary: StatusSummary, console: Console) -> None:
    if not summary.features:
        console.print(f"{summary.store}: no features yet; run trak featurize first")
    else:
        show_table(console, _features(summary))
    for gram in summary.grams:
        console.print(
            f"Gram {gram.key}: {counted(len(gram.checkpoints), 'checkpoint')}{_damaged(gram.damaged)}", soft_wrap=True
        )
    if copies := summary.compressed.checkpoints:
        about = f"{counted(summary.compressed.parts, 'part')} under {counted(len(copies), 'checkpoint')}"
        about += "" if summary.compressed.measured else ", unfinished or of fewer rows: run trak compress"
        console.print(f"compressed features: {about}{_damaged(summary.compressed.damaged)}", soft_wrap=True)
    for scores in summary.scores:
        state = "complete" if scores.complete else "incomplete"
        if scores.targets is not None:
            state += f", of {_targets(scores.targets, scores.group)}"
        console.print(f"scores {scores.estimator}/{scores.split}: {state}{_damaged(scores.damaged)}", soft_wrap=True)


def _features(summary: StatusSummary) -> Table:
    foreign = ["#other run's"] if summary.verified else []
    rows = table("checkpoint", "split", "#rows", "#shards", "#done", "#missing", "#damaged", *foreign)
    for part in summary.features:
        counts = [part.shards, part.done, part.missing, part.damaged, *([part.foreign] if summary.verified else [])]
        rows.add_row(part.checkpoint, part.split, f"{part.rows:,}", *map(str, counts))
    return rows


def _targets(rows: Sequence[int], group: bool) -> str:
    shown = ", ".join(map(str, rows[:SHOWN])) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
    return (
        f"the mean over {counted(len(rows), 'target')}: rows {shown}"
        if group
        else f"{counted(len(rows), 'target')}: rows {shown}"
    )


def _damaged(files: Sequence[str]) -> str:
    from trak_cli.types import listed  # imports NumPy, which `trak --help` does not need

    return f"; damaged: {listed(files, SHOWN)}" if files else ""
