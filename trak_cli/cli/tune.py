"""``trak tune``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import interval, stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.attribution.lds.bootstrap import Interval
    from trak_cli.stages.tune import TuneSummary

NAME = "tune"
HELP = """Find the estimator that predicts retrained models best, given a ground truth.

All combinations of the values in `tune.grid` are tried on half of the targets and half of the subsets. The best one and the
configured estimator are then compared on the other halves of both. The command reads features and the ground truth of
`trak eval-lds`. Each weighting of the Gram matrix takes one pass over the features; more ridges take none."""
EXAMPLES = """Examples:

  trak tune -d my_project tune.folder=my_project      (writes my_project/estimator/tuned.yaml)

  trak finalize -d my_project estimator=tuned         (and then trak score)

  trak tune experiment=digits 'tune.grid.weights=[early_training]' 'tune.grid.ridge=[0.1, 1, 10]'

  trak tune experiment=digits lds.ground_truth=my_subsets.npz"""


def show(summary: TuneSummary, console: Console) -> None:
    console.print(
        f"{counted(summary.members, 'estimator')} on {counted(summary.targets[0], 'target')}"
        f" and {counted(summary.subsets[0], 'subset')}; the best:"
    )
    rows = table("#LDS", "estimator")
    for member in summary.best:
        rows.add_row(f"{member.searched:.3f}", member.formula)
    show_table(console, rows)
    console.print(f"on the other {counted(summary.targets[1], 'target')} and {counted(summary.subsets[1], 'subset')}:")
    chosen, reference = summary.best[0], summary.reference
    rows = table("", "#LDS", "95% interval", "#p")
    rows.add_row("chosen", *_figures(summary.held_out.chosen))
    rows.add_row(reference.estimator.name, *_figures(summary.held_out.reference))
    if chosen.estimator != reference.estimator:
        rows.add_row("difference", *_figures(summary.held_out.difference, "+"), str(summary.held_out.p_value))
    show_table(console, rows)
    if chosen.estimator == reference.estimator:
        console.print(f"no estimator was better than {reference.estimator.name}")
    elif not summary.held_out.difference.low > 0:
        console.print(f"not significantly better than {reference.estimator.name}: the interval of the difference includes zero")
    console.print(" ".join(summary.overrides), soft_wrap=True)
    for path in summary.files:
        console.print(str(path), soft_wrap=True)


def _figures(lds: Interval, sign: str = "") -> tuple[str, str]:
    return f"{lds.estimate:{sign}.3f}", interval(lds.low, lds.high, sign)


command = stage_command(NAME, show)
