"""``trak run``: featurize, finalize and score, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trak_cli.cli import featurize, finalize, score
from trak_cli.cli.run import Results, imported, stage_command
from trak_cli.errors import TrakError

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.types import Reporter

NAME = "run"
HELP = """Run featurize, finalize and score: from checkpoints to scores in one command.

The command does what the three commands do, with the same keys, and stops at the first of them that refuses. An interrupted
run resumes with the same command. Several processes share the work of featurize; whichever finishes last goes on with finalize
and score."""
EXAMPLES = """Examples:

  trak run experiment=digits

  trak run -d my_project projection.dim=4096 device=cuda

  trak run experiment=digits score.top_k=100 --json | jq '.score.splits[].path'"""


@dataclass(frozen=True)
class PipelineSummary:
    """The summaries of the stages; None for those that are left to another process, which still computes features."""

    featurize: Any
    finalize: Any = None
    score: Any = None


def run(loaded: Loaded, reporter: Reporter) -> PipelineSummary:
    """Run the three stages.

    Raises:
        TrakError: of the first stage that refuses; its headline names the stage.
    """
    features = _named("featurize", loaded, reporter)
    if _features_left(loaded):
        return PipelineSummary(features)
    # By the process that finishes last, whatever its share: the others may have ended before there was anything to finalise.
    whole = replace(loaded, config=replace(loaded.config, worker=replace(loaded.config.worker, index=0, count=1)))
    return PipelineSummary(features, _named("finalize", whole, reporter), _named("score", whole, reporter))


def _named(stage: str, loaded: Loaded, reporter: Reporter) -> Any:
    reporter.log(f"trak {stage}")
    try:
        return imported(stage)(loaded, reporter)
    except TrakError as error:
        error.headline = f"trak {stage} stopped: {error.headline}"
        raise


def _features_left(loaded: Loaded) -> bool:
    """Whether shards of other processes are still missing, by their names."""
    from trak_cli.stages.index.inventory import take_inventory
    from trak_cli.store.layout import Layout

    inventory = take_inventory(Layout(Path(loaded.config.store)), loaded.config.estimator.average_over)
    return any(
        len(inventory.layout.shards(checkpoint, split)) < len(inventory.shards(split))
        for checkpoint in inventory.checkpoints
        for split in inventory.layout.described_splits()
    )


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


command = stage_command(NAME, show, lambda: run)
