"""The change of outputs and losses when training samples with the highest scores are left out.

The mean increase of a target's loss is the query loss difference (QLD) of the bergson leaderboard: the proponents of each
query (its highest scores) are removed, 1 % of the training set, and its loss is compared with that of the full run. Intervals
resample targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.lds.bootstrap import Bootstrap, Difference, Interval, interval_of, p_value_of
from trak_cli.types import Float64

#: Name of the removal of random samples among the changes.
RANDOM = "random"

_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class MeanChange:
    """The effect of removing the samples that one set of scores ranks highest.

    Attributes:
        name: of the scores, or :data:`RANDOM`.
        loss: mean over targets of the loss without these samples minus that of the full run (QLD).
        output: the same of f.
        difference: of ``loss`` from that of the first set, paired by targets; None for the first set.
        above: share of all pairs of a target and a random removal whose loss rises at least as much; None for :data:`RANDOM`.
        per_target: changes of the loss.
    """

    name: str
    loss: Interval
    output: Interval
    difference: Difference | None
    above: float | None
    per_target: list[float]


def mean_changes(
    losses: Mapping[str, Float64], outputs: Mapping[str, Float64], random: tuple[Float64, Float64], settings: Bootstrap
) -> list[MeanChange]:
    """The mean changes of every set of scores, and of random removals at last.

    Args:
        losses, outputs: for every name, the changes (t,) of the loss and of f under the model of each target.
        random: changes (s, t) of losses and of f without s random sets of samples.
        settings: how to resample targets; with a single target, intervals and p-values are NaN.
    """
    all_losses = {**losses, RANDOM: random[0].mean(axis=0)}
    all_outputs = {**outputs, RANDOM: random[1].mean(axis=0)}
    first = next(iter(losses))
    resampled_losses, resampled_outputs = (_resampled_means(changes, settings) for changes in (all_losses, all_outputs))
    result = []
    for name, changes in all_losses.items():
        difference = None
        if name != first:
            estimate = float((changes - all_losses[first]).mean())
            drawn = resampled_losses[name] - resampled_losses[first]
            difference = Difference(name, first, interval_of(estimate, drawn, settings.level), p_value_of(drawn))
        above = None if name == RANDOM else float((random[0] >= changes).mean())
        loss = interval_of(float(changes.mean()), resampled_losses[name], settings.level)
        output = interval_of(float(all_outputs[name].mean()), resampled_outputs[name], settings.level)
        result.append(MeanChange(name, loss, output, difference, above, changes.tolist()))
    return result


def _resampled_means(changes: Mapping[str, Float64], settings: Bootstrap) -> dict[str, Float64]:
    """Means (B,) over the same draws of targets for every name; none with a single target."""
    stacked = np.stack(list(changes.values()))
    targets = stacked.shape[1]
    resamples = settings.resamples if targets > 1 else 0
    generator = np.random.default_rng(settings.seed)
    means = [np.empty((len(stacked), 0))]
    step = max(1, _VALUES_AT_ONCE // (targets * len(stacked)))
    for start in range(0, resamples, step):
        drawn = generator.integers(0, targets, (min(step, resamples - start), targets))
        means.append(stacked[:, drawn].mean(axis=-1))
    return dict(zip(changes, np.concatenate(means, axis=1), strict=True))
