"""Problems with the keys of ``checkpoints`` (every pattern must match a checkpoint), and with ``train.start``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from trak_cli.config.compose.plugin_import import locate
from trak_cli.config.schema import CheckpointsConfig
from trak_cli.config.wording import shown
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.checkpoints.files import find, refusal

KEY = "checkpoints"


def checkpoint_problems(checkpoints: CheckpointsConfig, base: Path) -> Iterator[Problem]:
    """Problems with the patterns, and with names of classes that cannot be imported. Relative patterns start at ``base``."""
    if checkpoints.files not in (None, MISSING, []):
        yield from _pattern_problems(checkpoints.files, base)
    for index, name in enumerate(checkpoints.allow):
        where = f"{KEY}.allow[{index}]"
        try:
            found = locate(name, where)
        except ConfigError as error:
            yield from error.problems
        else:
            if not isinstance(found, type):
                expected = "a class: a file could call a function with any arguments"
                yield Problem(where, f"{name}, a {type(found).__name__}", expected, f"remove {name}")


def _pattern_problems(patterns: Any, base: Path) -> Iterator[Problem]:
    listed = isinstance(patterns, list)
    texts = []
    for index, pattern in enumerate(patterns if listed else [patterns]):
        if isinstance(pattern, str) and pattern:
            texts.append(pattern)
        else:
            where = f"{KEY}[{index}]" if listed else KEY
            expected = "a glob pattern, or a list of them"
            yield Problem(where, shown(pattern), expected, "give checkpoints=FOLDER/*.safetensors")
    if texts:
        try:
            find(texts, base)
        except ConfigError as error:
            yield from error.problems


def start_problems(path: str | None, base: Path) -> Iterator[Problem]:
    """Problems with ``train.start``. A relative path starts at ``base``."""
    if path is None:
        return
    if not (base / path).exists():
        found = f"{shown(path)}, which is no file in {base.resolve()}"
        yield Problem("train.start", found, "a checkpoint file or folder", "correct the path, or give train.start=null")
    elif (problem := refusal(base / path, path)) is not None:
        yield replace(problem, where="train.start")
