"""Writes docs/configuration.md from the schema of the configuration and the shipped YAML files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trak_cli.config.describe import SectionHelp, describe_sections

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
    return INTRODUCTION + "\n\n".join("\n".join(section_lines(section)) for section in describe_sections()) + "\n"


def section_lines(section: SectionHelp) -> Iterator[str]:
    """A heading, then the tables of the keys and of the options."""
    yield f"## {section.name or 'Top level'}\n"
    yield section.text
    if section.keys:
        yield "\n| key | default | type | meaning |\n|---|---|---|---|"
    for key in section.keys:
        yield f"| `{key.key}` | `{cell(key.default)}` | {key.type} | {cell(key.explained)} |"
    if section.options:
        yield "\n| option | meaning |\n|---|---|"
    for option, text in section.options.items():
        yield f"| `{section.name}={option}` | {cell(text)} |"


def cell(text: str) -> str:
    """The text in a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
