"""``trak train``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run

if TYPE_CHECKING:
    from trak_cli.stages.train import TrainSummary

NAME = "train"
HELP = """Train a few checkpoints of the configured model on the configured training set.

Use it for first experiments and for the LDS. If you have checkpoints already, you do not need it. The trainer is a plugin
(`trainer=…`)."""
EXAMPLES = """Examples:

  trak train experiment=digits

  trak train experiment=digits train.count=10 trainer.epochs=30

  trak train experiment=digits train.start=runs/digits/checkpoints/full_0.safetensors \\
    train.only_parameters=true 'parameters.include=[f2.*]'"""


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    def stage() -> Stage[TrainSummary]:
        from trak_cli.stages.train import train

        return train

    run(NAME, Call.of(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: TrainSummary, console: Console) -> None:
    for path in summary.checkpoints:
        console.print(str(path))
    console.print(f"{summary.trained} trained, {len(summary.checkpoints) - summary.trained} already there")
