"""Every key of the configuration, and every option of its groups, with a line of explanation each."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from trak_cli.config.compose.files import config_groups, option_comment
from trak_cli.config.keys import types_of
from trak_cli.config.schema import TrakConfig
from trak_cli.config.wording import covers, describe, join, nearest
from trak_cli.errors import ConfigError, Problem

_WIDTH = 100


@dataclass(frozen=True)
class KeyHelp:
    """One key: its dotted name, its type in words, its default as YAML, and what it means."""

    key: str
    type: str
    default: str
    help: str
    choices: tuple[str, ...]

    @property
    def explained(self) -> str:
        """What it means, and its choices."""
        return self.help + (f" (one of {', '.join(self.choices)})" if self.choices else "")


@dataclass(frozen=True)
class SectionHelp:
    """A section of the configuration and the config group of that name; ``name`` is empty for the top level.

    Attributes:
        options: option -> explanation.
    """

    name: str
    text: str
    keys: tuple[KeyHelp, ...]
    options: dict[str, str]


def describe_sections(wanted: Sequence[str] = (), config_dir: Path | None = None) -> list[SectionHelp]:
    """The sections of the configuration, or what matches the sections, groups and keys in ``wanted``.

    Args:
        wanted: names such as ``projection`` or ``projection.dim``; none: everything.
        config_dir: a folder whose options are listed too.

    Raises:
        ConfigError: there is no such section, group or key.
    """
    sections = list(_sections(config_dir))
    names = {section.name for section in sections} | {key.key for section in sections for key in section.keys}
    ConfigError.raise_for(_unknown(name, names) for name in wanted if name not in names or not name)
    return [part for section in sections if (part := _matching(section, wanted)) is not None] if wanted else sections


def as_text(sections: Sequence[SectionHelp]) -> str:
    """The sections for a terminal."""
    return "\n\n".join("\n".join(_text_lines(section)) for section in sections)


def _sections(config_dir: Path | None) -> Iterator[SectionHelp]:
    groups = config_groups(config_dir)
    hints = types_of(TrakConfig)
    sections = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    described: dict[str, Any] = {"": TrakConfig, **sections}
    for name in [*described, *(group for group in groups if group not in described)]:
        options = {option: option_comment(name, option, config_dir) for option in groups.get(name, ())}
        keys = tuple(_keys(described[name], name)) if name in described else ()
        text = described[name].__doc__ or "" if name in described else _GROUPS.get(name, "Options of your own.")
        yield SectionHelp(name, " ".join(text.split()), keys, options)


#: Config groups that select a plugin, or are no section.
_GROUPS = {
    "experiment": "Complete examples, which select options of the other groups and set values.",
    "model": "The model plugin.",
    "task": "The task plugin.",
    "trainer": "The trainer plugin.",
}


def _keys(schema: type[Any], prefix: str) -> Iterator[KeyHelp]:
    hints = types_of(schema)
    defaults = dataclasses.asdict(schema())
    for item in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[item.name]):
            continue
        default = defaults[item.name]
        text = "required" if default == MISSING else json.dumps(default).strip('"')
        choices = tuple(item.metadata.get("choices", ()))
        yield KeyHelp(join(prefix, item.name), _type(hints[item.name]), text, item.metadata.get("help", ""), choices)


def _type(hint: Any) -> str:
    if hint is Any:
        return ""
    return "a mapping" if typing.get_origin(hint) is dict else describe(hint)


def _matching(section: SectionHelp, wanted: Sequence[str]) -> SectionHelp | None:
    if section.name in wanted:
        return section
    keys = tuple(key for key in section.keys if any(covers(name, key.key) for name in wanted))
    return dataclasses.replace(section, keys=keys, options={}) if keys else None


def _unknown(name: str, names: set[str]) -> Problem:
    meant = nearest(name, names)
    remedy = f"did you mean {meant}?" if meant else "leave it out to see everything"
    return Problem("--describe", repr(name), "a section, a config group or a key of the configuration", remedy)


def _text_lines(section: SectionHelp) -> Iterator[str]:
    yield from textwrap.wrap(f"{section.name or 'top level'}: {section.text}", _WIDTH)
    for key in section.keys:
        yield f"  {key.key}: {key.default}" + (f"  ({key.type})" if key.type else "")
        yield from textwrap.wrap(key.explained, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    for option, text in section.options.items():
        yield f"  {section.name}={option}"
        yield from textwrap.wrap(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
