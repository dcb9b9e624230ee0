"""``trak retrain``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run

if TYPE_CHECKING:
    from trak_cli.stages.retrain import RetrainSummary

NAME = "retrain"
HELP = """Compute the ground truth of the LDS: train models on random subsets and store their outputs on the targets.

An interrupted run resumes, and workers share it, as with featurize. `trak eval-lds` uses the subsets that are stored."""
EXAMPLES = """Examples:

  trak retrain experiment=digits

  trak retrain experiment=digits retrain.subsets=200 retrain.models_per_subset=6"""


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    def stage() -> Stage[RetrainSummary]:
        from trak_cli.stages.retrain import retrain

        return retrain

    run(NAME, Call.of(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: RetrainSummary, console: Console) -> None:
    console.print(
        f"{summary.subsets} subsets of {summary.subset_rows:,} of {summary.rows:,} rows, {summary.models_per_subset} model(s)"
        f" each: {summary.trained} subset(s) trained now, {summary.left_to_others} left to other workers"
    )
    console.print(str(summary.folder))
