"""``trak top``"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, imported, run, table

if TYPE_CHECKING:
    from trak_cli.results.neighbours import TargetTop
    from trak_cli.results.top import TopSummary

NAME = "top"
HELP = """Show the training samples that raised or lowered the model output on a target the most."""
EXAMPLES = """Examples:

  trak top experiment=digits --target 0 --target 7 -k 5

  trak top experiment=digits --split mine --json | jq '.targets[0].helpful[].row'

  trak top store=runs/digits estimator=cosine --target 3

  trak top store=runs/digits estimator.name=unroll"""


def command(
    overrides: Overrides = None,
    target: Annotated[
        list[int] | None,
        typer.Option("--target", "-t", help="Row of the target in its split (default: the first); may be repeated."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", "-s", help="Target split (default: the configured one).")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many helpful and how many harmful samples to show.")] = 5,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    stage = partial(imported, NAME, "results", split=split, targets=tuple(target or ()), k=k)
    run(NAME, Call(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: TopSummary, console: Console) -> None:
    for target in summary.targets:
        about = f" ({target.description})" if target.description else ""
        shown = f"target {target.row}" if summary.group is None else f"the mean over {len(summary.group)} targets"
        console.print(f"{shown} of {summary.split}{about}, estimator {summary.estimator}", soft_wrap=True)
        show_neighbours(target, console)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)


def show_neighbours(target: TargetTop, console: Console) -> None:
    """Print the training rows of one target as a table."""
    rows = table("", "#row", "#score", "description")
    for sign, neighbours in (("+", target.helpful), ("−", target.harmful)):
        for one in neighbours:
            rows.add_row(sign, str(one.row), f"{one.score:+.4g}", one.description)
    console.print(rows)
