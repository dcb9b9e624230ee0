"""``trak train``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import stage_command

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


def show(summary: TrainSummary, console: Console) -> None:
    for path in summary.checkpoints:
        console.print(str(path), soft_wrap=True)
    console.print(f"{summary.trained} trained, {len(summary.checkpoints) - summary.trained} already there")


command = stage_command(NAME, show)
