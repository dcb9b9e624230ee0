"""``trak config``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run

if TYPE_CHECKING:
    from trak_cli.config.describe import SectionHelp
    from trak_cli.config.load import Loaded
    from trak_cli.config.schema import TrakConfig
    from trak_cli.types import Reporter

NAME = "config"
HELP = """Print the composed configuration, or check everything that one stage needs.

Nothing is run. Plugins (`_target_`) are imported and their arguments checked with --check only. With --describe, the
arguments are sections or keys to explain (none: all of them)."""
EXAMPLES = """Examples:

  trak config experiment=digits

  trak config experiment=digits --check featurize

  trak config -d my_project projection=sjlt --json

  trak config --describe projection train.start"""


@dataclass(frozen=True)
class ConfigSummary:
    """The resolved configuration, as YAML text and as values."""

    yaml: str
    config: TrakConfig


def command(
    overrides: Overrides = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="STAGE", help="Check everything that this stage needs; print only the outcome."),
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Explain keys and options instead.")] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    if describe:
        _describe(overrides or [], config_dir, as_json)
        return

    def show(summary: ConfigSummary, console: Console) -> None:
        from trak_cli.config.validate.stage_requirements import UNCHECKED

        text = f"ok for {check}\nnot checked: {UNCHECKED[check]}\n" if check else summary.yaml
        console.print(text, markup=False, soft_wrap=True, end="")

    call = Call(overrides, config_name, config_dir, as_json, check=check is not None)
    run(check or NAME, call, lambda: _summarize, show)


def _describe(names: list[str], config_dir: Path | None, as_json: bool) -> None:
    def stage() -> Stage[list[SectionHelp]]:
        from trak_cli.config.describe import describe_sections

        return lambda _loaded, _reporter: describe_sections(names, config_dir)

    def show(sections: list[SectionHelp], console: Console) -> None:
        from trak_cli.config.describe import as_text

        console.print(as_text(sections), markup=False, soft_wrap=True)

    run(NAME, Call(None, None, None, as_json), stage, show)


def _summarize(loaded: Loaded, _: Reporter) -> ConfigSummary:
    return ConfigSummary(loaded.yaml, loaded.config)
