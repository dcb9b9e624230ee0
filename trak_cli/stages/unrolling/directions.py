"""Metasmoothness of the run in random directions: those of leaving out some samples, first by half, then entirely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.unrolling.removals import Removals, keep_ours
from trak_cli.store.container import read_image
from trak_cli.store.publish import write_image
from trak_cli.types import Json
from trak_cli.unrolling.metasmoothness import LEAST_METASMOOTHNESS, metasmoothness


@dataclass(frozen=True)
class Direction:
    """A unit of work: two trainings in one direction."""

    number: int


@dataclass(frozen=True)
class Directions:
    """Attributes:
    removals: which samples a direction leaves out, and where files are.
    """

    removals: Removals

    @property
    def units(self) -> list[Direction]:
        """The directions that ``unroll.directions`` asks for."""
        return [Direction(number) for number in range(self.removals.unroll.directions)]

    def is_stored(self, unit: Direction) -> bool:
        """Whether the result of a direction is stored; with ``unroll.overwrite``, that of another run is removed.

        Raises:
            StoreError: the file is damaged, or belongs to another run.
        """
        return keep_ours(self._path(unit), self._fingerprint(unit), self.removals.unroll.overwrite)

    def measure(self, unit: Direction, start: Callable[[], Sequence[Tensor]]) -> None:
        """Train twice, and store the metasmoothness.

        Args:
            start: returns the parameters of the run itself.
        """
        chosen = torch.from_numpy(self.removals.removed(unit.number))
        middle, end = (self._trained(chosen, weight) for weight in (0.5, 0.0))
        value = metasmoothness(start(), middle, end)
        write_image(self._path(unit), {"metasmoothness": np.array([value])}, self._fingerprint(unit), provenance())

    def mean(self) -> float | None:
        """The mean over all directions; None if one is missing, or there is none."""
        units = self.units
        if not units or not all(self.is_stored(unit) for unit in units):
            return None
        return float(np.mean([read_image(self._path(unit)).arrays["metasmoothness"][0] for unit in units]))

    def _trained(self, chosen: Tensor, weight: float) -> list[Tensor]:
        training = self.removals.training
        weights = torch.ones(training.rows)
        weights[chosen] = weight
        return parameters_of(training.model(range(training.rows), self.removals.fingerprint["seed"], weights=weights))

    def _path(self, unit: Direction) -> Path:
        removals = self.removals
        return removals.layout.unrolled(removals.unroll.name, removals.targets.split, f"direction_{unit.number:05}.h5")

    def _fingerprint(self, unit: Direction) -> Json:
        common = {**self.removals.fingerprint, "kind": "metasmoothness"}
        return {**common, "drop": self.removals.unroll.drop, "number": unit.number}


def parameters_of(model: nn.Module) -> list[Tensor]:
    """Copies of the parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def smoothness_warnings(mean: float | None) -> list[str]:
    """What a low metasmoothness means for the scores."""
    if mean is None or mean >= LEAST_METASMOOTHNESS:
        return []
    return [
        f"do not trust these scores: metasmoothness {mean:.2f}, below {LEAST_METASMOOTHNESS:g}, because the weights of the"
        " model move in another direction when samples with half a weight are left out entirely;"
        " docs/unrolling.md says what helps"
    ]
