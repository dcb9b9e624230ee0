"""Choosing a member of the estimator family by a ground truth: which members there are, and what they predict.

The sum of scores over a subset S needs no scores. With c_{m,S} = Σ_{i∈S} front_i x_{m,i} it is

    Σ_{i∈S} score(i, j) = mean_m [ t_{m,j}ᵀ B_m c_{m,S} ],

so that one pass over the features serves every ridge: in the eigenbasis of the Gram matrix, B is a diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key, spec_problems
from trak_cli.attribution.linalg.spectrum import Spectrum, singular_problems
from trak_cli.errors import ConfigError
from trak_cli.types import BoolArray, Float64, FloatArray, IntArray


def grid_members(base: EstimatorSpec, grid: Mapping[str, Sequence[Any]]) -> list[EstimatorSpec]:
    """``base`` with every combination of the grid's values that is a valid estimator, each once.

    ``grid`` maps fields of :class:`EstimatorSpec` to values. Metric "identity" has no Gram matrix: fields that describe
    one (and ``clip_norm``) take their neutral values. Rows of unit length are not clipped.
    """
    members: dict[EstimatorSpec, None] = {}
    for values in product(*grid.values()):
        spec = replace(base, **dict(zip(grid, values, strict=True)))
        if spec.metric == "identity":
            spec = replace(spec, gram_exponent=0.0, weights="final", ridge="auto", clip_norm=0.0)
        elif spec.unit_norm:
            spec = replace(spec, clip_norm=0.0)
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
    """A random half of 0…count − 1 and the other half, both ascending; the first has ``most`` members at most."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = order[: count // 2], order[count // 2 :]
    return np.sort(first[:most]), np.sort(second)


def subset_sums(features: FloatArray, front: Float64, members: BoolArray) -> Float64:
    """c_S of some training samples: ``features`` (r, k), ``front`` (r,), ``members`` (s, r) → (k, s)."""
    weighted = features.astype(np.float64) * front[:, None]
    sums: Float64 = weighted.T @ members.T.astype(np.float64)
    return sums


def predictions_by_ridge(
    targets: Float64, sums: Float64, spectrum: Spectrum, ridges: Sequence[float]
) -> Iterator[tuple[Float64, Float64]]:
    """For each λ the sums of scores (t, s) and the lengths of the targets (t, 1), (tᵀ A⁻¹ t)^(1/2), under one checkpoint.

    ``targets`` are (t, k), ``sums`` c_S (k, s).

    Raises:
        ConfigError: Gram + λI is singular.
    """
    left, right = targets @ spectrum.vectors, spectrum.vectors.T @ sums
    beyond = 0.0 if spectrum.complete else targets @ sums - left @ right
    squares = left * left
    rest = 0.0 if spectrum.complete else (np.einsum("tk,tk->t", targets, targets) - squares.sum(axis=1)).clip(min=0)
    for ridge in ridges:
        if problems := singular_problems(spectrum, ridge):
            raise ConfigError(problems)
        inside: Float64 = (left / (spectrum.values + ridge)) @ right
        lengths = squares @ (1 / (spectrum.values + ridge))
        if not spectrum.complete:
            inside, lengths = inside + beyond / ridge, lengths + rest / ridge
        yield inside, np.sqrt(lengths)[:, None]
