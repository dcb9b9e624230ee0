"""Scores by the estimators of this program, with the first 1, 2, … checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from setting import Setting

from trak_cli.attribution import (
    EstimatorSpec,
    GramSum,
    decompose,
    front,
    score_block,
    target_factor,
    unit_rows,
    weights_of,
)

Array = np.ndarray[Any, Any]


def scores(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """(count, scores (t, n)) by the pieces of the program that the stages use."""
    total: Array | None = None
    fronts = []
    for number, name in enumerate(setting.checkpoints[: max(counts)], start=1):
        found = setting.features(name)
        features = unit_rows(found.train) if spec.unit_norm else found.train
        weights = weights_of(spec, features, found.out_to_loss, found.outputs)
        spectrum, ridge = None, 0.0
        if spec.needs_gram:
            gram = GramSum(features.shape[1])
            gram.add(features, weights.gram)
            spectrum = decompose(gram.result())
            ridge = spec.ridge_in(spectrum)
        factor = target_factor(spec, found.targets, spectrum, ridge)
        kernel = score_block(spec, [factor], [found.train], np.ones(len(features))).astype(np.float64)
        total = kernel if total is None else total + kernel
        fronts.append(weights.front)
        if number in counts:
            yield number, total / number * front(spec, fronts)
