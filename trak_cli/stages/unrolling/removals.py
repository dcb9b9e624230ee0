"""Trainings of the same run without a few random samples: what they do to f is compared with what the scores predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trak_cli.config.schema import UnrollConfig
from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.training.trainer_run import Training
from trak_cli.stages.unrolling.targets import TargetRows
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import read_image
from trak_cli.store.failures import ForeignError
from trak_cli.store.layout import Layout
from trak_cli.store.publish import is_stored, write_image
from trak_cli.store.virtual import open_scores, score_blocks
from trak_cli.types import Float32, Float64, Json
from trak_cli.unrolling.smoothness import Smoothness, judge

REMEDY = "keep both by naming this one (unroll.name=NAME), or set unroll.overwrite=true"

#: Separates the random numbers of removals from other uses of the seed.
_STREAM = 1_018


@dataclass(frozen=True)
class Removals:
    """The outputs of the run on the whole split, with all samples and without some.

    Attributes:
        fingerprint: see :func:`~trak_cli.stages.unrolling.identity.split_fingerprint`.
    """

    unroll: UnrollConfig
    training: Training
    layout: Layout
    targets: TargetRows
    fingerprint: Json

    @property
    def numbers(self) -> list[int | None]:
        """The trainings: None with all samples, then those without some; empty if there is no check."""
        return [None, *range(self.unroll.removals)] if self.unroll.removals else []

    def path(self, number: int | None) -> Path:
        """The file of the outputs without samples; None: with all of them."""
        name = "full" if number is None else f"without_{number:05}"
        return self.layout.unrolled(self.unroll.name, self.targets.split, f"{name}.h5")

    def is_stored(self, number: int | None) -> bool:
        """Whether the outputs of a training are stored; with ``unroll.overwrite``, those of another run are removed.

        Raises:
            StoreError: the file is damaged, or belongs to another run.
        """
        return keep_ours(self.path(number), self._fingerprint(number), self.unroll.overwrite)

    def train(self, number: int | None) -> None:
        """Train without the samples of this number, and store the outputs on the split."""
        weights = torch.ones(self.training.rows)
        if number is not None:
            weights[torch.from_numpy(self.removed(number))] = 0
        self.write(number, self.training.model(range(self.training.rows), self.fingerprint["seed"], weights=weights))

    def write(self, number: int | None, model: nn.Module) -> None:
        """Store the outputs of a model on the split, unless they are stored."""
        outputs = self.training.outputs(model, self.targets.split)
        write_image(self.path(number), {"outputs": outputs}, self._fingerprint(number), provenance())

    def removed(self, number: int) -> np.ndarray:
        """The rows that a training leaves out: (max(1, round(drop · n)),) int64."""
        rows, drop = self.training.rows, self.unroll.drop
        generator = np.random.default_rng([_STREAM, self.fingerprint["seed"], number])
        return np.sort(generator.permutation(rows)[: max(1, round(drop * rows))])

    def judge(self, scores: Path) -> Smoothness | None:
        """How well the complete scores predict the trainings; None if not all of them are stored."""
        if not self.numbers or not all(self.is_stored(number) for number in self.numbers):
            return None
        predicted, spread = self._predicted(scores)
        return judge(predicted, self._changes(), spread)

    def _changes(self) -> Float64:
        """By how much f of every row of the scores changed: (rows of scores, removals)."""
        full = self._outputs(None)
        changes = np.stack([self._outputs(number).astype(np.float64) - full for number in self.numbers[1:]], axis=1)
        return np.stack([changes[self.targets.members(position)].mean(axis=0) for position in range(self.targets.count)])

    def _predicted(self, scores: Path) -> tuple[Float64, Float64]:
        """Minus the sum of the scores of the samples left out, which predicts :meth:`_changes`, and its spread, (targets,).

        The spread is the standard deviation of such sums over all possible choices of the samples.
        """
        removed = [self.removed(number) for number in range(self.unroll.removals)]
        total, sums = np.zeros((self.targets.count, len(removed))), np.zeros((2, self.targets.count))
        for targets, rows, block in score_blocks(open_scores(scores)):
            chosen, wide = slice(targets.start, targets.stop), block.astype(np.float64)
            for column, some in enumerate(removed):
                inside = some[(some >= rows.start) & (some < rows.stop)] - rows.start
                total[chosen, column] -= wide[:, inside].sum(axis=1)
            sums[:, chosen] += wide.sum(axis=1), (wide**2).sum(axis=1)
        left_out = len(removed[0])
        mean, square = sums / self.training.rows
        return total, np.sqrt(left_out * np.maximum(square - mean**2, 0) * (1 - left_out / self.training.rows))

    def _outputs(self, number: int | None) -> Float32:
        outputs: Float32 = read_image(self.path(number)).arrays["outputs"]
        return outputs

    def _fingerprint(self, number: int | None) -> Json:
        fingerprint = {**self.fingerprint, "kind": "outputs"}
        return fingerprint if number is None else {**fingerprint, "drop": self.unroll.drop, "number": number}


def keep_ours(path: Path, fingerprint: Json, overwrite: bool) -> bool:
    """Whether a file of this run is stored; another one is refused, or removed with ``overwrite``.

    Raises:
        StoreError: the file is damaged, or belongs to another run, and is not to be overwritten.
    """
    try:
        return is_stored(path, fingerprint)
    except StoreError as error:
        if overwrite:
            remove(path)
            return False
        if isinstance(error, ForeignError):
            raise ForeignError([replace(problem, remedy=REMEDY) for problem in error.problems]) from None
        raise
