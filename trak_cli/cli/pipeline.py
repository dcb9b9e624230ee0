"""``trak run``: featurize, finalize and score, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trak_cli.cli import featurize, finalize, score
from trak_cli.cli.run import Results, stage_command

if TYPE_CHECKING:
    from trak_cli.stages.run import PipelineSummary

NAME = "run"
HELP = """Run featurize, finalize and score: from checkpoints to scores in one command.

The command does what the three commands do, with the same keys, and stops at the first of them that refuses. An interrupted
run resumes with the same command. Several processes share the work of featurize; whichever finishes last goes on with finalize
and score."""
EXAMPLES = """Examples:

  trak run experiment=digits

  trak run -d my_project projection.dim=4096 device=cuda

  trak run experiment=digits score.top_k=100 --json | jq '.score.splits[].path'"""


#: Stage -> the function that prints its summary.
_SHOWN: dict[str, Callable[[Any, Results], None]] = {
    "featurize": featurize.show,
    "finalize": finalize.show,
    "score": score.show,
}


def show(summary: PipelineSummary, console: Results) -> None:
    for stage, print_summary in _SHOWN.items():
        found = getattr(summary, stage)
        if found is not None:
            console.print(f"trak {stage}", style="bold")
            print_summary(found, console)
    if summary.score is None:
        console.print("finalize and score are left to the process that finishes featurize last", soft_wrap=True)


command = stage_command(NAME, show, formulas=True)
