"""Projects whose weights are shipped by Python packages, and runs of the program on them."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.store.layout import Layout
from trak_cli.store.shards import read_features
from trak_cli.types import TRAIN

HERE = Path(__file__).parent

Array = np.ndarray


def package_folder(name: str) -> Path:
    """The folder of an installed package, not imported. Without it the test is skipped, or fails if TRAK_REQUIRE=real."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        if "real" in os.environ.get("TRAK_REQUIRE", "").split(","):
            pytest.fail(f"TRAK_REQUIRE names real, but {name} is not installed", pytrace=False)
        pytest.skip(f"needs the files of {name}; run `make test-real`")
    return Path(next(iter(spec.submodule_search_locations)))


@dataclass(frozen=True)
class Features:
    """All rows of one split under one checkpoint."""

    features: Array
    outputs: Array


@dataclass(frozen=True)
class RealProject:
    """A project with weights that a package ships.

    Attributes:
        name: of its folder here, which holds its YAML file and plugin module.
        folder: the current folder of its runs.
        shipped: the file of the package, if it fits the model of the project.
        overrides: of every call.
    """

    name: str
    folder: Path
    shipped: Path | None
    overrides: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """Where the run of the YAML file is."""
        return self.folder / "runs" / self.name

    def trak(self, stage: str, *overrides: str) -> str:
        """Run a stage, which must succeed; its stderr."""
        with pytest.MonkeyPatch.context() as context:
            context.chdir(self.folder)
            result = CliRunner().invoke(app, [stage, "-d", str(HERE / self.name), *self.overrides, *overrides])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.stderr
        return result.stderr

    def featurized(self, store: str, *overrides: str, checkpoint: Path | None = None) -> dict[str, Features]:
        """Split -> its rows under one checkpoint, by default that of the training, in a store of its own."""
        file = checkpoint or f"{self.store}/checkpoints/*.safetensors"
        self.trak("featurize", f"store=runs/{store}", f"checkpoints={file}", *overrides)
        layout = Layout(self.folder / "runs" / store)
        (checkpoint,) = layout.checkpoints()
        splits = {}
        for split in layout.splits(checkpoint):
            shards = [read_features(layout.features(checkpoint, split, i)) for i in layout.shards(checkpoint, split)]
            columns = (np.concatenate([getattr(shard, name) for shard in shards]) for name in ("features", "outputs"))
            splits[split] = Features(*columns)
        assert TRAIN in splits
        return splits


def milliseconds(log: str) -> dict[str, float]:
    """Engine -> CPU milliseconds per sample, by the line in which gradients=auto chooses."""
    (line,) = re.findall(r"ms per sample: (.*)", log)
    return {engine: float(value) for engine, value in re.findall(r"(hooks|vmap|loop) ([\d.]+)", line)}


def differences(found: dict[str, Features], expected: dict[str, Features]) -> Array:
    """The distance of every two rows of features, relative to the length of the row."""
    distances = []
    for split, one in expected.items():
        distance = np.linalg.norm(found[split].features - one.features, axis=1)
        distances.append(distance / np.linalg.norm(one.features, axis=1))
    return np.concatenate(distances)
