"""Problems with the patterns of ``checkpoints``, each of which must match a file, and with ``train.start``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trak_cli.config.wording import shown
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.checkpoints.files import find

KEY = "checkpoints"


def checkpoint_problems(patterns: Any, base: Path) -> Iterator[Problem]:
    """Problems with the patterns. Relative ones start at ``base``."""
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
    if path is not None and not (base / path).is_file():
        found = f"{shown(path)}, which is no file in {base.resolve()}"
        yield Problem("train.start", found, "a checkpoint file", "correct the path, or give train.start=null")
