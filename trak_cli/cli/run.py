"""The steps that every subcommand shares: compose the configuration, run one stage, print its summary or its problems."""

from __future__ import annotations

import errno
import gc
import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trak_cli.cli.terminal.completion import complete_config_name, complete_override
from trak_cli.cli.terminal.progress import make_reporter
from trak_cli.errors import MachineError, Problem, TrakError
from trak_cli.interrupts import INTERRUPTED, raise_on_interrupt
from trak_cli.stop_signals import STOPPED, StopRequested, raised_stop_signals
from trak_cli.user_errors import report_user_errors

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.types import Reporter

Summary = TypeVar("Summary")
Result = TypeVar("Result", covariant=True)


class Stage(Protocol[Result]):
    """The function that runs a stage."""

    def __call__(self, loaded: Loaded, reporter: Reporter, /) -> Result: ...


#: Width of tables written to a pipe or a file, in characters.
PIPE_WIDTH = 240

#: The stages that need large arrays again and again, for which the process keeps its memory.
_KEEP_MEMORY = ("featurize", "finalize", "score", "run", "unroll")

#: Styles of the lines of an error.
_STYLES = {"headline": "bold red", "place": "bold", "detail": ""}

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Hydra overrides: key=value, +key=value, group=option (model=…, dataset=…, projection=…, experiment=…).",
        show_default=False,
        autocompletion=complete_override,
    ),
]
ConfigName = Annotated[
    str | None,
    typer.Option(
        "--config-name",
        "-n",
        help="Config to compose (a YAML file name without .yaml).",
        autocompletion=complete_config_name,
    ),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", "-d", help="Folder with your own YAML files and plugins; searched before the shipped ones."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the formulas too.")]


@dataclass(frozen=True)
class Call:
    """The options that every subcommand shares."""

    overrides: list[str] | None
    config_name: str | None
    config_dir: Path | None
    as_json: bool
    verbose: bool = False
    check: bool = False  # of the files of data sets too


def imported(name: str, package: str = "stages", **options: Any) -> Stage[Any]:
    """The function of a subcommand, in ``trak_cli.stages`` or another package, with these options."""
    function = name.replace("-", "_")
    return partial(getattr(importlib.import_module(f"trak_cli.{package}.{function}"), function), **options)


def stage_command(name: str, show: Callable[[Any, Results], None], formulas: bool = False) -> Callable[..., None]:
    """The command of a stage that has no options of its own; ``show`` prints its summary, on request with ``formulas``."""

    def command(
        overrides: Overrides = None,
        config_name: ConfigName = None,
        config_dir: ConfigDir = None,
        as_json: AsJson = False,
    ) -> None:
        run(name, Call(overrides, config_name, config_dir, as_json), partial(imported, name), show)

    def with_formulas(
        overrides: Overrides = None,
        config_name: ConfigName = None,
        config_dir: ConfigDir = None,
        as_json: AsJson = False,
        verbose: Verbose = False,
    ) -> None:
        run(name, Call(overrides, config_name, config_dir, as_json, verbose), partial(imported, name), show)

    return with_formulas if formulas else command


def run(name: str, call: Call, stage: Callable[[], Stage[Summary]], show: Callable[[Summary, Results], None]) -> Summary:
    """Run one stage and print its summary; exit with the documented code on a user error.

    Args:
        name: the stage whose requirements the configuration must meet.
        call: the options of the command line.
        stage: imports the stage and returns it. It is called after the configuration has been checked, because most stages
            import PyTorch and a wrong key should be reported before that.
        show: prints the summary.
    """
    reporter = make_reporter()
    with guarded(reporter):
        from trak_cli.config.load import load
        from trak_cli.config.store_configs import code_from_store

        if warning := code_from_store(call.config_name, call.config_dir):
            reporter.log(warning)
        loaded = load(name, call.config_name, call.config_dir, call.overrides or [], data_files=call.check)
        work = stage()
        raise_on_interrupt()
        if name in _KEEP_MEMORY:
            from trak_cli.gradients.tuning.allocator import keep_freed_memory

            keep_freed_memory()
        if not gc.isenabled():
            gc.freeze()  # what was imported is no garbage, and searching it would take time at every collection
            gc.enable()
        with raised_stop_signals():
            summary = work(loaded, reporter)
    print_result(summary, call.as_json, show, call.verbose)
    return summary


@contextmanager
def guarded(reporter: Reporter) -> Iterator[None]:
    """Print the problems of a user error, and exit with its code."""
    try:
        with report_user_errors("your code"):
            yield
    except TrakError as error:
        show_problems(error)
        raise typer.Exit(error.exit_code) from None
    except StopRequested as request:
        reporter.log(f"stopped by {request.signal}: finished work is stored; run the same command again to continue")
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        reporter.log("interrupted: finished work is stored; run the same command again to resume")
        raise typer.Exit(INTERRUPTED) from None


def print_result(summary: Summary, as_json: bool, show: Callable[[Summary, Results], None], verbose: bool = False) -> None:
    """Print a summary on stdout, as JSON or as ``show`` prints it."""
    console = Results(verbose)
    try:
        if as_json:
            from trak_cli.types import plain

            console.out(json.dumps(plain(summary), indent=2), highlight=False)
        else:
            show(summary, console)
    except OSError as error:
        _discard_stdout()
        show_problems(_write_failed(error))
        raise typer.Exit(MachineError.exit_code) from None


class Results(Console):
    """Stdout. Lines are not cut to the width of a terminal when they go to a pipe, so that grep and cut see whole names.

    Attributes:
        verbose: whether formulas are printed.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        super().__init__(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)

    def on_broken_pipe(self) -> None:
        """Exit quietly when the reader of a pipe (head, less) has closed it: that is not an error."""
        _discard_stdout()
        raise typer.Exit(0)


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null. Text left in its buffer would otherwise raise again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_failed(error: OSError) -> MachineError:
    found = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)}) while the results were printed"
    remedy = "free some disk space; the results are stored already"
    return MachineError(Problem("stdout", found, "a writable pipe or file", remedy))


def show_problems(error: TrakError) -> None:
    """Print every problem of an error on stderr: what was found, what was expected and what to do."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if os.environ.get("TRAK_TRACEBACK") and error.__cause__ is not None:
        console.print(Text("".join(traceback.format_exception(error.__cause__)).rstrip()))
    for style, text in error.lines():
        console.print(Text(f"trak: {text}" if style == "headline" else text, style=_STYLES[style]))


def table(*headings: str, title: str | None = None) -> Table:
    """An empty table. Text is aligned left; numbers, in columns whose heading starts with '#', are aligned right."""
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        number = heading.startswith("#")
        result.add_column(heading.lstrip("#"), justify="right" if number else "left", header_style="bold", overflow="fold")
    return result


def interval(low: float, high: float, sign: str = "", decimals: int = 3) -> str:
    """An interval as a table shows it; empty text for NaN."""
    return "" if math.isnan(low) else f"[{low:{sign}.{decimals}f}, {high:{sign}.{decimals}f}]"
