"""The mean of a metric over targets, with an interval."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap, Interval, interval_of
from trak_cli.types import Float64

_VALUES_AT_ONCE = 4_000_000


def mean_interval(values: Float64, settings: Bootstrap) -> Interval:
    """The mean of ``values`` (t,), with the percentile interval over resampled targets.

    NaN values (targets for which the metric is not defined) are left out. The interval is NaN with a single target.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    resamples = settings.resamples if len(values) > 1 else 0
    generator = np.random.default_rng(settings.seed)
    step = max(1, _VALUES_AT_ONCE // len(values))
    drawn = [np.empty(0)]
    for start in range(0, resamples, step):
        places = generator.integers(0, len(values), (min(step, resamples - start), len(values)))
        drawn.append(values[places].mean(axis=1))
    return interval_of(float(values.mean()), np.concatenate(drawn), settings.level)
