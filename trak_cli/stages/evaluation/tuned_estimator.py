"""The estimator that `trak tune` chose, as a file of the config group ``estimator`` and as command-line overrides."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from trak_cli.attribution.estimator.describe import describe_formula
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.errors import ConfigError, Problem
from trak_cli.store.atomic_write import replace

#: First line of every file written here; only such files are replaced.
_HEADER = "# Written by `trak tune`; another run with the same tune.name replaces it."


def estimator_file(folder: str | None, name: str) -> Path | None:
    """The path of the estimator as an option of the config group ``estimator``; None if no folder is given."""
    return None if folder is None else Path(folder) / "estimator" / f"{name}.yaml"


def check_file(path: Path | None) -> Path | None:
    """Check that ``path`` can be written; returns it.

    Raises:
        ConfigError: its config folder does not exist, or it is a file that `trak tune` did not write.
    """
    if path is None:
        return None
    if not path.parent.parent.is_dir():
        folder = str(path.parent.parent)
        remedy = "give the folder that you pass as -d"
        raise ConfigError(Problem("tune.folder", f"{folder}, which is not a folder", "your folder of YAML files", remedy))
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_HEADER):
        expected = "no file, or one that trak tune wrote"
        raise ConfigError(Problem("tune.name", f"{path}, which is a file of your own", expected, "choose another tune.name"))
    return path


def write_estimator(path: Path, spec: EstimatorSpec, lds: float) -> None:
    """Write the estimator as YAML, with ``lds`` in a comment.

    Raises:
        MachineError: the file cannot be written.
    """
    lines = [_HEADER, f"# {describe_formula(spec)}", f"# LDS on the held-out targets and subsets: {lds:.3f}"]
    # JSON is valid YAML and quotes every text, so that a name such as `on` remains text.
    lines += [f"{name}: {json.dumps(value)}" for name, value in _values(spec).items()]
    replace(path, ("\n".join(lines) + "\n").encode())


def overrides_of(spec: EstimatorSpec) -> list[str]:
    """The estimator as command-line overrides: ``estimator.name=tuned``, …"""
    return [f"estimator.{name}={_shown(value)}" for name, value in _values(spec).items()]


def _values(spec: EstimatorSpec) -> dict[str, Any]:
    """Every field: the configured estimator may have other values where this one has a default."""
    return {field.name: getattr(spec, field.name) for field in fields(spec)}


def _shown(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
