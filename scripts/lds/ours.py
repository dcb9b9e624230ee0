"""Scores by the estimators of trak, with the first 1, 2, … checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from setting import Features, Setting

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.simulated_training import flow_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import add_rows, simulate_for, weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight, score_block, target_factor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """The contribution of one checkpoint to the averages, computed with the functions of the stages.

    With ``normalize_targets`` the kernel is correct up to a factor per target, which does not change the LDS.

    Attributes:
        kernel: (t, n).
        ratio: (n,) the sample weight under this checkpoint.
        cosines: (t, n), or None if the spec has no shrinkage.
    """

    kernel: Array
    ratio: Array
    cosines: Array | None


def part(stored: Features, spec: EstimatorSpec) -> Part:
    """Return the part of the checkpoint that has these features."""
    limit = clip_threshold(spec, stored.train)
    features = training_rows(spec, stored.train, limit)
    some = flow_rows(len(features))
    training = simulate_for(spec, features[some], stored.out_to_loss[some], stored.outputs[some], len(features))
    curvature = stored.curvature if spec.uses_curvature else None
    weights = weigh(spec, training, features, stored.out_to_loss, curvature)
    spectrum, ridge = None, 0.0
    if spec.needs_gram:
        gram = GramSum(features.shape[1])
        add_rows(gram, features, weights, curvature, stored.outputs)
        spectrum = decompose(gram.result())
        ridge = spec.ridge_in(spectrum)
    plain = replace(spec, shrinkage=0.0)
    factor = target_factor(plain, stored.targets, spectrum, ridge, limit)
    block = score_block(plain, [factor], [stored.train], np.ones(len(features)))
    kernel = (block / factor.length if spec.normalize_targets else block).astype(np.float64)
    return Part(kernel, weights.sample, cosines(unit_rows(stored.targets), stored.train) if spec.shrinkage else None)


def together(parts: Sequence[Part], spec: EstimatorSpec) -> Array:
    """Return the scores (t, n) with these checkpoints."""
    scores: Array = np.mean([item.kernel for item in parts], axis=0) * sample_weight(spec, [item.ratio for item in parts])
    return scores * shrinkage_factor(mean_cosines(parts), spec.shrinkage, len(parts)) if spec.shrinkage else scores


def mean_cosines(parts: Sequence[Part]) -> Array:
    """Return the mean cosines (t, n) over the checkpoints, for a spec with shrinkage."""
    return np.mean([item.cosines for item in parts if item.cosines is not None], axis=0)


def parts(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[list[Part]]:
    """Yield, for each count, the parts of the first ``count`` checkpoints."""
    first: list[Part] = []
    for number, name in enumerate(setting.checkpoints[: max(counts)], start=1):
        first.append(part(setting.features(name), spec))
        if number in counts:
            yield first


def scores(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """Yield (count, scores (t, n)) with the first ``count`` checkpoints."""
    for first in parts(setting, spec, counts):
        yield len(first), together(first, spec)
