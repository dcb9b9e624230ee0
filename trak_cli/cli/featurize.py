"""``trak featurize``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.featurize import FeaturizeSummary

NAME = "featurize"
HELP = """Compute and store the features of the training set and of every target split.

For each checkpoint, the per-sample gradients of the model output are randomly projected and stored in HDF5 shards. An
interrupted run resumes with the same command. Several processes share the work; Slurm arrays and torchrun are recognised."""
EXAMPLES = """Examples:

  trak featurize experiment=digits

  trak featurize -d my_project projection.dim=4096 device=cuda

  trak featurize experiment=digits worker.index=0 worker.count=4

  trak featurize experiment=digits '+dataset.targets.mine={_target_: trak_cli.plugins.SampleFile, path: one.npz}'"""


def show(summary: FeaturizeSummary, console: Console) -> None:
    rows = table("split", "#rows", "#shards written", "#already stored", "#left to other workers")
    for split in summary.splits:
        rows.add_row(split.name, f"{split.rows:,}", str(split.written), str(split.already_there), str(split.left_to_others))
    show_table(console, rows)
    console.print(
        f"{counted(len(summary.checkpoints), 'checkpoint')}, {counted(summary.parameters, 'parameter')}"
        f" -> {counted(summary.dim, 'feature')}"
        f" in {summary.store}"
    )


command = stage_command(NAME, show)
