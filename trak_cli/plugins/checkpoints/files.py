"""Checkpoint files and folders: finding them by patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.formats.folders import INDEX, index_of, is_other, weights_in
from trak_cli.plugins.checkpoints.readers import reader_of, registered_suffixes
from trak_cli.types import by_numbers

_KEY = "checkpoints"


def find(patterns: str | Sequence[str], base: Path) -> list[Path]:
    """The checkpoints that the patterns match, in the order of the patterns; matches of one pattern in natural order.

    Patterns are relative to ``base``; ``**`` matches any depth and ``~`` is the home folder. If a file or folder has the name
    of a pattern, the pattern means this file or folder. A checkpoint is a file, or a folder with weights, such as those of
    ``save_pretrained``. It is listed once, and a shard of a model in several files stands for the whole model. Optimizer files
    and folders without weights that a pattern matches are left out.

    Raises:
        ConfigError: no pattern; or all patterns that match no checkpoint, and all files that no registered reader reads.
    """
    globs = [patterns] if isinstance(patterns, str) else list(patterns)
    problems = [] if globs else [_problem("an empty list")]
    checkpoints: dict[Path, None] = {}
    refused: dict[Problem, None] = {}
    for pattern in map(os.path.expanduser, globs):
        literal = base / pattern
        matches = [literal] if literal.exists() else _matches(pattern, base)
        if not matches:
            problems.append(_problem(f"{pattern!r}, which matches no file in {base.resolve()}"))
        for path in list(filter(_is_checkpoint, matches)) or matches[:1]:
            path = index_of(path) or path
            problem = refusal(path, pattern)
            if problem is None:
                checkpoints[path] = None
            else:
                refused[problem] = None
    ConfigError.raise_for([*problems, *refused])
    return list(checkpoints)


def refusal(path: Path, pattern: str) -> Problem | None:
    """Why a path cannot be read as a checkpoint, with a pattern that can; None if it can."""
    if path.is_dir():
        return _folder_problem(path, pattern) if weights_in(path) is None else None
    if path.suffix == ".distcp" or path.name == INDEX:
        found = f"{path.parent}, named by one of its files"
        return Problem(_KEY, found, "the folder that torch.distributed.checkpoint wrote", f"give {_containing(path, pattern)}")
    if is_other(path):
        remedy = f"give {_containing(path, pattern)}" if weights_in(path.parent) else "name the file with the weights"
        return Problem(_KEY, f"{path}, which training writes beside the weights", "a file with weights", remedy)
    try:
        reader_of(path)
    except InputError as error:
        problem = error.problems[0]
        remedy = f"give {_containing(path, pattern)}" if weights_in(path.parent) else problem.remedy
        return Problem(_KEY, str(path), problem.expected, remedy)
    return None


def _matches(pattern: str, base: Path) -> list[Path]:
    """The paths under ``base`` that match; special characters in ``base`` itself are not interpreted."""
    return sorted(
        (base / name for name in glob.glob(pattern, root_dir=base, recursive=True)), key=lambda path: by_numbers(str(path))
    )


def _is_checkpoint(path: Path) -> bool:
    """Whether a match of a pattern is a checkpoint: neither an optimizer state nor a folder without weights."""
    return weights_in(path) is not None if path.is_dir() else path.is_file() and not is_other(path)


def _folder_problem(folder: Path, pattern: str) -> Problem:
    """The problem of a folder without weights of its own, with the pattern of the weights in it, if there is only one."""
    inside = sorted(folder.iterdir()) if os.access(folder, os.R_OK) else []
    suffixes = {path.suffix for path in inside if path.suffix in registered_suffixes() and not is_other(path)}
    patterns = [f"{pattern.rstrip('/')}/*{suffix}" for suffix in sorted(suffixes)]
    if any(path.is_dir() and weights_in(path) for path in inside):
        patterns.append(f"{pattern.rstrip('/')}/*")
    remedy = f"give '{_KEY}={patterns[0]}'" if len(patterns) == 1 else "name the files or folders with the weights"
    expected = "a folder with model.safetensors, pytorch_model.bin, their indexes, or .metadata"
    return Problem(_KEY, f"{folder}, a folder that is not a checkpoint", expected, remedy)


def _containing(path: Path, pattern: str) -> str:
    """The option that names the folder of a path, or all such folders if the pattern has wildcards."""
    folder = os.path.dirname(pattern) or "."
    return f"'{_KEY}={path.parent if os.path.basename(folder) == '**' else folder}'"


def _problem(found: str) -> Problem:
    expected = f"patterns that match checkpoint files ({', '.join(registered_suffixes())}) or folders"
    return Problem(_KEY, found, expected, "correct checkpoints, or run `trak train`")
