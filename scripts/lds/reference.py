"""The reference digits, if they are next to the repository, as two settings: checkpoints of the full data and of halves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from projected import projected
from setting import Features
from torch import nn

from trak_cli.config.schema import TrakConfig
from trak_cli.plugins import SmallCNN
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.tasks import Classification, Task

FOLDER = Path(__file__).parents[2].parent / "shared" / "reference" / "digits_cnn"

BATCH = 200

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reference:
    """Checkpoints, features and ground truth, with the interface of :class:`setting.Setting`."""

    trained_on: str

    @property
    def checkpoints(self) -> list[str]:
        return [f"{self.trained_on}_{number}" for number in range(10)]

    @cached_property
    def truth(self) -> tuple[Array, Array]:
        """Masks (200, n) and (200, 1, t) the mean outputs of six models for each subset."""
        truth = np.load(FOLDER / "groundtruth.npz")
        return truth["masks"], truth["outputs"][:, None]

    def parts(self) -> tuple[nn.Module, Task, dict[str, list[Any]], list[Path]]:
        """Model, task, batches of the training and the target samples, and the checkpoint files."""
        from sklearn.datasets import load_digits

        split, digits = np.load(FOLDER / "split.npz"), load_digits()
        batches = {}
        for name, key in (("train", "train_index"), ("test", "target_index")):
            rows = split[key]
            images = torch.tensor(digits.images[rows] / 16, dtype=torch.float32)[:, None].split(BATCH)
            batches[name] = list(zip(images, torch.tensor(digits.target[rows]).split(BATCH), strict=True))
        return SmallCNN(), Classification(), batches, [FOLDER / f"{name}.pt" for name in self.checkpoints]

    def features(self, checkpoint: str) -> Features:
        """Features with the default projection."""
        model, task, batches, files = self.parts()
        path = files[self.checkpoints.index(checkpoint)]
        apply(model, load(path), path)
        default = TrakConfig().projection
        ((_, features),) = projected(model, task, batches, sha256(path), [(default.kind, default.dim, default.nonzeros)], 1)
        return features


def reference_settings() -> dict[str, Reference]:
    """The two settings; empty if the data is missing."""
    return {f"ref_{on}": Reference(on) for on in ("full", "half")} if FOLDER.is_dir() else {}
