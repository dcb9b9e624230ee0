"""Two methods compared over many settings: one paired summary, and p-values corrected for the number of settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.lds.bootstrap import Interval, PValue

#: Level of the test of a single setting, after Holm's correction.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PairedSummary:
    """The difference of two methods over settings.

    Attributes:
        settings: how many there are.
        mean: mean difference, with a 95 % percentile interval from resampling the settings.
        positive: in how many settings the difference is above zero.
        significantly_positive: in how many it is above zero with a Holm-adjusted p-value below 0.05.
        significantly_negative: the same, below zero.
    """

    settings: int
    mean: Interval
    positive: int
    significantly_positive: int
    significantly_negative: int


def paired_summary(
    differences: Sequence[float], p_values: Sequence[PValue], resamples: int = 10_000, seed: int = 0
) -> PairedSummary:
    """Summarise one comparison.

    Args:
        differences: LDS of the first method minus LDS of the second, one for every setting.
        p_values: of these differences, not corrected.
        resamples: of the settings, with replacement.
        seed: of the resampling.
    """
    values = np.asarray(differences, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    significant = np.array([adjusted.value < SIGNIFICANT for adjusted in holm(p_values)])
    return PairedSummary(
        settings=len(values),
        mean=Interval(float(values.mean()), float(low), float(high)),
        positive=int((values > 0).sum()),
        significantly_positive=int((significant & (values > 0)).sum()),
        significantly_negative=int((significant & (values < 0)).sum()),
    )


def holm(p_values: Sequence[PValue]) -> list[PValue]:
    """Holm's step-down adjustment, which controls the family-wise error rate (Holm 1979), in the order given.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; adjusted values never decrease along
    this order and never exceed 1. An adjusted value that comes from an upper bound is an upper bound.
    """
    adjusted = [PValue(float("nan"))] * len(p_values)
    largest = PValue(0.0)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i].value)
    for rank, i in enumerate(order):
        scaled = (len(order) - rank) * p_values[i].value
        if scaled > largest.value:
            largest = PValue(scaled, p_values[i].is_upper_bound) if scaled < 1 else PValue(1.0)
        adjusted[i] = largest
    return adjusted
