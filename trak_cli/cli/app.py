"""The ``trak`` program with its subcommands, in the order in which they are used."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from trak_cli import __version__
from trak_cli.cli import (
    config,
    doctor,
    eval_lds,
    featurize,
    finalize,
    init,
    pipeline,
    refine,
    retrain,
    score,
    train,
    tune,
    unroll,
)
from trak_cli.cli.cluster import submit
from trak_cli.cli.results import ask, evaluate, export, import_scores, report, select, status, suspects, top

EXIT_CODES = (
    "Exit codes: 0 success · 1 a bug in trak (please report the traceback) · 2 wrong usage or configuration · 3 the store does"
    " not fit (other fingerprint, damaged or missing files) · 4 the model, a checkpoint or the data was refused, or your code"
    " raised an exception · 5 a problem of the machine (disk full, no such device, out of memory) · 75 stopped by SIGTERM or"
    " SIGUSR2 (run again to continue) · 130 interrupted."
)

app = typer.Typer(
    name="trak",
    help="Which training examples made the model say this?\n\n"
    "TRAK data attribution (arXiv 2303.14186): trak run does featurize, finalize and score; trak top shows the result.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trak {__version__}")
        raise typer.Exit


@app.callback()
def _top_level(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


COMMANDS = (
    pipeline,
    submit,
    featurize,
    finalize,
    score,
    refine,
    eval_lds,
    tune,
    top,
    ask,
    suspects,
    select,
    report,
    evaluate,
    export,
    import_scores,
    status,
    config,
    doctor,
    train,
    retrain,
    unroll,
    init,
)
for _module in COMMANDS:
    _examples = re.sub(r"\[(?=[a-z])", r"\[", _module.EXAMPLES)  # a list of names is no markup
    app.command(_module.NAME, help=_module.HELP, epilog=_examples, no_args_is_help=False)(_module.command)


def main() -> None:
    """Entry point of the ``trak`` script."""
    app()
