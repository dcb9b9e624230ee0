"""Scores by the estimators of this program, with the first 1, 2, … checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from setting import Features, Setting

from trak_cli.attribution import (
    EstimatorSpec,
    GramSum,
    add_rows,
    believed,
    cosines,
    decompose,
    front,
    norm_limit,
    score_block,
    target_factor,
    training_rows,
    unit_rows,
    weights_of,
)

Array = np.ndarray[Any, Any]


def kernel(found: Features, spec: EstimatorSpec) -> tuple[Array, Array]:
    """What one checkpoint adds to the two averages, by the pieces that the stages use: kernel (t, n), ratio in front (n,).

    Before any shrinking, which is done to the averages. With equal targets the kernel is right but for one factor for each
    target, which no LDS sees.
    """
    limit = norm_limit(spec, found.train)
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
    return (block / factor.length if spec.equal_targets else block), weights.front


def averages(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[tuple[int, Array, Array]]:
    """(count, scores (t, n) before any shrinking, mean cosines (t, n) if the spec shrinks) with the first checkpoints."""
    total: Array | float = 0.0
    alike: Array = np.zeros(())
    fronts = []
    for number, name in enumerate(setting.checkpoints[: max(counts)], start=1):
        found = setting.features(name)
        one, ratio = kernel(found, spec)
        total = total + one.astype(np.float64)
        if spec.shrinkage:
            alike = alike + cosines(unit_rows(found.targets), found.train)
        fronts.append(ratio)
        if number in counts:
            yield number, total / number * front(spec, fronts), alike / number


def scores(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """(count, scores (t, n)) with the first checkpoints."""
    for count, found, alike in averages(setting, spec, counts):
        yield count, found * believed(alike, spec.shrinkage, count) if spec.shrinkage else found
