"""``trak report``"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.results.report import ReportSummary

NAME = "report"
HELP = """Write one HTML page of targets beside the training samples that raised or lowered the model output the most.

The page is a single file that loads nothing: send it, or open it without a network. It shows what the data set's describe(i)
returns: images, texts, numbers, series; without it, labels and row numbers."""
EXAMPLES = """Examples:

  trak report experiment=digits --split test --out report.html

  trak report experiment=digits --target 0 --target 7 -k 10

  trak report experiment=digits --targets 500 --max-mb 50 --json"""


def command(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file; an existing one is replaced.")] = Path("report.html"),
    split: Annotated[
        list[str] | None, typer.Option("--split", "-s", help="Target split (default: the configured one); may be repeated.")
    ] = None,
    target: Annotated[
        list[int] | None,
        typer.Option("--target", "-t", help="Row of a target (default: evenly spaced rows); may be repeated."),
    ] = None,
    targets: Annotated[int, typer.Option("--targets", min=1, help="How many targets of each split, if none is named.")] = 100,
    k: Annotated[int, typer.Option("-k", min=1, help="How many helpful and how many harmful samples of each target.")] = 5,
    suspects: Annotated[
        int, typer.Option("--suspects", min=0, help="How many suspicious training samples to list; 0: none, which is faster.")
    ] = 30,
    max_mb: Annotated[
        float, typer.Option("--max-mb", help="Size of the file at most; targets that do not fit are left out.")
    ] = 20,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def imported() -> Stage[ReportSummary]:
        from trak_cli.results.report import ReportOptions, report

        options = ReportOptions(out, tuple(split or ()), tuple(target or ()), targets, k, suspects, max_mb)
        return partial(report, options=options)

    run(NAME, Call(overrides, config_name, config_dir, as_json), imported, show)


def show(summary: ReportSummary, console: Console) -> None:
    console.print(f"{summary.path}: {summary.bytes / 1e6:.1f} MB, {counted(summary.samples, 'sample')}", soft_wrap=True)
    for one in summary.targets:
        if not one.rows:
            console.print(f"{one.split}: the mean over a group of targets", soft_wrap=True)
            continue
        console.print(f"{one.split}: {one.shown:,} of {counted(one.available, 'target')}", soft_wrap=True)
        if one.did_not_fit:
            console.print(f"{one.split}: {len(one.did_not_fit):,} more do not fit into --max-mb", soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
