"""``trak eval-lds``"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import interval, stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.attribution.lds.bootstrap import Interval
    from trak_cli.stages.evaluation.removals import RemovalResult
    from trak_cli.stages.evaluation.summary import EvalSummary

NAME = "eval-lds"
HELP = """Measure how well scores predict models retrained on random subsets (the linear datamodeling score).

LDS = Spearman correlation over subsets between the summed scores of a subset and the output of models trained on it, averaged
over targets; 1 is perfect, 0 is chance. The ground truth comes from `trak retrain` or from a file of your own. With
retrain.same_seed=true it is one run trained again with its own seed; if retrain.remove_top was given, the table of removals
shows by how much the loss of a target rises without its highest scores (QLD)."""
EXAMPLES = """Examples:

  trak eval-lds experiment=digits

  trak eval-lds experiment=digits 'lds.estimators=[trak, cosine, dot]'

  trak eval-lds experiment=digits lds.ground_truth=subsets.npz   (masks: subsets × rows, outputs: subsets [× models] × targets)

  trak eval-lds experiment=digits retrain.same_seed=true 'lds.estimators=[dot, cosine]'

  trak eval-lds experiment=digits lds.group=true 'lds.targets=[0, 3, 8]'

  trak eval-lds experiment=digits 'lds.scores={theirs: other_tool.npy, other_seed: runs/seed1/scores/trak/test.h5}'

  trak eval-lds experiment=digits 'estimator.checkpoint_counts=[1, 5, 10]'   (after finalize and score with the same setting)

  trak eval-lds experiment=digits 'lds.baselines=[datamodel, empirical_influence]'"""


def show(summary: EvalSummary, console: Console) -> None:
    """Print the LDS of every set of scores, and its difference from the first set."""
    reference = summary.score_sets[0].name
    rows = table("scores", "#checkpoints", "#LDS", "95% interval", f"#difference from {reference}", "95% interval", "#p")
    for score_set in summary.score_sets:
        lds, difference = score_set.lds, score_set.difference
        averaged = "" if score_set.checkpoints is None else str(score_set.checkpoints)
        cells = [score_set.name, averaged, f"{lds.estimate:.3f}", interval(lds.low, lds.high)]
        if difference is not None:
            change = difference.interval
            cells += [f"{change.estimate:+.3f}", interval(change.low, change.high, "+"), str(difference.p_value)]
        rows.add_row(*cells)
    show_table(console, rows)
    evaluated = f"the mean over {counted(summary.targets, 'target')}" if summary.group else counted(summary.targets, "target")
    console.print(
        f"{summary.split}: {evaluated}, {counted(summary.subsets, 'subset')}"
        + (f", {counted(summary.left_out, 'target')} left out (constant outputs or predictions)" if summary.left_out else "")
    )
    if math.isnan(summary.ceiling):
        console.print(summary.no_ceiling, soft_wrap=True)
    elif summary.same_seed:
        console.print("noise ceiling: 1 (the same run, so outputs change with the weights of the samples only)", soft_wrap=True)
    else:
        console.print(
            f"noise ceiling: a perfect predictor would reach about {summary.ceiling:.2f}"
            f" ({counted(summary.models or 0, 'model')} per subset)"
        )
    if summary.baselines:
        names = " and ".join(summary.baselines)
        console.print(
            f"{names}: fitted to the ground truth; each subset is predicted by a fit that leaves it out", soft_wrap=True
        )
    if summary.removal is not None:
        _show_removal(summary.removal, console)
    for path in summary.files:
        console.print(str(path), soft_wrap=True)


def _show_removal(removal: RemovalResult, console: Console) -> None:
    """Print by how much loss and f of a target change without its highest scores."""
    reference = removal.changes[0].name
    difference = f"#difference from {reference}"
    of_f = ("#change of f", "95% interval")
    rows = table("removed", "#QLD", "95% interval", difference, "95% interval", "#p", *of_f, "#random above")
    for change in removal.changes:
        cells = [change.name, *_cells(change.loss)]
        cells += ["", "", ""] if change.difference is None else _cells(change.difference.interval)
        if change.difference is not None:
            cells.append(str(change.difference.p_value))
        rows.add_row(*cells, *_cells(change.output), "" if change.above is None else f"{change.above:.1%}")
    show_table(console, rows)
    console.print(
        f"QLD: mean increase of the loss of {counted(removal.targets, 'target')}"
        f" without the {removal.removed:,} highest scores of each;"
        " random: without as many random samples; last column: share of these that raise the loss as much",
        soft_wrap=True,
    )
    if removal.missing:
        names = ", ".join(removal.missing)
        console.print(f"not retrained without their highest scores: {names} (trak retrain retrain.remove_top)", soft_wrap=True)


def _cells(value: Interval) -> list[str]:
    return [f"{value.estimate:+.4f}", interval(value.low, value.high, "+", decimals=4)]


command = stage_command(NAME, show)
