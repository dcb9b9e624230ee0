"""``trak select``"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run, table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.results.select import SelectSummary


NAME = "select"
HELP = """Choose the training samples that help a group of targets most, by their stored scores.

A sample has one score for the group: the mean, the sum or the maximum of its scores on the targets. With several splits, the
best one counts, as that of a subtask in LESS (arXiv 2402.04333)."""
EXAMPLES = """Examples:

  trak select experiment=digits --share 0.05 --out chosen.jsonl

  trak select experiment=digits -k 100 --target 3 --target 8 --out chosen.txt

  trak select -d my_project --split arithmetic --split history --balance --out chosen_dataset

  trak select experiment=digits -k 50 --bottom"""


def command(
    overrides: Overrides = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", "-s", help="Target split (default: the only one); may be repeated.")
    ] = None,
    target: Annotated[
        list[int] | None, typer.Option("--target", "-t", help="Row of a target (default: all of the split); may be repeated.")
    ] = None,
    group: Annotated[
        str, typer.Option("--group", help="Score of a sample for the targets of a split: mean, sum or max.")
    ] = "mean",
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many samples to choose (default: by --share).")] = None,
    share: Annotated[float, typer.Option("--share", help="Share of the training set to choose.")] = 0.05,
    bottom: Annotated[
        bool, typer.Option("--bottom", help="The most harmful samples instead of the most helpful ones.")
    ] = False,
    balance: Annotated[bool, typer.Option("--balance", help="As equal numbers of every label as possible.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write row numbers (.txt), records (.jsonl) or a folder of the package datasets (no suffix)."
        ),
    ] = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def stage() -> Stage[SelectSummary]:
        from trak_cli.results.select import Choice, select

        choice = Choice(tuple(split or ()), tuple(target or ()), group, k, share, bottom, balance)
        return partial(select, choice=choice, out=out)

    run(NAME, Call(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: SelectSummary, console: Console) -> None:
    targets = " and ".join(f"{count} target{'s' * (count > 1)} of {split}" for split, count in summary.targets.items())
    kind, count = ("harmful" if summary.bottom else "helpful"), len(summary.rows)
    console.print(
        f"the {count} of {counted(summary.training, 'training sample')} that are"
        f" most {kind} for {targets} by the {summary.group} of their"
        f" scores, estimator {summary.estimator}",
        soft_wrap=True,
    )
    rows = table("#row", "#score", "description")
    for one in summary.shown:
        rows.add_row(str(one.row), f"{one.score:+.4g}", one.description)
    console.print(rows)
    if count > len(summary.shown):
        console.print(
            f"and {count - len(summary.shown)} more" + ("" if summary.out else "; --out FILE or --json gives all of them")
        )
    everyone = "" if summary.mean_of_all is None else f", of all training samples {summary.mean_of_all:+.4g}"
    console.print(f"mean score of the chosen samples: {summary.mean_score:+.4g}{everyone}", soft_wrap=True)
    overlap = f"{summary.expected_overlap:.3g} of them"
    console.print(f"a random choice of {counted(count, 'sample')} would have {overlap} on average", soft_wrap=True)
    if summary.out is not None:
        console.print(f"written: {summary.out}", soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
