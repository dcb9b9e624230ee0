"""``trak retrain``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.retrain import RetrainSummary

NAME = "retrain"
HELP = """Compute the ground truth of the LDS: train models on random subsets and store their outputs on the targets.

By default, models have other seeds than those of `trak train`, so scores are tested on what any model trained alike does. With
retrain.same_seed=true, one run of `trak train` is trained again with its own seed, without some samples (docs/protocols.md).

An interrupted run resumes, and workers share it, as with featurize. `trak eval-lds` uses the subsets that are stored."""
EXAMPLES = """Examples:

  trak retrain experiment=digits

  trak retrain experiment=digits retrain.subsets=200 retrain.models_per_subset=6

  trak retrain experiment=digits retrain.same_seed=true retrain.drop=0.01

  trak retrain experiment=digits retrain.same_seed=true retrain.drop=0.01 'retrain.remove_top=[early_training, dot]'

  trak retrain experiment=digits retrain.same_seed=true 'retrain.flip_top=[early_training]' 'lds.targets=[0, 1, 2]'"""


def show(summary: RetrainSummary, console: Console) -> None:
    left_out = summary.rows - summary.subset_rows
    if summary.same_seed:
        runs = "one run" if summary.models_per_subset == 1 else counted(summary.models_per_subset, "run")
        what = (
            f"{runs} of trak train again: with all {counted(summary.rows, 'row')},"
            f" and {summary.subsets} times without {left_out:,}"
        )
        if summary.removals:
            what += f" random ones; {summary.removals} times without the {left_out:,} highest scores"
        if summary.searched:
            what += f"; the smallest removal that flips it for {counted(summary.searched, 'target')}"
    else:
        subsets = f"{counted(summary.subsets, 'subset')} of {summary.subset_rows:,} of {counted(summary.rows, 'row')}"
        what = f"{subsets}, {counted(summary.models_per_subset, 'model')} each"
    console.print(
        f"{what}: {counted(summary.trained, 'file')} now, {summary.left_to_others} left to other workers", soft_wrap=True
    )
    console.print(str(summary.folder))


command = stage_command(NAME, show)
