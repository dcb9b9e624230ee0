"""``trak featurize``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run, table

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


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    def stage() -> Stage[FeaturizeSummary]:
        from trak_cli.stages.featurize import featurize

        return featurize

    run(NAME, Call.of(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: FeaturizeSummary, console: Console) -> None:
    rows = table("split", "#rows", "#shards written", "#already stored", "#left to other workers")
    for split in summary.splits:
        rows.add_row(split.name, f"{split.rows:,}", str(split.written), str(split.already_there), str(split.left_to_others))
    console.print(rows)
    console.print(
        f"{len(summary.checkpoints)} checkpoint(s), {summary.parameters:,} parameters -> {summary.dim:,} features"
        f" in {summary.store}"
    )
