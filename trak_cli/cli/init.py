"""``trak init``"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from trak_cli.cli.run import AsJson, Results, guarded, print_result
from trak_cli.cli.terminal.progress import make_reporter
from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.projects.checkpoint_model import CheckpointModel
    from trak_cli.projects.init import Answers, InitSummary

NAME = "init"
HELP = """Write the folder of a new project: a YAML file and a script that run as they are.

It looks into the checkpoint to find out which model it belongs to: models of transformers, torchvision and timm are
recognised; for a model of yours, give --model. On a terminal it asks for what is missing."""
EXAMPLES = """Examples:

  trak init flowers --checkpoints 'out/*.pt' --train data/train --targets data/val

  trak init reviews --checkpoints 'out/checkpoint-*' --train train.jsonl --targets test.jsonl --optimizer adamw

  trak init mine --checkpoints 'runs/*.pt' --model train.Net --train train.TrainSet --targets train.TestSet"""


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project and of its new folder.")],
    checkpoints: Annotated[str, typer.Option("--checkpoints", "-c", help="The trained model: a file, folder or pattern.")] = "",
    kind: Annotated[
        str,
        typer.Option("--kind", help="image_folder, text_classification, causal_lm, masked_lm, seq2seq_lm, table or own."),
    ] = "",
    train: Annotated[str, typer.Option("--train", help="The training set: a file or folder, or MODULE.CLASS.")] = "",
    targets: Annotated[str, typer.Option("--targets", help="The samples to explain, like --train.")] = "",
    model: Annotated[str, typer.Option("--model", help="Your class or function that builds the model, MODULE.CLASS.")] = "",
    optimizer: Annotated[str, typer.Option("--optimizer", help="What trained the model: adam, adamw or sgd.")] = "",
    column: Annotated[
        list[str] | None, typer.Option("--column", help="KEY=COLUMN, for example text=body; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    with guarded(make_reporter()):
        from trak_cli.projects.init import Answers, init

        ConfigError.raise_for(
            Problem("--column", one, "KEY=COLUMN", f"for example --column text={one}") for one in column or [] if "=" not in one
        )
        columns = dict(one.split("=", 1) for one in column or [])
        answers = Answers(name, checkpoints, kind, train, targets, model, optimizer, columns)
        summary = init(*_asked(answers)) if sys.stdin.isatty() and sys.stderr.isatty() else init(answers)
    print_result(summary, as_json, show)


def _asked(answers: Answers) -> tuple[Answers, tuple[CheckpointModel, int]]:
    """The answers, after questions for those that are missing, and what the checkpoints say."""
    from trak_cli.projects.init import look
    from trak_cli.projects.kinds import KINDS, kind_of_data

    if not answers.checkpoints:
        answers = replace(answers, checkpoints=typer.prompt("Checkpoints (file, folder or pattern)", err=True))
    known, count = seen = look(answers)
    typer.echo(
        f"{counted(count, 'checkpoint')}: {known.library or answers.model or 'a model of your own'} {known.model or ''}",
        err=True,
    )
    if not answers.model and not known.model:
        answers = replace(answers, model=typer.prompt("Your class or function that builds the model (MODULE.CLASS)", err=True))
    if not answers.kind and not known.kind and not kind_of_data(answers.train):
        answers = replace(answers, kind=typer.prompt(f"Kind of data ({', '.join(KINDS)})", default="own", err=True))
    kind = KINDS.get(answers.kind or known.kind or kind_of_data(answers.train))
    about = kind.data if kind else "the data"
    if not answers.train:
        answers = replace(answers, train=typer.prompt(f"Training set ({about})", err=True))
    if not answers.targets:
        answers = replace(answers, targets=typer.prompt(f"Samples to explain ({about})", err=True))
    if not answers.optimizer:
        answers = replace(
            answers, optimizer=typer.prompt("Optimizer of the training (adam, adamw or sgd)", default="sgd", err=True)
        )
    return answers, seen


def show(summary: InitSummary, console: Results) -> None:
    about = f"{summary.kind}, {summary.model}, {counted(summary.checkpoints, 'checkpoint')}"
    console.print(f"{summary.folder}: {about}", soft_wrap=True)
    for path in summary.files:
        console.print(f"  {path}", soft_wrap=True)
    prefix = "" if summary.python_path is None else f"PYTHONPATH={summary.python_path} "
    console.print(f"next: {prefix}trak doctor -d {summary.folder}, or all steps: sh {summary.folder}/run.sh", soft_wrap=True)
