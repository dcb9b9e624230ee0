"""Gradients of the reference checkpoints, by this program's own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.plugins import SmallCNN
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.tasks import Classification


def samples(rows: np.ndarray[Any, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits by their row in scikit-learn's data set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images[rows] / 16, dtype=torch.float32)[:, None]
    return images, torch.tensor(digits.target[rows])


class Gradients(NamedTuple):
    """Per-sample gradients (rows, p) of the margin, in named_parameters order; the margin and its out-to-loss (rows,)."""

    gradients: torch.Tensor
    outputs: np.ndarray[Any, Any]
    out_to_loss: np.ndarray[Any, Any]


def gradients(checkpoint: Path, rows: np.ndarray[Any, Any]) -> Gradients:
    """What a reference checkpoint gives for some digits."""
    model = SmallCNN()
    apply(model, load(checkpoint), checkpoint)
    engine = make_engine("vmap", model, Classification(), select(model, ["*"]))
    images, labels = samples(rows)
    parts, outputs, weights = [], [], []
    for start in range(0, len(rows), 200):
        result = engine.per_sample((images[start : start + 200], labels[start : start + 200]))
        parts.append(torch.cat([block.gradient for block in result.blocks], dim=1))
        outputs.append(result.outputs)
        weights.append(result.out_to_loss)
    return Gradients(torch.cat(parts), torch.cat(outputs).numpy(), torch.cat(weights).numpy())
