"""``trak import``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, run
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.results.exchange.import_scores import ImportSummary
    from trak_cli.types import Reporter

NAME = "import"
HELP = """Store scores of another program under an estimator name, so that `trak top`, `trak eval-lds`, `trak evaluate` and
`trak export` work on them; or its ground truth, with --ground-truth, as a file for `lds.ground_truth`.

Formats: CSV, Parquet, NumPy, Zarr, bergson, dattri, quanda, DATE-LM, and the save directory of MadryLab/trak (traker).
The store may be a new folder. docs/exchange.md has the orientation and the sign of each format."""
EXAMPLES = """Examples:

  trak import experiment=digits --file _trak --experiment quickstart --name theirs

  trak import store=runs/bergson --split questions --file runs/scores --name bergson

  trak import experiment=digits --file scores.pt --name dattri

  trak import experiment=digits --file loo.pt --ground-truth --negate --name loo"""


def command(
    overrides: Overrides = None,
    *,
    file: Annotated[Path, typer.Option("--file", help="File or folder of the other program.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Estimator name that the scores are stored under.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="csv, parquet, npz, zarr, bergson, dattri, quanda, date-lm or traker (default: as --file tells).",
        ),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Which scores of a save directory of MadryLab/trak (default: the only).")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", "-s", help="Split that the targets are in (default: the only one).")
    ] = None,
    ground_truth: Annotated[
        bool, typer.Option("--ground-truth", help="Import a ground truth of dattri or MadryLab/trak instead of scores.")
    ] = False,
    negate: Annotated[
        bool, typer.Option("--negate", help="Turn the sign, where a positive one means harmful (or a loss).")
    ] = False,
    group: Annotated[
        bool, typer.Option("--group", help="One row of scores is of the mean over all targets of the split.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is stored under this name.")] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def stage(loaded: Loaded, reporter: Reporter) -> ImportSummary:
        from trak_cli.results.exchange.import_scores import Import, import_scores

        of = Import(file, name, format, experiment, split, ground_truth, negate, group, overwrite)
        return import_scores(loaded, reporter, of=of)

    run(NAME, Call(overrides, config_name, config_dir, as_json), lambda: stage, show)


def show(summary: ImportSummary, console: Console) -> None:
    about = f"{counted(summary.targets, 'target')} of {summary.split} × {summary.rows:,} training rows"
    if summary.models is None:
        console.print(f"scores {summary.name} ({summary.format}): {about}", soft_wrap=True)
        console.print(str(summary.path), soft_wrap=True)
        console.print(f"use them with estimator.name={summary.name}, or lds.estimators=[{summary.name}]", soft_wrap=True)
    else:
        console.print(
            f"ground truth {summary.name} ({summary.format}): {counted(summary.models, 'model')}, {about}", soft_wrap=True
        )
        console.print(f"use it with lds.ground_truth={summary.path}", soft_wrap=True)
    for note in summary.notes:
        console.print(f"note: {note}", soft_wrap=True)
