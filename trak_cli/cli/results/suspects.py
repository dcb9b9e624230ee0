"""``trak suspects``"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, imported, run, table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.results.suspects import SuspectsSummary

NAME = "suspects"
HELP = """List training samples that are likely to be mislabelled or harmful. Nothing is deleted.

The order is that of the residual of a sample when it is left out (left_out), which finds wrong labels that the model has
memorised, too."""
EXAMPLES = """Examples:

  trak suspects experiment=digits

  trak suspects experiment=digits -k 100 --out suspects.csv

  trak suspects experiment=digits --by loss --json | jq '.suspects[].row'"""

_SHORT = {"left_out": "left out", "self_influence": "self-influence", "harm_count": "harms"}


def command(
    overrides: Overrides = None,
    split: Annotated[
        str | None,
        typer.Option("--split", "-s", help="Held-out split whose scores give the harm (default: the only one)."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="left_out, loss, margin, self_influence, harm or harm_count (default: the first there is)."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many samples to list.")] = 20,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=0, help="Related training samples that propose a label; 0: no proposals.")
    ] = 20,
    out: Annotated[Path | None, typer.Option("--out", help="Write the list to this .csv or .parquet file too.")] = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    stage = partial(imported, NAME, "results", split=split, by=by, k=k, neighbours=neighbours, out=out)
    run(NAME, Call(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: SuspectsSummary, console: Console) -> None:
    rows = _table(summary, summary.criteria)
    width = Measurement.get(console, console.options.update(max_width=10_000), rows).maximum
    narrow = width > console.width and len(summary.criteria) > 1
    if narrow:
        rows = _table(summary, [summary.by])
    console.print(
        f"{len(summary.suspects)} of {counted(summary.rows, 'training sample')}, the most suspicious by {summary.by}, estimator"
        f" {summary.estimator}" + (f", harm on {summary.split}" if summary.split else ""),
        soft_wrap=True,
    )
    console.print(rows)
    if narrow:
        console.print("the other criteria do not fit into this terminal: give --out FILE.csv or --json", soft_wrap=True)
    for note in summary.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if summary.out is not None:
        console.print(f"written: {summary.out}", soft_wrap=True)


def _table(summary: SuspectsSummary, criteria: Sequence[str]) -> Table:
    known = ["predicted"] if any(one.predicted is not None for one in summary.suspects) else []
    rows = table("#row", "label", *known, "proposed", *(f"#{_SHORT.get(name, name)}" for name in criteria), "description")
    for one in summary.suspects:
        values = [f"{one.values[name]:.0f}" if name == "harm_count" else f"{one.values[name]:.3g}" for name in criteria]
        predicted = ["" if one.predicted is None else one.predicted.short()] if known else []
        rows.add_row(str(one.row), _shown(one.label), *predicted, _shown(one.proposed), *values, one.description)
    return rows


def _shown(label: str | int | float | None) -> str:
    return f"{label:.6g}" if isinstance(label, float) else "" if label is None else str(label)
