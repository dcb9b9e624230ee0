"""Parsing of command-line overrides, one at a time, so that every bad one is reported."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from trak_cli.config.compose.files import option_exists
from trak_cli.config.wording import nearest, one_line, one_of
from trak_cli.errors import Problem

NO_SWEEPS = "one value, because a run has one configuration and one store"
NO_HYDRA = "keys of trak only: Hydra composes the configuration and does nothing else (no run folder, no launcher)"


#: Keys of paths, whose values need no quotes of Hydra around = and ~.
_PATHS = ("store", "checkpoints", "checkpoints.files", "train.folder", "train.start", "tune.folder", "lds.ground_truth")


@dataclass(frozen=True)
class Choice:
    """``group=option`` (or a list of options), as written, without a leading +."""

    text: str


@dataclass(frozen=True)
class Change:
    """``key=value``, or ``~key`` (``delete``)."""

    key: str
    value: Any
    delete: bool = False


@dataclass
class Parsed:
    """The overrides by their effect.

    Attributes:
        choices: group selections, for Hydra.
        changes: values to set once the files are composed, in order.
        problems: the problems of the others.
        dropped: the keys that the others were meant to set; further problems with these keys are not reported.
    """

    choices: list[Choice] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)


def parse(texts: Sequence[str], groups: Mapping[str, Sequence[str]], config_dir: Path | None) -> Parsed:
    """Parse every override separately."""
    parser = OverridesParser.create()
    parsed = Parsed()
    for text in texts:
        problem = _refusal(text)
        if problem is None:
            try:
                override = _parsed(parser, text)
            except (HydraException, ValueError, RecursionError) as error:
                problem = _bad_syntax(text, error)
            else:
                problem = _sort(override, text, groups, config_dir, parsed)
        if problem is not None:
            parsed.problems.append(problem)
            parsed.dropped.add(_key_of(text))
    return parsed


def add_values(parsed: Parsed, values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], config_dir: Path | None) -> None:
    """Add Python values by dotted key; a text for a config group selects its option."""
    for key, value in values.items():
        if key in groups and isinstance(value, str):
            problem = _unknown_option(key, value, groups, config_dir)
            if problem is None:
                parsed.choices.append(Choice(f"{key}={value}"))
            else:
                parsed.problems.append(problem)
                parsed.dropped.add(key)
        else:
            parsed.changes.append(Change(key, _as_written(value)))


def _as_written(value: Any) -> Any:
    """The value as a configuration has it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _as_written(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_written(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _parsed(parser: OverridesParser, text: str) -> Override:
    """The override. Paths are taken as they are: names of Lightning's checkpoints contain ``=``, and ``~`` is a home folder."""
    try:
        return parser.parse_override(text)
    except HydraException:
        key, _, value = text.partition("=")
        if key not in _PATHS or not {"=", "~"}.intersection(value) or _is_bare_list(value):
            raise
        return parser.parse_override(f"{key}={_quoted(value)}")


def _is_bare_list(value: str) -> bool:
    return "," in value and value[:1] not in ("[", '"', "'")


def _quoted(value: str) -> str:
    """The value in quotes of Hydra; for a list, each of its items."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(_quoted(item.strip()) for item in value[1:-1].split(','))}]"
    if value[:1] in "'\"" and value[-1:] == value[:1]:
        return value
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'


def _key_of(text: str) -> str:
    """The key or group of an override that was not parsed, as far as its text tells."""
    return text.partition("=")[0].lstrip("+~").partition("@")[0]


def _refusal(text: str) -> Problem | None:
    """A problem if the text is an option or a key of Hydra itself, which are refused before parsing."""
    if text in ("-m", "--multirun"):
        return Problem(text, "a sweep", NO_SWEEPS, "run trak once per value, each with its own name=…")
    if not _is_unicode(text):
        return Problem(ascii(text)[:80], "bytes that are no text in UTF-8", "UTF-8", "rename what it names, or correct it")
    if text.startswith("-"):
        return Problem(text, "an option", "key=value", "put options before the overrides; --help lists them")
    key = text.partition("=")[0].lstrip("+~")
    if key == "hydra" or key.startswith(("hydra.", "hydra/", "hydra@")):
        return Problem(key, repr(text), NO_HYDRA, f"leave {key} out; the folder of a run is store=…")
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad_syntax(text: str, error: Exception) -> Problem:
    if not text.startswith("~") and "=" not in text:
        return Problem(text, "no '='", "key=value", f"write {text}=VALUE, or ~{text} to remove the key")
    key, _, value = text.partition("=")
    quoted = shlex.quote(f"{key}={_quoted(f'[{value}]' if key in _PATHS and _is_bare_list(value) else value)}")
    remedy = f"quote the value, inside quotes of the shell: {quoted}" if value else "check the key"
    reason = one_line(error).partition(" expecting ")[0]
    return Problem(key, repr(text), f"Hydra's override syntax ({reason})", remedy)


def _sort(
    override: Override, text: str, groups: Mapping[str, Sequence[str]], config_dir: Path | None, parsed: Parsed
) -> Problem | None:
    """Add the override to the choices or changes; or return its problem."""
    key = override.key_or_group
    if override.is_sweep_override():
        found = f"a sweep over {text.partition('=')[2]}"
        listed = shlex.quote(f"{key}=[{text.partition('=')[2]}]")
        return Problem(key, found, NO_SWEEPS, f"run trak once per value, or give {listed} if a list was meant")
    value: Any = override.value()
    group = key.split("/", 1)[0]
    if group in groups and not override.is_delete() and isinstance(value, str | list):
        problem = _unknown_option(key, value, groups, config_dir)
        if problem is None:
            parsed.choices.append(Choice(text.lstrip("+")))
        return problem
    if override.package is not None or "/" in key:
        expected = f"a config group before '@' and '/': {one_of(list(groups))}"
        return Problem(key, repr(text), expected, "write a dotted key, or select from a group")
    parsed.changes.append(Change(key, value, override.is_delete()))
    return None


def _unknown_option(
    group: str, value: str | list[Any], groups: Mapping[str, Sequence[str]], config_dir: Path | None
) -> Problem | None:
    known = groups.get(group, ())
    for option in value if isinstance(value, list) else [value]:
        if not option_exists(group, str(option), config_dir):
            meant = nearest(str(option), known)
            remedy = f"did you mean {group}={meant}?" if meant else "select one of those, or add a YAML file to the group"
            return Problem(group, f"no option {str(option)!r}", one_of(known), remedy)
    return None
