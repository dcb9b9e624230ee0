"""Whether a trained model is the one that `trak train` stored."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.state import apply, load

#: Largest difference of the weights, relative to how far training moved them, that counts as rounding; and the largest that
#: is accepted with a warning: a training may amplify rounding.
ROUNDING, DRIFT = 1e-3, 0.05


@dataclass(frozen=True)
class Comparison:
    """A trained model beside the checkpoint of the same run.

    Attributes:
        path: the checkpoint.
        difference: of the parameters, relative to how far training moved them; 0 for the same bytes; None without a file.
    """

    path: Path
    difference: float | None

    @property
    def text(self) -> str:
        """What was found, in one line."""
        if self.difference is None:
            return f"{self.path}: there is no such checkpoint, so the run was not compared with one"
        if self.difference == 0:
            return f"{self.path}: the same weights"
        kind = "the same up to rounding" if self.difference <= ROUNDING else "not the same weights"
        return f"{self.path}: {kind} (they differ by {self.difference:.1e} of the way that training moved them)"

    @property
    def warnings(self) -> list[str]:
        """A difference that may be more than rounding."""
        if self.difference is None or self.difference <= ROUNDING:
            return []
        return [f"{self.text}: the training amplifies rounding, or it is a slightly different one"]


def compare_with_checkpoint(model: nn.Module, initial: Sequence[Tensor], path: Path) -> Comparison:
    """Compare a trained model with the checkpoint of its run.

    Args:
        model: after the training.
        initial: its parameters before the training, in the order of ``model.parameters()``.
        path: its file, which need not exist.

    Raises:
        InputError: the checkpoint is of another training, or cannot be read.
    """
    if not path.exists():
        return Comparison(path, None)
    stored = copy.deepcopy(model)
    apply(stored, load(path), path)
    pairs = zip(model.parameters(), stored.parameters(), initial, strict=True)
    squares = [(_square(ours - theirs), _square(theirs - start.to(theirs))) for ours, theirs, start in pairs]
    apart, moved = (math.sqrt(sum(values)) for values in zip(*squares, strict=True))
    difference = apart / moved if moved else math.inf if apart else 0.0
    if not difference <= DRIFT:
        found = f"weights that differ from those of this training by {difference:.0%} of the way that training moved them"
        expected = "the checkpoint of this very run: the same trainer, data, model and seed"
        remedy = (
            "restore the settings and the data that it was trained with; or, to unroll the run that the settings describe,"
            " give train.folder=FOLDER with a folder of its own"
        )
        raise InputError(Problem(str(path), found, expected, remedy))
    return Comparison(path, difference)


def _square(tensor: Tensor) -> float:
    with torch.no_grad():
        return float(tensor.double().square().sum())
