"""``trak score``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_cli.cli.run import Results, stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.score import ScoreSummary

NAME = "score"
HELP = """Score every training sample for every target, from stored features.

A positive score means that training on this sample raises the model output on that target. Dense scores become one HDF5 dataset
(targets × training rows); score.top_k=K keeps only the K highest and lowest of each target."""
EXAMPLES = """Examples:

  trak score experiment=digits

  trak score experiment=digits estimator=cosine

  trak score experiment=digits 'score.splits=[mine]' score.top_k=20

  trak score experiment=digits 'estimator.checkpoint_counts=[1, 5, 10]'   (trak finalize and trak eval-lds take it too)

  trak score store=runs/digits estimator.name=ridge3 estimator.ridge=3"""


def show(summary: ScoreSummary, console: Results) -> None:
    console.print(f"estimator {summary.estimator}{f': {summary.formula}' if console.verbose else ''}", soft_wrap=True)
    rows = table("split", "#checkpoints", "#targets", "#training rows", "#files written", "#already there")
    for split in summary.splits:
        rows.add_row(
            split.name,
            str(split.checkpoints),
            f"{split.targets:,}",
            f"{split.rows:,}",
            str(split.written),
            str(split.already_there),
        )
    show_table(console, rows)
    for split in summary.splits:
        left = f"{split.name}: {counted(split.left_to_others, 'file')} left to other workers"
        console.print(str(split.path) if split.complete else left, soft_wrap=True)


command = stage_command(NAME, show, formulas=True)
