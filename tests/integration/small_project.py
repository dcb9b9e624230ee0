"""Helpers of the integration tests: a store read back whole, files by content and age, and command lines as they are typed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_project import Project
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows, read_features
from trak_cli.types import Rows

#: Of training rows: per-token terms where f is a sum, and the other classes where there are three or more.
SECOND = ("term_features", "terms", "class_features", "residuals")
COLUMNS = ("features", "out_to_loss", "outputs", "sample_ids", "predicted", "predicted_probability", *SECOND)

#: (checkpoint, split) -> all rows of it.
Everything = dict[tuple[str, str], FeatureRows]


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file was written again."""

    content: bytes
    modified: int
    inode: int


def read_store(root: Path) -> Everything:
    """Every feature of a store, the shards of each split put together; they must follow one another without a gap."""
    layout = Layout(root)
    found = {}
    for checkpoint in layout.checkpoints():
        for split in layout.splits(checkpoint):
            shards = [read_features(layout.features(checkpoint, split, i)) for i in layout.shards(checkpoint, split)]
            bounds = [0, *(shard.rows.stop for shard in shards)]
            assert [shard.rows.start for shard in shards] == bounds[:-1]
            names = [name for name in COLUMNS if getattr(shards[0], name) is not None]
            columns = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in names}
            found[checkpoint, split] = FeatureRows(rows=Rows(0, bounds[-1]), **columns)
    return found


def elsewhere(project: Project, *overrides: str) -> Everything:
    """The features of another run of the same project."""
    project.done("featurize", "store=runs/other", *overrides)
    return read_store(project.folder / "runs" / "other")


def assert_identical(found: Everything, expected: Everything) -> None:
    """The same bits in every column."""
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        for name in _columns(found[key], one):
            assert getattr(found[key], name).tobytes() == getattr(one, name).tobytes(), (key, name)


def assert_close(found: Everything, expected: Everything, relative: float) -> None:
    """The same samples; no value further off than ``relative`` times the largest one of its column."""
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        assert (found[key].sample_ids == one.sample_ids).all(), key
        for name in set(_columns(found[key], one)) - {"sample_ids"}:
            assert relative_error(getattr(found[key], name), getattr(one, name)) < relative, (key, name)


def _columns(found: FeatureRows, expected: FeatureRows) -> list[str]:
    names = [name for name in COLUMNS if getattr(found, name) is not None]
    assert names == [name for name in COLUMNS if getattr(expected, name) is not None]
    return names


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, over the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def stamps(folder: Path) -> dict[str, Stamp]:
    """Every HDF5 file below a folder."""
    files = sorted(folder.rglob("*.h5"))
    return {
        str(file.relative_to(folder)): Stamp(file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in files
    }


def type_command(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> str:
    """Run a line of a shell that calls ``trak``, in this process and in ``folder``; it must succeed. Its stdout."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "trak"
    with monkeypatch.context() as context:
        context.chdir(folder)
        result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    return result.stdout
