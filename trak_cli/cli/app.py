"""The ``trak`` program with its subcommands, in the order in which they are used."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from trak_cli.cli.results import ask, compress, evaluate, export, import_scores, report, select, status, suspects, top
from trak_cli.cli.terminal.help import SplitNaming

EXIT_CODES = (
    "Exit codes: 0 success · 1 a bug in trak (please report the traceback) · 2 wrong usage or configuration · 3 the store does"
    " not fit (other fingerprint, damaged or missing files) · 4 the model, a checkpoint or the data was refused, or your code"
    " raised an exception · 5 a problem of the machine (disk full, no such device, out of memory) · 75 stopped by SIGTERM or"
    " SIGUSR2 (run again to continue) · 130 interrupted."
)

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
    compress,
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
_MODULES = {module.NAME: module for module in COMMANDS}


@functools.cache
def _subcommand(name: str) -> Any:
    """The subcommand of that name, as Typer makes it from the options of the module's function."""
    module = _MODULES[name]
    examples = re.sub(r"\[(?=[a-z])", r"\[", module.EXAMPLES)  # a list of names is no markup
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    help_text = re.sub(r"(?<=\S)\n(?=[\w`(]|--)", " ", module.HELP)  # Rich would keep the line ends of the source
    single.command(name, cls=SplitNaming, help=help_text, epilog=examples, no_args_is_help=False)(module.command)
    return typer.main.get_command(single)


class _Subcommands(Mapping[str, Any]):
    """Name -> subcommand, made when it is used: making all of them takes 30 ms of each start."""

    def __getitem__(self, name: str) -> Any:
        return _subcommand(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class _Program(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Subcommands()})


app = typer.Typer(
    name="trak",
    cls=_Program,
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


def main() -> None:
    """Entry point of the ``trak`` script."""
    app()
