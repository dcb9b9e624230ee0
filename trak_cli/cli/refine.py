"""``trak refine``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.refine import RefineSummary

NAME = "refine"
HELP = """Score chosen targets more accurately, by solving linear systems in the space of all parameters.

For each target and checkpoint, (G + λ I) x = t is solved by conjugate gradients, with t the gradient of the target and G the
Gauss-Newton matrix of the training loss over all classes. Neither is projected. trak featurize must have run before. A target
costs a few epochs of training under each checkpoint. The scores are stored as estimator ESTIMATOR_refined."""
EXAMPLES = """Examples:

  trak refine experiment=digits 'refine.targets=[0, 7, 42]'

  trak refine experiment=digits refine.group=true   (one row of scores, of the mean over the split)

  trak refine experiment=digits refine.candidates=100   (the highest and lowest scores of trak score only)

  trak eval-lds experiment=digits 'lds.estimators=[early_training_refined]'"""


def show(summary: RefineSummary, console: Console) -> None:
    console.print(
        f"estimator {summary.estimator} on {summary.split}: {counted(summary.systems, 'system')}"
        f" for {counted(summary.targets, 'target')};"
        f" {counted(summary.solved, 'block')} solved, {summary.already_there} already there",
        soft_wrap=True,
    )
    rows = table("checkpoint", "λ", "#iterations", "#at most", "#largest residual", "#not converged")
    for report in summary.reports:
        rows.add_row(
            report.checkpoint,
            f"{report.ridge:.3g}",
            f"{report.mean_iterations:.1f}",
            str(report.most_iterations),
            f"{report.residual:.2g}",
            str(report.unsolved),
        )
    if summary.reports:
        show_table(console, rows)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    rest = f"{counted(summary.left_to_others, 'block')} left to other workers"
    console.print(f"scores: {summary.path}" if summary.complete else rest, soft_wrap=True)


command = stage_command(NAME, show)
