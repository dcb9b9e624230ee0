"""Shell completion of overrides and config names. Nothing that takes time is imported: no PyTorch, no Hydra."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import typer


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys, groups and options that continue a text: ``fea`` -> ``features.``, ``estimator=c`` -> ``estimator=cosine``."""
    folder = ctx.params.get("config_dir")
    before = _split_by_bash()
    if before:
        found = _continuations(before + incomplete, folder)
        return [text.removeprefix(before) for text in found]
    found = _continuations(incomplete, folder)
    while len(found) == 1 and found[0].endswith((".", "=")):  # a shell would put a space after the only candidate
        more = _continuations(found[0], folder)
        if more in ([], found):
            break
        found = more
    return found


def _continuations(text: str, folder: Any) -> list[str]:
    name, equals, value = text.partition("=")
    groups = _groups(folder)
    if equals:
        options = groups[name] if name in groups else _choices(name)
        return [f"{name}={option}" for option in options if option.startswith(value)]
    return sorted({found for found in [*(f"{group}=" for group in groups), *_next(name)] if found.startswith(name)})


def _split_by_bash() -> str:
    """``KEY=``, if bash has split ``KEY=VALUE`` at the equals sign and asks for the value alone; else empty."""
    if os.environ.get("_TRAK_COMPLETE") != "complete_bash":
        return ""
    words, place = os.environ.get("COMP_WORDS", "").split(), int(os.environ.get("COMP_CWORD", "0"))
    if words[place : place + 1] == ["="] and place >= 1:
        return f"{words[place - 1]}="
    return f"{words[place - 2]}=" if place >= 2 and words[place - 1 : place] == ["="] else ""


def complete_config_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the configurations in the folder of ``-d``, or of the shipped ones."""
    from trak_cli.config.compose.files import names_in, shipped_folder

    folder = _folder(ctx.params.get("config_dir"))
    return [name for name in names_in(folder or shipped_folder()) if name.startswith(incomplete)]


def _groups(config_dir: Any) -> dict[str, list[str]]:
    """Every config group and its options."""
    from trak_cli.config.compose.files import config_groups

    return config_groups(_folder(config_dir))


def _folder(config_dir: Any) -> Path | None:
    """The folder of ``-d`` if there is one; while it is being typed, it may not exist."""
    return Path(config_dir) if config_dir is not None and Path(config_dir).is_dir() else None


def _next(name: str) -> Iterator[str]:
    """The keys on the level of ``name``: a section ends with a dot, and a key with a value with an equals sign."""
    *path, _ = name.split(".")
    section = _section(path)
    if section is not None:
        hints = get_type_hints(section)
        for item in dataclasses.fields(section):
            end = "." if dataclasses.is_dataclass(hints[item.name]) else "="
            yield ".".join([*path, item.name]) + end


def _section(path: list[str]) -> Any:
    """The dataclass of a section; None if there is no such section."""
    from trak_cli.config.schema import TrakConfig

    section: Any = TrakConfig
    for name in path:
        section = get_type_hints(section).get(name)
        if not dataclasses.is_dataclass(section):
            return None
    return section


def _choices(name: str) -> list[str]:
    """The values that a key accepts, if they are a few texts, or true and false."""
    *path, last = name.split(".")
    section = _section(path)
    found = {item.name: item for item in dataclasses.fields(section)} if section is not None else {}
    if last not in found:
        return []
    hint = get_type_hints(section)[last]
    if hint is bool or bool in typing.get_args(hint):
        return ["true", "false"]
    return [str(choice) for choice in found[last].metadata.get("choices", ())]
