"""The result of `trak unroll`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trak_cli.unrolling.smoothness import Smoothness


@dataclass(frozen=True)
class Effort:
    """What a call computed.

    Attributes:
        steps: training steps; 0 if the run was not trained once more, or all its states were stored.
        training_seconds: of this training, in which its states are kept, as if it had made all steps in this call.
        sweeps: backward passes, one for each block of targets.
        targets: of these blocks.
        sweep_seconds: of all sweeps, as if each had gone through all steps in this call.
        removals: trainings without random samples.
        directions: of metasmoothness, with two trainings each.
        peak_mb: largest resident memory of the process, in MiB.
    """

    steps: int = 0
    training_seconds: float = 0.0
    sweeps: int = 0
    targets: int = 0
    sweep_seconds: float = 0.0
    removals: int = 0
    directions: int = 0
    peak_mb: float = 0.0

    @property
    def ratio(self) -> float:
        """The time of the backward passes for each target, relative to that of the training; NaN without one."""
        if not self.targets or not self.training_seconds:
            return float("nan")
        return self.sweep_seconds / self.targets / self.training_seconds


@dataclass(frozen=True)
class BlockCounts:
    """How many blocks of targets were scored by this call, were stored already, or are left to other workers."""

    written: int
    already_there: int
    left_to_others: int


@dataclass(frozen=True)
class UnrollSummary:
    """The scores of some targets for one run.

    Attributes:
        estimator: name that they are stored under.
        split: of the targets.
        targets: rows of the split; None for every row.
        group: whether there is one row of scores, of the mean of f over these targets.
        rows: number of training samples.
        seed: of the run.
        checkpoint: how its weights compare with the checkpoint of `trak train`.
        effort: what this call computed.
        complete: whether every block is stored.
        smoothness: the check of the scores; None if it was not made, or is not complete.
        metasmoothness: the mean over directions; None if it was not measured, or is not complete.
        warnings: reasons not to trust the scores.
        path: the file of the scores.
    """

    store: Path
    estimator: str
    split: str
    targets: list[int] | None
    group: bool
    rows: int
    seed: int
    checkpoint: str
    effort: Effort
    blocks: BlockCounts
    complete: bool
    smoothness: Smoothness | None
    metasmoothness: float | None
    warnings: list[str]
    path: Path
