"""The search over the estimator family: which members a grid has, and what they share.

The sum of scores over a subset S needs no scores. With c_{m,S} = Σ_{i∈S} w_i x_{m,i}, w_i the sample weights, it is

    Σ_{i∈S} score(i, j) = mean_m [ t_{m,j}ᵀ B_m c_{m,S} ],

so one pass over the features serves all members that share the rows x and the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key, without_unused
from trak_cli.attribution.estimator.validation import spec_problems
from trak_cli.types import Float64, FloatArray, IntArray, SubsetWeights


def grid_members(base: EstimatorSpec, grid: Mapping[str, Iterable[Any]]) -> list[EstimatorSpec]:
    """Every valid combination of the values of a grid, once, in the order of the grid.

    Fields without effect are at their default: a metric without a Gram matrix has no ridge, for example.

    Args:
        base: has the values of the fields that are not in the grid.
        grid: field of :class:`EstimatorSpec` -> values.
    """
    members: dict[EstimatorSpec, None] = {}
    for values in product(*grid.values()):
        spec = without_unused(replace(base, **dict(zip(grid, values, strict=True))))
        if not spec_problems(spec):
            members[spec] = None
    return list(members)


def groups(specs: Sequence[EstimatorSpec]) -> list[list[EstimatorSpec]]:
    """The specs that one pass over the features serves: those with the same rows and the same Gram matrix."""
    together: dict[tuple[str, bool], list[EstimatorSpec]] = {}
    for spec in specs:
        together.setdefault((gram_key(spec), spec.unit_norm), []).append(spec)
    return list(together.values())


def halves(count: int, seed: int, most: int | None = None) -> tuple[IntArray, IntArray]:
    """A random half of 0…count − 1 and the other half, int64, both ascending; the first has at most ``most`` members."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = order[: count // 2], order[count // 2 :]
    return np.sort(first[:most]), np.sort(second)


def subset_sums(features: FloatArray, sample_weight: Float64, weights: SubsetWeights) -> Float64:
    """The part of c_S that some training samples contribute, (k, s) float64.

    Args:
        features: (r, k).
        sample_weight: (r,) w_i.
        weights: (s, r), whether sample i is in subset S, or its weight there.
    """
    weighted = features.astype(np.float64) * sample_weight[:, None]
    sums: Float64 = weighted.T @ weights.T.astype(np.float64)
    return sums
