"""Writes docs/configuration.md from the schema of the configuration and the shipped YAML files."""

from __future__ import annotations

from pathlib import Path

from trak_cli.config.describe import as_markdown, describe_sections

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by scripts/docs/configuration.py from trak_cli/config/schema.py and configs/. -->

Every key of the configuration, with its default. Set a key in your own YAML file, which begins with
`defaults: [trak, _self_]`, or on the command line as `key=value`. Select an option of a config group as `group=option`. In a
terminal, `trak config --describe` prints this page and `trak config --describe projection` one section of it. `trak config`
prints the configuration that your files and overrides give. `trak config --check STAGE` checks everything that a stage needs
without running it.

"""


def page() -> str:
    """The whole page as Markdown."""
    return INTRODUCTION + as_markdown(describe_sections())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
