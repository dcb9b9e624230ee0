"""How far a measured LDS can be trusted: intervals and paired comparisons by the bootstrap.

Each resample draws as many subsets and as many targets as there are, both with replacement, from one seeded
generator, and uses the same draw for every score set, so that differences are paired. What is ranked again:

- "reranked": the drawn subsets are ranked anew in every resample, exactly as if the LDS were computed from scratch on
  them (repeated subsets tie with themselves); targets that become constant are left out of that resample.
- "linear": each target's Spearman correlation is replaced by its first-order expansion in the weights of the subsets,
  with the effect of the weights on the ranks included (:mod:`trak_cli.attribution.lds.bootstrap`). Nothing is ranked
  again: a resample is two small products.

Exact ranking is used while it costs seconds, the expansion beyond; the result says which. The expansion leaves out
terms of relative order 1/subsets.

Resampling both sides counts the noise that belongs to a single (target, subset) pair more than once (Owen 2007, "The
pigeonhole bootstrap"), so intervals err on the wide side when that noise is the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trak_cli.attribution.lds.ranks import rank_correlation, rank_rows, row_blocks, spearman
from trak_cli.types import Float64, FloatArray

#: Most (targets × subsets × resamples) that are ranked again.
RERANK_LIMIT = 300_000_000


_RESAMPLES_AT_ONCE = 64


@dataclass(frozen=True)
class Bootstrap:
    """How to resample: how often (0: no intervals, they are NaN), from which seed, for intervals of which level.

    ``rerank``: True and False force the exact and the linear way; None decides by the amount of work.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    rerank: bool | None = None


@dataclass(frozen=True)
class Interval:
    """A percentile interval [low, high] of a quantity whose value on the data is ``estimate``."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """LDS of ``first`` minus LDS of ``second``, over the targets that count for both, on the same resamples.

    ``p_value`` is two-sided: twice the share of resamples on the rarer side of zero, (count + 1) / (resamples + 1),
    at most 1.
    """

    first: str
    second: str
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The LDS of every score set, all their differences, and how they were resampled ("reranked" or "linear")."""

    sets: dict[str, Interval]
    differences: tuple[Difference, ...]
    method: str


def bootstrap_interval(predictions: Float64, outputs: FloatArray, settings: Bootstrap) -> Interval:
    """Interval of one LDS, from ``predictions`` (t, s) (see ``LdsResult``) and ``outputs`` (s, t)."""
    return compare({"it": predictions}, outputs, settings).sets["it"]


def compare(predictions: Mapping[str, Float64], outputs: FloatArray, settings: Bootstrap) -> Comparison:
    """Intervals of several score sets and of all differences between two of them, in the order given.

    Args:
        predictions: by name, (t, s) sums of scores.
        outputs: (s, t) retrained outputs.
        settings: how to resample.
    """
    names, arrays = list(predictions), list(predictions.values())
    rerank = settings.rerank
    if rerank is None:
        rerank = outputs.size * settings.resamples <= RERANK_LIMIT
    resample = (reranking if rerank else expanding)(arrays, outputs.T)
    pairs = list(combinations(range(len(names)), 2))
    contrasts: list[tuple[int, ...]] = [*((i,) for i in range(len(names))), *pairs]

    observed = [spearman(array, outputs.T)[None] for array in arrays]
    estimates = _contrast_means(contrasts, observed, np.ones((1, outputs.shape[1])))[0]
    drawn = np.concatenate(
        [
            np.empty((0, len(contrasts))),
            *(
                _contrast_means(contrasts, resample(subset_counts), target_counts)
                for subset_counts, target_counts in _draws(outputs.shape, settings)
            ),
        ]
    )

    intervals = [_interval(float(e), d, settings.level) for e, d in zip(estimates, drawn.T, strict=True)]
    differences = tuple(
        Difference(names[a], names[b], interval, _p_value(values))
        for (a, b), interval, values in zip(pairs, intervals[len(names) :], drawn.T[len(names) :], strict=True)
    )
    return Comparison(dict(zip(names, intervals, strict=False)), differences, "reranked" if rerank else "linear")


def _draws(shape: tuple[int, int], settings: Bootstrap) -> Iterator[tuple[Float64, Float64]]:
    """How often each subset (B, s) and each target (B, t) occurs, a few resamples at a time."""
    generator = np.random.default_rng(settings.seed)
    for start in range(0, settings.resamples, _RESAMPLES_AT_ONCE):
        counts: tuple[list[Float64], list[Float64]] = ([], [])
        for _ in range(min(_RESAMPLES_AT_ONCE, settings.resamples - start)):
            for size, rows in zip(shape, counts, strict=True):
                rows.append(np.bincount(generator.integers(0, size, size), minlength=size).astype(np.float64))
        yield np.array(counts[0]), np.array(counts[1])


def _contrast_means(contrasts: Sequence[tuple[int, ...]], correlations: list[Float64], counts: Float64) -> Float64:
    """Mean over targets, weighted with ``counts`` (B, t), of every single set or difference of two → (B, contrasts).

    A target that is NaN (constant) in one of the sets does not count.
    """
    means = np.full((len(counts), len(contrasts)), np.nan)
    for column, (first, *second) in enumerate(contrasts):
        values = correlations[first] - correlations[second[0]] if second else correlations[first]
        finite = np.isfinite(values)
        weights = np.where(finite, counts, 0.0).sum(axis=1)
        sums = np.where(finite, values * counts, 0.0).sum(axis=1)
        np.divide(sums, weights, out=means[:, column], where=weights > 0)
    return means


def _interval(estimate: float, drawn: Float64, level: float) -> Interval:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _p_value(drawn: Float64) -> float:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return float("nan")
    rarer = min((finite <= 0).sum(), (finite >= 0).sum())
    return min(1.0, 2.0 * float(rarer + 1) / (len(finite) + 1))


#: From ``counts`` (B, s), how often each column occurs in each of B resamples, to the correlations (B, t) of every
#: array.
Resampler = Callable[[Float64], list[Float64]]


def reranking(arrays: Sequence[FloatArray], reference: FloatArray) -> Resampler:
    """Correlations of the rows of each (t, s) array with those of ``reference``, exact: O(t · s) for each resample."""
    ranked = [rank_rows(array) for array in arrays]
    ranked_reference = rank_rows(reference)

    def correlations(counts: Float64) -> list[Float64]:
        result = [np.empty((len(counts), len(reference))) for _ in arrays]
        for row, weights in enumerate(counts):
            reference_ranks = ranked_reference.balance(weights)
            for rows, out in zip(ranked, result, strict=True):
                out[row] = rank_correlation(rows.balance(weights), reference_ranks, weights)
        return result

    return correlations


def expanding(arrays: Sequence[FloatArray], reference: FloatArray) -> Resampler:
    """The same to first order in the counts: one matrix product for any number of resamples."""
    expansions = [spearman_expansion(array, reference) for array in arrays]

    def correlations(counts: Float64) -> list[Float64]:
        return [value + (counts - 1.0) @ influence.T for value, influence in expansions]

    return correlations


def spearman_expansion(first: FloatArray, second: FloatArray) -> tuple[Float64, Float64]:
    """Spearman's correlation of the rows of two (t, s) arrays and its derivative in the weight of each column.

    With ranks u, v that are themselves weighted sums (``RankedRows.balance``), ρ = N / √(U V) for N = Σ w u v, U = Σ
    w u², V = Σ w v². Both the direct weight of a column and its effect on the ranks of all others are differentiated,
    at w = 1.

    Returns:
        (t,) correlations and (t, s) derivatives, NaN where a row is constant. Derivatives of a row sum to 0.
    """
    value, influence = np.empty(len(first)), np.empty(first.shape)
    once = np.ones(first.shape[1])
    for rows in row_blocks(len(first)):
        x, y = rank_rows(first[rows]), rank_rows(second[rows])
        u, v = x.balance(once), y.balance(once)
        # Σ_p (∂u_p/∂w_c) g_p = −balance(g)_c: a column below p raises the rank of p by a half, one above lowers it.
        dn = u * v - x.balance(v) - y.balance(u)
        du = u * u - 2 * x.balance(u)
        dv = v * v - 2 * y.balance(v)
        U, V = (u * u).sum(axis=1, keepdims=True), (v * v).sum(axis=1, keepdims=True)
        value[rows] = rank_correlation(u, v, once)
        with np.errstate(invalid="ignore", divide="ignore"):
            influence[rows] = dn / np.sqrt(U * V) - 0.5 * value[rows, None] * (du / U + dv / V)
    return value, influence
