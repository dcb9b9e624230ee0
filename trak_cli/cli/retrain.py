"""``trak retrain``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command

if TYPE_CHECKING:
    from trak_cli.stages.retrain import RetrainSummary

NAME = "retrain"
HELP = """Compute the ground truth of the LDS: train models on random subsets and store their outputs on the targets.

An interrupted run resumes, and workers share it, as with featurize. `trak eval-lds` uses the subsets that are stored."""
EXAMPLES = """Examples:

  trak retrain experiment=digits

  trak retrain experiment=digits retrain.subsets=200 retrain.models_per_subset=6"""


def show(summary: RetrainSummary, console: Console) -> None:
    console.print(
        f"{summary.subsets} subsets of {summary.subset_rows:,} of {summary.rows:,} rows, {summary.models_per_subset} model(s)"
        f" each: {summary.trained} subset(s) trained now, {summary.left_to_others} left to other workers"
    )
    console.print(str(summary.folder))


command = stage_command(NAME, show)
