"""Checkpoint files: finding them by patterns, and their identity."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.readers import reader_of, registered_suffixes


def find(patterns: str | Sequence[str], base: Path) -> list[Path]:
    """The files that the patterns match, relative to ``base``, in the order of the patterns; matches of one in natural order.

    ``**`` matches any depth; a pattern that is the name of a file means that file; a file is listed once.

    Raises:
        ConfigError: no pattern; or all patterns that match no file, and all files that no registered reader reads.
    """
    several = [patterns] if isinstance(patterns, str) else list(patterns)
    files: dict[Path, None] = {}
    problems = [] if several else [_problem("an empty list")]
    for pattern in several:
        literal = base / pattern
        matches = [literal] if literal.is_file() else _matches(pattern, base)
        files.update(dict.fromkeys(matches))
        if not matches:
            problems.append(_problem(f"{pattern!r}, which matches no file in {base.resolve()}"))
    for file in files:
        try:
            reader_of(file)
        except InputError as error:
            problems += [Problem("checkpoints", str(file), told.expected, told.remedy) for told in error.problems]
    if problems:
        raise ConfigError(problems)
    return list(files)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits: the identity of a checkpoint. For several files, that of their digests.

    Raises:
        InputError: a file cannot be read.
    """
    files = reader_of(path).files
    if files is not None:
        return hashlib.sha256("".join(_digest(file) for file in files(path)).encode()).hexdigest()
    return _digest(path)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error


def name_of(path: Path, digest: str) -> str:
    """A checkpoint's folder name: its stem in safe characters, a dash, and the first 8 digits of its SHA-256."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._-")[:64]
    return f"{stem or 'checkpoint'}-{digest[:8]}"


def _matches(pattern: str, base: Path) -> list[Path]:
    """The files under ``base`` that match; special characters in ``base`` itself are not interpreted."""
    paths = [base / name for name in glob.glob(pattern, root_dir=base, recursive=True)]
    return sorted((path for path in paths if path.is_file()), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts step_9 before step_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _problem(found: str) -> Problem:
    expected = f"patterns that match checkpoint files ({', '.join(registered_suffixes())})"
    return Problem("checkpoints", found, expected, "correct checkpoints, or run `trak train`")
