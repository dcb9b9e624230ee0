"""A user's folder with YAML and plugins, and a way to see every problem of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from trak_cli.config.load import Loaded, load
from trak_cli.errors import ConfigError, Problem

PLUGINS = """
from pathlib import Path

import torch


class Net(torch.nn.Module):
    def __init__(self, width, depth=2):
        super().__init__()
        self.width, self.depth = width, depth


class Data:
    def __init__(self, rows=3, transform=None):
        if rows < 0:
            raise ValueError("rows must not be negative")
        self.rows, self.transform = rows, transform


class Task:
    pass


def pad(samples, value=0):
    return samples, value


class Padding:
    def __init__(self, value):
        self.value = value

    def __call__(self, samples):
        return samples, self.value


def padding(value=0):
    return Padding(value)


NUMBER = 3
"""

CONFIG = """
defaults: [trak, _self_]
name: mine
checkpoints: "*.pt"
model: {_target_: plug_{id}.Net, width: 4}
task: {_target_: plug_{id}.Task}
dataset:
  train: {_target_: plug_{id}.Data}
  targets:
    test: {_target_: plug_{id}.Data, rows: 1}
"""


@dataclass
class Project:
    """The folder of a user: a YAML file, a plugin module of a unique name, and a checkpoint."""

    folder: Path
    module: str
    name: str | None = None

    def write(self, path: str, text: str) -> None:
        """A file of the folder; ``plug`` at the start of a dotted path stands for the plugin module."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).replace("plug.", f"{self.module}."), encoding="utf-8")

    def load(self, *overrides: str, stage: str = "featurize", data_files: bool = False) -> Loaded:
        changes = [text.replace("plug.", f"{self.module}.") for text in overrides]
        return load(stage, self.name, self.folder, changes, data_files=data_files)

    def problems(self, *overrides: str, stage: str = "featurize", data_files: bool = False) -> dict[str, Problem]:
        with pytest.raises(ConfigError) as caught:
            self.load(*overrides, stage=stage, data_files=data_files)
        return by_key(caught.value)


def by_key(error: ConfigError) -> dict[str, Problem]:
    """The problems under their keys, which are all different."""
    keys = [problem.where for problem in error.problems]
    assert len(set(keys)) == len(keys), keys
    for problem in error.problems:
        assert problem.found
        assert problem.expected
        assert problem.remedy
    return {problem.where: problem for problem in error.problems}


def make_project(folder: Path, identity: str) -> Project:
    """A folder with a complete configuration, plugins whose module name ends in ``identity``, and a checkpoint."""
    folder.mkdir()
    (folder / f"plug_{identity}.py").write_text(PLUGINS, encoding="utf-8")
    (folder / "mine.yaml").write_text(CONFIG.replace("{id}", identity), encoding="utf-8")
    (folder / "a.pt").write_bytes(b"weights")
    return Project(folder, f"plug_{identity}")
