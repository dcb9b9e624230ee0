"""Scores by the estimators of this program, with the first 1, 2, … checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from setting import Features, Setting

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import add_rows, weights_of
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight, score_block, target_factor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """What one checkpoint adds to the averages, by the pieces that the stages use.

    With equal targets the kernel is right but for one factor for each target, which no LDS sees.

    Attributes:
        kernel: (t, n).
        ratio: (n,) the sample weight under this checkpoint.
        cosines: (t, n), where the spec shrinks.
    """

    kernel: Array
    ratio: Array
    cosines: Array | None


def part(found: Features, spec: EstimatorSpec) -> Part:
    """That of a checkpoint with these features."""
    limit = clip_threshold(spec, found.train)
    features = training_rows(spec, found.train, limit)
    weights = weights_of(spec, features, found.out_to_loss, found.outputs)
    spectrum, ridge = None, 0.0
    if spec.needs_gram:
        gram = GramSum(features.shape[1])
        add_rows(gram, features, weights, found.terms)
        spectrum = decompose(gram.result())
        ridge = spec.ridge_in(spectrum)
    plain = replace(spec, shrinkage=0.0)
    factor = target_factor(plain, found.targets, spectrum, ridge, limit)
    block = score_block(plain, [factor], [found.train], np.ones(len(features)))
    kernel = (block / factor.length if spec.normalize_targets else block).astype(np.float64)
    return Part(kernel, weights.sample, cosines(unit_rows(found.targets), found.train) if spec.shrinkage else None)


def together(parts: Sequence[Part], spec: EstimatorSpec) -> Array:
    """Scores (t, n) with these checkpoints."""
    scores: Array = np.mean([one.kernel for one in parts], axis=0) * sample_weight(spec, [one.ratio for one in parts])
    return scores * shrinkage_factor(mean_cosines(parts), spec.shrinkage, len(parts)) if spec.shrinkage else scores


def mean_cosines(parts: Sequence[Part]) -> Array:
    """(t, n) over the checkpoints, of a spec that shrinks."""
    return np.mean([one.cosines for one in parts if one.cosines is not None], axis=0)


def parts(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[list[Part]]:
    """Those of the first checkpoints, of so many as each count says."""
    found: list[Part] = []
    for number, name in enumerate(setting.checkpoints[: max(counts)], start=1):
        found.append(part(setting.features(name), spec))
        if number in counts:
            yield found


def scores(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """(count, scores (t, n)) with the first checkpoints."""
    for found in parts(setting, spec, counts):
        yield len(found), together(found, spec)
