"""Checkpoint patterns: text or a list of texts, each of which must match a file."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trak_cli.config.wording import shown
from trak_cli.errors import Problem

KEY = "checkpoints"
_EXPECTED = "a glob pattern, or a list of them"


def checkpoint_problems(patterns: Any, base: Path) -> Iterator[Problem]:
    """What is wrong with the patterns; relative ones start at ``base``."""
    listed = isinstance(patterns, list)
    for index, pattern in enumerate(patterns if listed else [patterns]):
        key = f"{KEY}[{index}]" if listed else KEY
        if not isinstance(pattern, str) or not pattern:
            yield Problem(key, shown(pattern), _EXPECTED, "give checkpoints=FOLDER/*.safetensors")
        elif not matches(pattern, base):
            yield Problem(
                key,
                f"{pattern!r}, which matches no file (in {base})",
                "a pattern that matches at least one file",
                "correct the path, or make the checkpoints first (trak train)",
            )


def matches(pattern: str, base: Path) -> bool:
    """Whether a file matches the pattern; a file whose very name it is counts, whatever characters it has."""
    path = base / Path(pattern).expanduser()
    return path.is_file() or any(Path(found).is_file() for found in glob.iglob(str(path), recursive=True))
