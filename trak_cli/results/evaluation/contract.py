"""What the evaluations get and return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap, Interval
from trak_cli.attribution.metrics.means import mean_interval
from trak_cli.config.load import Loaded
from trak_cli.results.scored import Scored
from trak_cli.types import Float64, Reporter


@dataclass(frozen=True)
class Inputs:
    """What the user gave for the evaluations; what is missing is not evaluated.

    Attributes:
        flipped: training rows that are mislabelled, or a file with them.
        planted: the training rows that are the sources of each target.
        k: of recall@k and hit@k.
        classes: whether the labels of samples are their classes.
        subclasses: classes that the model was not trained to tell apart.
        top: how many of the highest scores class detection looks at.
        shortcut: training rows that have a shortcut.
        shortcut_targets: the targets that fall for it; None: all.
        randomized: the store of a model with random weights.
        leave_one_out: models that lack one training sample each.
        removal: whether the models without the highest scores are evaluated.
        flips: models without different numbers of the highest scores.
    """

    flipped: Path | Sequence[int] | None = None
    planted: Path | None = None
    k: int = 10
    classes: bool = False
    subclasses: Path | None = None
    top: int = 5
    shortcut: Path | Sequence[int] | None = None
    shortcut_targets: Path | Sequence[int] | None = None
    randomized: Path | None = None
    leave_one_out: Path | None = None
    removal: bool = False
    flips: Path | None = None


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        name: as in docs/evaluate.md.
        value: with its 95 % interval; NaN where it is not a mean over targets.
        count: how many targets (or training samples) it is over.
        of: "targets" or "training samples".
        perfect: what it is for perfect scores; None if it has no such value.
        per_target: row of the split -> value; empty if it is not a mean over targets.
    """

    name: str
    value: Interval
    count: int
    of: str
    perfect: float | None
    per_target: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated:
    """The scores that are evaluated, and how."""

    loaded: Loaded
    scored: Scored
    inputs: Inputs
    reporter: Reporter

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.loaded.config.lds.bootstrap, self.loaded.config.seed)

    def mean(self, name: str, values: Sequence[float] | Float64, rows: Sequence[int], perfect: float | None = 1.0) -> Metric:
        """The mean of ``values`` over the targets in these rows of the split; NaN values are left out."""
        array = np.asarray(values, np.float64)
        interval = mean_interval(array, self.bootstrap)
        per_target = dict(zip(rows, array.tolist(), strict=True))
        return Metric(name, interval, int(np.isfinite(array).sum()), "targets", perfect, per_target)


def single(name: str, value: float, count: int, of: str, perfect: float | None) -> Metric:
    """A metric that is not a mean over targets."""
    return Metric(name, Interval(value, float("nan"), float("nan")), count, of, perfect)
