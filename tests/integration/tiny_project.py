"""A user's project as small as can be (plugin file, YAML file, two checkpoints; a hook for every kind of harm), and the
program called on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from trak_cli.cli.app import app

ROWS, TARGETS, DIM, SHARD_ROWS, MICROBATCH = 60, 12, 32, 16, 8

PLUGIN = '''
import itertools

import torch
from torch import nn


class Net(nn.Module):
    """8 -> 6 -> 3. ``batch_statistics``: the output of a sample depends on its batch."""

    def __init__(self, batch_statistics=False):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)
        self.batch_statistics = batch_statistics

    def forward(self, x):
        if self.batch_statistics:
            x = x - x.mean(dim=0, keepdim=True)
        return self.second(torch.tanh(self.first(x)))


class Normed(nn.Sequential):
    """A model with batch normalisation."""

    def __init__(self):
        super().__init__(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


class Data:
    """Rows that depend on ``seed`` and the row number alone, unless a fault is requested.

    nan, label, edit: the row that has a NaN input, a label out of range, other content. random: a new draw at each read.
    """

    def __init__(self, rows, seed=0, nan=None, label=None, edit=None, random=False):
        self.rows, self.seed, self.faults, self.random = rows, seed, (nan, label, edit), random
        self.reads = itertools.count()

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        if not 0 <= row < self.rows:
            raise IndexError(row)
        generator = torch.Generator().manual_seed(1000 * self.seed + row)
        inputs = torch.randn(8, generator=generator)
        answer = int(torch.randint(3, (), generator=generator))
        nan, label, edit = self.faults
        if row == nan:
            inputs[3] = float("nan")
        if row == edit:
            inputs = inputs + 1
        if self.random:
            inputs = inputs + next(self.reads)
        return inputs, 7 if row == label else answer
'''

CONFIG = f"""
defaults:
  - trak
  - _self_
name: tiny
device: cpu
threads: 1
checkpoints: checkpoints/*
model: {{_target_: tiny_plugin.Net}}
dataset:
  train: {{_target_: tiny_plugin.Data, rows: {ROWS}, seed: 1}}
  targets:
    test: {{_target_: tiny_plugin.Data, rows: {TARGETS}, seed: 2}}
gradients:
  engine: hooks
  microbatch: {MICROBATCH}
projection:
  kind: rademacher
  dim: {DIM}
features:
  shard_rows: {SHARD_ROWS}
score:
  target_block: 8
lds:
  bootstrap: 20
  plot: false
"""


def weights(seed: int) -> dict[str, torch.Tensor]:
    """A state_dict that fits ``tiny_plugin.Net``."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"first.weight": (6, 8), "first.bias": (6,), "second.weight": (3, 6), "second.bias": (3,)}
    return {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}


def write_project(folder: Path) -> None:
    """Plugin, YAML, and one checkpoint of each kind of file."""
    folder.mkdir(parents=True)
    (folder / "tiny_plugin.py").write_text(PLUGIN)
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "checkpoints").mkdir()
    save_file(weights(0), folder / "checkpoints" / "a.safetensors")
    torch.save({"state_dict": weights(1)}, folder / "checkpoints" / "b.pt")


@dataclass(frozen=True)
class Outcome:
    """How one call of the program ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Project:
    """A folder with the tiny project; ``store`` is where its run is."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "tiny"

    def trak(self, stage: str, *arguments: str) -> Outcome:
        """Call the program in this process, in the project's folder."""
        return call(self.folder, self.monkeypatch, stage, *arguments)

    def done(self, stage: str, *arguments: str) -> Outcome:
        """Call the program where it must succeed."""
        outcome = self.trak(stage, *arguments)
        assert outcome.code == 0, outcome.stderr
        return outcome

    def refused(self, code: int, stage: str, *arguments: str, says: tuple[str, ...]) -> str:
        """Call the program where it must refuse: the exit code, every part of the problems, nothing written changed.

        Args:
            code: the documented exit code.
            says: texts that the message must contain (where, found and expected of the problems).
        """
        before = self.files()
        outcome = self.trak(stage, *arguments)
        assert outcome.code == code, outcome.stdout + outcome.stderr
        assert "Traceback" not in outcome.stderr
        for text in (*says, "found:", "expected:", "do:"):
            assert text in outcome.stderr, f"{text!r} is not in\n{outcome.stderr}"
        after = self.files()
        assert {path: after.get(path) for path in before} == before, "a file that was there has changed"
        assert not list(self.folder.rglob("*.tmp"))
        return outcome.stderr

    def files(self) -> dict[str, bytes]:
        """Everything in the store and among the checkpoints."""
        folders = (self.folder / "runs", self.folder / "checkpoints")
        return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}

    def shard(self, split: str = "train", index: int = 0, checkpoint: str = "a") -> Path:
        """A feature shard of the store."""
        (folder,) = self.store.glob(f"features/{checkpoint}-*")
        return folder / split / f"{index // 1000:03}" / f"{index:05}.h5"


def call(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Outcome:
    """One call of the program in this process; an exception that is no exit is a bug, and raised."""
    with monkeypatch.context() as context:
        context.chdir(folder)
        stage, *rest = arguments
        result = CliRunner().invoke(app, [stage, "-d", ".", *rest])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
