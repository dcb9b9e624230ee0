"""``trak config``"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, run

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.config.schema import TrakConfig
    from trak_cli.types import Reporter

NAME = "config"
HELP = """Print the composed configuration, or check everything that one stage needs.

Nothing is run. Plugins (`_target_`) are imported and their arguments checked with --check only."""
EXAMPLES = """Examples:

  trak config experiment=digits

  trak config experiment=digits --check featurize

  trak config -d my_project projection=sjlt --json"""


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
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def show(summary: ConfigSummary, console: Console) -> None:
        text = f"ok for {check}\n" if check else summary.yaml
        console.print(text, markup=False, soft_wrap=True, end="")

    call = Call.of(overrides, config_name, config_dir, as_json)
    run(check or NAME, call, lambda: _summarize, show)


def _summarize(loaded: Loaded, _: Reporter) -> ConfigSummary:
    return ConfigSummary(loaded.yaml, loaded.config)
