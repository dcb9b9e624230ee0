"""The reference digits, where they lie beside the repository, as two settings: checkpoints of the full data and of halves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from setting import Features

from trak_cli.config import TrakConfig
from trak_cli.gradients import make_engine, select
from trak_cli.plugins import SmallCNN, apply, load, sha256
from trak_cli.projection import ProjectionSpec, make_projector
from trak_cli.tasks import Classification
from trak_cli.types import Block

FOLDER = Path(__file__).parents[2].parent / "shared" / "reference" / "digits_cnn"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reference:
    """Checkpoints, features and truth, under the names that :class:`setting.Setting` has for them."""

    trained_on: str

    @property
    def checkpoints(self) -> list[str]:
        return [f"{self.trained_on}_{number}" for number in range(10)]

    @cached_property
    def truth(self) -> tuple[Array, Array]:
        """Masks (200, n) and (200, 1, t) the mean outputs of six models for each subset."""
        truth = np.load(FOLDER / "groundtruth.npz")
        return truth["masks"], truth["outputs"][:, None]

    def features(self, checkpoint: str) -> Features:
        from sklearn.datasets import load_digits

        path = FOLDER / f"{checkpoint}.pt"
        split, digits = np.load(FOLDER / "split.npz"), load_digits()
        rows = np.concatenate([split["train_index"], split["target_index"]])
        images, labels = torch.tensor(digits.images[rows] / 16, dtype=torch.float32)[:, None], torch.tensor(digits.target[rows])
        model = SmallCNN()
        apply(model, load(path), path)
        engine = make_engine("hooks", model, Classification(), select(model, ["*"]))
        sizes = {name: one.numel() for name, one in model.named_parameters()}
        default = TrakConfig().projection
        spec = ProjectionSpec(default.kind, default.dim, default.seed, default.nonzeros)
        projector = make_projector(spec, sha256(path), sizes, device=torch.device("cpu"))
        parts: list[tuple[Array, Array, Array]] = []
        for start in range(0, len(rows), 200):
            found = engine.per_sample((images[start : start + 200], labels[start : start + 200]))
            blocks: list[Block] = list(found.blocks)
            features = projector.project(blocks) / sum(sizes.values()) ** 0.5
            parts.append((features.numpy(), found.out_to_loss.numpy(), found.outputs.numpy()))
        X, q, f = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        n = len(split["train_index"])
        return Features(X[:n], X[n:], q[:n], f[:n])


def reference_settings() -> dict[str, Reference]:
    """None where the data is not there."""
    return {f"ref_{on}": Reference(on) for on in ("full", "half")} if FOLDER.is_dir() else {}
