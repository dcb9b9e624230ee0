"""Batches whose tensors do not have one entry per sample: graphs joined to one, sets with offsets, objects of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_project import Outcome, call

from trak_cli.store.shards import read_features

PLUGIN = '''
from dataclasses import dataclass

import torch
from torch import nn

from trak_cli.tasks import Task


class Graphs:
    """Random graphs of 1 to 6 nodes with a number as label."""

    def __init__(self, rows, seed=0):
        self.rows, self.seed = rows, seed

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        if not 0 <= row < self.rows:
            raise IndexError(row)
        generator = torch.Generator().manual_seed(100 * self.seed + row)
        nodes = 1 + (row * 5 + 3) % 6
        edges = torch.randint(nodes, (2, row % 7), generator=generator)
        return {"x": torch.randn(nodes, 4, generator=generator), "edges": edges, "y": torch.randn((), generator=generator)}


def joined(samples):
    """As PyTorch Geometric joins graphs: nodes and edges one after another, and the number of the graph of each node."""
    sizes = [len(sample["x"]) for sample in samples]
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    return {
        "x": torch.cat([sample["x"] for sample in samples]),
        "edge_index": torch.cat([sample["edges"] + start for sample, start in zip(samples, starts)], 1),
        "batch": torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(sizes)),
        "y": torch.stack([sample["y"] for sample in samples]),
    }


def with_offsets(samples):
    """A tuple: nodes, edges, the first node of each graph and the number of nodes, labels."""
    batch = joined(samples)
    sizes = torch.tensor([0] + [len(sample["x"]) for sample in samples])
    return batch["x"], batch["edge_index"], sizes.cumsum(0), batch["y"]


@dataclass
class Batch:
    x: torch.Tensor
    edge_index: torch.Tensor
    batch: torch.Tensor
    y: torch.Tensor
    num_graphs: int

    def to(self, device):
        tensors = (self.x.to(device), self.edge_index.to(device), self.batch.to(device), self.y.to(device))
        return Batch(*tensors, self.num_graphs)


def as_object(samples):
    return Batch(**joined(samples), num_graphs=len(samples))


def parts(batch):
    if isinstance(batch, dict):
        return batch["x"], batch["edge_index"], batch["batch"], batch["y"]
    if isinstance(batch, tuple):
        x, edge_index, offsets, y = batch
        return x, edge_index, torch.repeat_interleave(torch.arange(len(y)), offsets.diff()), y
    return batch.x, batch.edge_index, batch.batch, batch.y


class Net(nn.Module):
    """One round of messages, then the sum over the nodes of each graph."""

    def __init__(self):
        super().__init__()
        self.message, self.read = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x, edge_index, batch, graphs):
        h = torch.tanh(self.message(x))
        h = h + torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]])
        return self.read(torch.zeros(graphs, 3).index_add(0, batch, h)).squeeze(1)


class Error(Task):
    def output(self, model, batch):
        x, edge_index, graph, y = parts(batch)
        return model(x, edge_index, graph, len(y)) * y

    def out_to_loss_grad(self, model, batch, output):
        return parts(batch)[3] - output
'''

CONFIG = """
defaults: [trak, _self_]
name: graphs
device: cpu
threads: 1
checkpoints: trained.pt
model: {_target_: graph_plugin.Net}
task: {_target_: graph_plugin.Error}
dataset:
  train: {_target_: graph_plugin.Graphs, rows: 21, seed: 1}
  targets:
    test: {_target_: graph_plugin.Graphs, rows: 5, seed: 2}
  collate: {_target_: graph_plugin.joined}
projection: {kind: none}
features: {shard_rows: 8}
"""


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "graph_plugin.py").write_text(PLUGIN)
    (tmp_path / "graphs.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    plugin: Any = importlib.import_module("graph_plugin")
    torch.manual_seed(0)
    torch.save(plugin.Net().state_dict(), tmp_path / "trained.pt")
    yield tmp_path
    sys.modules.pop("graph_plugin")


def trak(folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str, *overrides: str) -> Outcome:
    return call(folder, monkeypatch, stage, *overrides)


def expected(split_rows: int, seed: int) -> np.ndarray[Any, Any]:
    """Gradients of f by autograd, each graph alone, divided by √p."""
    plugin: Any = sys.modules["graph_plugin"]
    torch.manual_seed(0)
    model, data = plugin.Net(), plugin.Graphs(split_rows, seed)
    rows = []
    for sample in data:
        output = plugin.Error().output(model, plugin.joined([sample]))
        gradients = torch.autograd.grad(output.squeeze(0), list(model.parameters()))
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    features = torch.stack(rows)
    return (features / features.shape[1] ** 0.5).numpy()


@pytest.mark.parametrize("collate", ["joined", "with_offsets", "as_object"])
def test_features_are_the_gradients_of_each_sample_alone(graphs: Path, monkeypatch: pytest.MonkeyPatch, collate: str) -> None:
    outcome = trak(graphs, monkeypatch, "featurize", f"dataset.collate._target_=graph_plugin.{collate}")
    assert outcome.code == 0, outcome.stderr
    assert "gradients=auto selects loop" in outcome.stderr
    (folder,) = (graphs / "runs" / "graphs" / "features").glob("trained-*")
    for split, rows, seed in (("train", 21, 1), ("test", 5, 2)):
        shards = [read_features(path).features for path in sorted((folder / split).rglob("*.h5"))]
        np.testing.assert_allclose(np.concatenate(shards), expected(rows, seed), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["hooks", "vmap"])
def test_an_engine_that_computes_several_samples_at_once_is_refused_with_the_shapes(
    graphs: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    outcome = trak(graphs, monkeypatch, "featurize", f"gradients.engine={engine}")
    assert outcome.code == 4
    assert "dataset.collate" in outcome.stderr
    assert "at batch['edge_index']" in outcome.stderr
    assert "gradients=loop" in outcome.stderr


def test_doctor_and_scores(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("doctor", "featurize", "finalize", "score"):
        outcome = trak(graphs, monkeypatch, stage)
        assert outcome.code == 0, outcome.stdout + outcome.stderr


def test_the_quality_is_that_of_the_users_task(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs / "graph_plugin.py"
    quality = """
    def quality(self, model, batches):
        from trak_cli.tasks.quality import Quality

        return Quality("graphs seen", sum(len(parts(batch)[3]) for batch in batches), 0.0)
"""
    path.write_text(path.read_text() + quality)
    sys.modules.pop("graph_plugin")
    importlib.invalidate_caches()
    assert "graphs seen = 21 on 21 samples of train" in trak(graphs, monkeypatch, "doctor").stdout


def test_a_model_that_mixes_graphs_is_refused(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs / "graph_plugin.py"
    text = path.read_text()
    path.write_text(text.replace("h = torch.tanh(self.message(x))", "h = torch.tanh(self.message(x - x.mean(0)))"))
    sys.modules.pop("graph_plugin")
    importlib.invalidate_caches()
    outcome = trak(graphs, monkeypatch, "featurize")
    assert outcome.code == 4
    assert "alone" in outcome.stderr
