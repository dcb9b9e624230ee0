"""``trak compress``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_cli.cli.doctor import size
from trak_cli.cli.run import Results, stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.compress import CompressSummary

NAME = "compress"
HELP = """Store a compressed copy of the training features, so that trak ask --candidates reads few rows of the features.

The features stay as they are; the copy is in the folder compressed of the store, which can be deleted. The command also
measures how many of the highest and lowest scores are found through it. It loads no model, and several processes can share it
(worker.index, Slurm). It is worth its space for stores that do not fit into memory (docs/ask.md)."""
EXAMPLES = """Examples:

  trak compress experiment=digits

  trak compress -d my_project estimator=cosine     (the same copy; its recall for another estimator)

  trak ask -d my_project --text "a dull film" --label 0 --candidates 1000"""


def show(summary: CompressSummary, console: Results) -> None:
    share = summary.copy_bytes / summary.feature_bytes
    copy = f"the copy has {size(summary.copy_bytes)}" + ("" if summary.missing else f", {share:.0%} of the features")
    console.print(
        f"{counted(summary.rows, 'training row')} under {counted(len(summary.checkpoints), 'checkpoint')}:"
        f" {summary.written} of {counted(summary.parts, 'part')} written; {copy}",
        soft_wrap=True,
    )
    if share > 1:
        console.print("the copy is larger than the features: with so few rows, ask without --candidates", soft_wrap=True)
    if summary.missing:
        missing = counted(summary.missing, "part")
        console.print(f"{missing} of other workers missing; the last worker measures the recall", soft_wrap=True)
        return
    if not summary.recall:
        console.print("too few training rows for a choice of candidates: trak ask reads them all", soft_wrap=True)
        return
    console.print(
        f"recall: the share of the truly highest and lowest scores of {counted(summary.targets, 'target')} of {summary.split}"
        f" among the candidates, estimator {summary.estimator}",
        soft_wrap=True,
    )
    rows = table("#--candidates", "#of the top 10", "#of the top 100")
    for one in summary.recall:
        rows.add_row(f"{one.candidates:,}", f"{one.top_10:.1%}", "" if one.top_100 is None else f"{one.top_100:.1%}")
    show_table(console, rows)


command = stage_command(NAME, show)
