"""``trak config``"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, run

NAME = "config"
HELP = """Print the composed configuration, or check it for a stage without running anything."""
EXAMPLES = """Examples:

  trak config experiment=digits

  trak config experiment=digits --check featurize

  trak config -d my_project projection=sjlt --json"""


def command(
    overrides: Overrides = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="STAGE", help="Check everything that this stage needs; print nothing but 'ok'."),
    ] = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    from trak_cli.stages.show_config import ConfigSummary, show_config

    def show(summary: ConfigSummary, console: Console) -> None:
        console.print(f"ok for {check}" if check else summary.yaml, markup=False, soft_wrap=True, end="\n" if check else "")

    run(check or NAME, Call.of(overrides, config_name, config_dir, as_json), show_config, show)
