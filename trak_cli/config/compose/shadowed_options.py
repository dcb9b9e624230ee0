"""Options selected on the command line that keys of the user's own file would silently replace."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from trak_cli.config.compose.compose import Source
from trak_cli.config.compose.files import config_groups, read_option
from trak_cli.config.compose.overrides import Change, Choice
from trak_cli.config.keys import types_of
from trak_cli.config.schema import TrakConfig
from trak_cli.config.wording import covers, shown
from trak_cli.errors import Problem


def overruled(source: Source, choices: Sequence[Choice], changes: Sequence[Change], tree: DictConfig) -> Iterator[Problem]:
    """A problem for each selected option with a value that the user's file replaces and the command line does not.

    Args:
        tree: the composed tree, without ``changes``.
    """
    for choice in choices:
        group, _, option = choice.text.partition("=")
        mine = source.own_values.get(group)
        if not isinstance(mine, dict):
            continue
        wanted = _defaults(group) | read_option(group, option, source.config_dir)
        for key, value in wanted.items():
            name = f"{group}.{key}"
            replaced = key in mine and "${" not in str(value) and _plain(tree, name) != value
            if replaced and not any(covers(change.key, name) or change.key == name for change in changes):
                yield Problem(
                    group,
                    f"{option}, with {name}={_written(_plain(tree, name))} from {source.own_file}, which is read after it",
                    f"{name}={_written(value)}, as in {group}={option}",
                    f"remove {key} from the file, or give {name}={_written(value)} on the command line as well",
                )


def _defaults(group: str) -> dict[str, Any]:
    """The defaults of the keys that any shipped option of the group sets, which an option without such a key implies."""
    section = types_of(TrakConfig).get(group)
    if not dataclasses.is_dataclass(section):
        return {}
    options = config_groups().get(group, ())
    keys = {key for option in options for key in read_option(group, option, None)}
    defaults = dataclasses.asdict(typing.cast("Any", section)())
    plugins = [name for name, hint in types_of(section).items() if hint in (Any, dict[str, Any])]
    return {key: value for key, value in defaults.items() if key in keys and key not in plugins and value != MISSING}


def _written(value: Any) -> str:
    """The value as it is written on the command line."""
    return value if isinstance(value, str) else shown(value)


def _plain(tree: DictConfig, name: str) -> Any:
    value = OmegaConf.select(tree, name)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
