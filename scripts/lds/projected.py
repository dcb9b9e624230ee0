"""The features of one checkpoint by several random matrices, from one pass over the gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from setting import Features
from torch import nn

from trak_cli.attribution.estimator.weights import ClassRows
from trak_cli.batches import batch_size
from trak_cli.gradients.curvature.other_classes import OtherClasses
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.tasks import Task

Array = np.ndarray[Any, Any]

#: By split: the training samples, then the targets.
Batches = dict[str, list[Any]]


def projected(
    model: nn.Module, task: Task, batches: Batches, checkpoint: str, kinds: Sequence[tuple[str, int, int]], seeds: int
) -> Iterator[tuple[Any, Features]]:
    """((kind, k, s, seed), features) of every kind, from one pass over the gradients."""
    selected = select(model, ["*"])
    engine, sizes = make_engine("vmap", model, task, selected), {name: one.numel() for name, one in selected.items()}
    p = sum(sizes.values())
    projectors = {}
    for kind, dim, nonzeros in kinds:
        for seed in range(1 if kind == "none" else seeds):
            spec = ProjectionSpec(kind, dim or p, seed, nonzeros)
            projectors[kind, dim, nonzeros, seed] = make_projector(ProjectionJob(spec, checkpoint, sizes))
    columns: dict[Any, dict[str, list[Array]]] = {key: {split: [] for split in (*batches, "classes")} for key in projectors}
    classes = make_engine("vmap", model, OtherClasses(task, checkpoint), selected) if task.has_classes() else None
    outputs, ratios, residuals = [], [], []
    for split, several in batches.items():
        for batch in several:
            one = engine.per_sample(batch)
            blocks = list(one.blocks)
            if split == "train":
                outputs.append(one.outputs.numpy())
                ratios.append(one.out_to_loss.numpy())
            if split == "train" and classes is not None:
                others = classes.per_sample((batch, torch.arange(batch_size(batch)) + sum(map(len, residuals))))
                residuals.append(others.out_to_loss.numpy())
                rows = list(others.blocks)
                for key, projector in projectors.items():
                    columns[key]["classes"].append((projector.project(rows) / p**0.5).numpy()[: batch_size(batch)])
            for key, projector in projectors.items():
                columns[key][split].append((projector.project(blocks) / p**0.5).numpy()[: batch_size(batch)])
    f, q = np.concatenate(outputs), np.concatenate(ratios)
    for key, by_split in columns.items():
        train, targets = (np.concatenate(by_split[split]) for split in batches)
        curvature = ClassRows(np.concatenate(by_split["classes"]), np.concatenate(residuals)) if residuals else None
        yield key, Features(train, targets, q, f, curvature)
