"""``trak status``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run, table

if TYPE_CHECKING:
    from trak_cli.stages.status import StatusSummary

#: Damaged files named of one kind before the rest is only counted.
SHOWN = 5

NAME = "status"
HELP = """What is in a store: shards done, missing and damaged of each checkpoint and split, Gram matrices and scores. The
digests of all of these files are checked."""
EXAMPLES = """Examples:

  trak status experiment=digits

  trak status store=runs/digits --json"""


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    def stage() -> Stage[StatusSummary]:
        from trak_cli.stages.status import status

        return status

    run(NAME, Call.of(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: StatusSummary, console: Console) -> None:
    if not summary.features:
        console.print(f"{summary.store}: no features yet; begin with trak featurize")
    else:
        console.print(_features(summary))
    for gram in summary.grams:
        console.print(f"Gram {gram.key}: {len(gram.checkpoints)} checkpoint(s){_damaged(gram.damaged)}", soft_wrap=True)
    for scores in summary.scores:
        state = "complete" if scores.complete else "incomplete"
        console.print(f"scores {scores.estimator}/{scores.split}: {state}{_damaged(scores.damaged)}", soft_wrap=True)


def _features(summary: StatusSummary) -> Table:
    rows = table("checkpoint", "split", "#rows", "#shards", "#done", "#missing", "#damaged", "#other run's")
    for part in summary.features:
        rows.add_row(
            part.checkpoint,
            part.split,
            f"{part.rows:,}",
            *(str(count) for count in (part.shards, part.done, part.missing, part.damaged, part.foreign)),
        )
    return rows


def _damaged(files: Sequence[str]) -> str:
    if not files:
        return ""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"; damaged: {', '.join(files[:SHOWN])}{more}"
