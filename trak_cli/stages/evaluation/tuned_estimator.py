"""A chosen estimator as a file of the config group ``estimator``, and as arguments of a command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from trak_cli.attribution.estimator.spec import EstimatorSpec, describe_formula
from trak_cli.errors import ConfigError, Problem
from trak_cli.store.atomic_write import replace

#: First line of a file that may be replaced.
_HEADER = "# Written by `trak tune`; another call with the same tune.name replaces it."


def estimator_file(folder: str | None, name: str) -> Path | None:
    """Where the estimator is written, as an option of the group ``estimator``; None without a folder."""
    return None if folder is None else Path(folder) / "estimator" / f"{name}.yaml"


def check_file(path: Path | None) -> Path | None:
    """The same path, when nobody's own file is there, and its folder of YAML files is.

    Raises:
        ConfigError: the folder is none, or a file is there that `trak tune` did not write.
    """
    if path is None:
        return None
    if not path.parent.parent.is_dir():
        folder = str(path.parent.parent)
        raise ConfigError(
            Problem("tune.folder", f"{folder}, which is no folder", "your folder of YAML files", "give the folder of -d")
        )
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_HEADER):
        expected = "no file, or one that trak tune wrote"
        raise ConfigError(Problem("tune.name", f"{path}, which is a file of your own", expected, "give tune.name=NAME"))
    return path


def write_estimator(path: Path, spec: EstimatorSpec, lds: float) -> None:
    """Write the estimator as YAML; ``lds`` is told in a comment.

    Raises:
        MachineError: it cannot be written.
    """
    lines = [_HEADER, f"# {describe_formula(spec)}", f"# LDS on the targets and subsets that were not searched: {lds:.3f}"]
    # JSON is YAML too, and quotes every text: a name such as on stays one.
    lines += [f"{name}: {json.dumps(value)}" for name, value in asdict(spec).items()]
    replace(path, ("\n".join(lines) + "\n").encode())


def overrides_of(spec: EstimatorSpec) -> list[str]:
    """The estimator as overrides: ``estimator.name=tuned``, …"""
    values = asdict(spec).items()
    return [f"estimator.{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values]
