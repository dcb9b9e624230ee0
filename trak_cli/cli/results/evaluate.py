"""``trak evaluate``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, interval, run, table
from trak_cli.cli.terminal.tables import show_table

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.results.evaluate import EvaluateSummary
    from trak_cli.types import Reporter

NAME = "evaluate"
HELP = """Measure scores by what you know about the data, or by models that you have retrained: mislabel detection, planted
sources (recall@k, MRR), class, subclass and shortcut detection, model randomization, leave-one-out correlation, counterfactual
removal and brittleness. `trak eval-lds` measures the LDS.

Each option below evaluates one thing; docs/evaluate.md has the formulas, and how they differ from those of other tools."""
EXAMPLES = """Examples:

  trak evaluate experiment=digits --classes

  trak evaluate experiment=digits --flipped flipped_rows.txt

  trak evaluate experiment=facts --planted sources.json -k 50 --json

  trak evaluate experiment=digits --randomized runs/digits_random

  trak evaluate experiment=digits retrain.same_seed=true --removal"""


def command(
    overrides: Overrides = None,
    split: Annotated[str | None, typer.Option("--split", "-s", help="Target split (default: the configured one).")] = None,
    flipped: Annotated[
        Path | None, typer.Option("--flipped", help="Mislabelled training rows: a number a line (.txt), .json or .npy.")
    ] = None,
    planted: Annotated[
        Path | None, typer.Option("--planted", help="Sources of each target: .csv (target,row) or .json {target: [rows]}.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rank that recall@k and hit@k look up to.")] = 10,
    classes: Annotated[bool, typer.Option("--classes", help="Class detection, by the labels of the samples.")] = False,
    subclasses: Annotated[
        Path | None, typer.Option("--subclasses", help="Classes of all samples: .npz with the arrays train and targets.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the highest scores class detection looks at.")] = 5,
    shortcut: Annotated[
        Path | None, typer.Option("--shortcut", help="Training rows with a shortcut, as for --flipped.")
    ] = None,
    shortcut_targets: Annotated[
        Path | None, typer.Option("--shortcut-targets", help="Targets that fall for the shortcut (default: all).")
    ] = None,
    randomized: Annotated[
        Path | None, typer.Option("--randomized", help="Store of a model with random weights, with the same scores.")
    ] = None,
    leave_one_out: Annotated[
        Path | None, typer.Option("--leave-one-out", help="Models without one sample: masks and outputs (.npz or HDF5).")
    ] = None,
    removal: Annotated[
        bool, typer.Option("--removal", help="Models without the highest scores (trak retrain retrain.remove_top).")
    ] = False,
    flips: Annotated[
        Path | None,
        typer.Option("--flips", help="Models without 10, 20, … highest scores: counts, and flipped or outputs (.npz)."),
    ] = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def stage(loaded: Loaded, reporter: Reporter) -> EvaluateSummary:
        from trak_cli.results.evaluate import evaluate
        from trak_cli.results.evaluation.contract import Inputs

        about_data = (flipped, planted, k, classes, subclasses, top, shortcut, shortcut_targets)
        return evaluate(loaded, reporter, inputs=Inputs(*about_data, randomized, leave_one_out, removal, flips), split=split)

    run(NAME, Call(overrides, config_name, config_dir, as_json), lambda: stage, show)


def show(summary: EvaluateSummary, console: Console) -> None:
    """Print every metric with its interval, and what it would be for perfect scores."""
    rows = table("metric", "#value", "95% interval", "#perfect", "#over")
    for metric in summary.metrics:
        value = metric.value
        perfect = "" if metric.perfect is None else f"{metric.perfect:.4g}"
        cells = (f"{value.estimate:.4f}", interval(value.low, value.high, decimals=4))
        rows.add_row(metric.name, *cells, perfect, f"{metric.count:,} {metric.of}")
    console.print(f"scores of {summary.estimator} on {summary.split}", soft_wrap=True)
    show_table(console, rows)
