"""Configurations that come with a store: somebody else may have made it, and a configuration runs the code that it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from trak_cli.config.compose.compose import Source
from trak_cli.config.compose.files import choose_config
from trak_cli.types import listed

#: Folders and files of which every store has some, and no project.
_OF_STORES = ("plan.json", "splits", "features", "finalized", "scores")


def code_from_store(config_name: str | None, config_dir: Path | None) -> str | None:
    """What to say before a configuration is used that lies in the folder of a store; None if it does not, or names no code.

    Raises:
        ConfigError: there is no such configuration.
    """
    store = next(filter(_is_store, _with_parents(config_dir)), None) if config_dir is not None else None
    if store is None:
        return None
    source = Source(choose_config(config_name, config_dir), config_dir)
    try:
        named = sorted(set(_named(source.own_values, "")))
    except (OmegaConfBaseException, YAMLError, OSError):  # reported when the configuration is composed
        return None
    if not named:
        return None
    return (
        f"warning: {source.own_file} comes with the store {store}, and runs the code that it names: {listed(named, 8)}; use it"
        " only if you would run a script of the person who made the store"
    )


def _with_parents(folder: Path) -> list[Path]:
    resolved = folder.resolve()
    return [resolved, *resolved.parents][:4]


def _is_store(folder: Path) -> bool:
    return sum((folder / name).exists() for name in _OF_STORES) >= 2


def _named(value: Any, key: str) -> Iterator[str]:
    """The names of code in a configuration: plugins, and the modules of extensions."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _named(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, key)
    elif isinstance(value, str) and key in ("_target_", "extensions"):
        yield value
