"""Confidence intervals and paired comparisons of the LDS by the bootstrap.

Each resample draws as many subsets and as many targets as there are, both with replacement, from one seeded generator.
All score sets use the same draw, so differences between them are paired. There are two methods:

- "reranked": every resample ranks the drawn subsets again, as if the LDS were computed from scratch on them (a repeated
  subset ties with itself). A resample leaves out targets that are constant in it.
- "linear": a first-order expansion in the weights of the subsets replaces each target's Spearman correlation. It
  includes the effect of the weights on the ranks (see :func:`spearman_expansion`). A resample is then two small matrix
  products. The error is of relative order 1/subsets.

:func:`compare` ranks again where this takes seconds and uses the expansion beyond that; the result names the method.

Resampling both sides counts noise that belongs to a single (target, subset) pair more than once (Owen 2007, "The
pigeonhole bootstrap"). The intervals are therefore too wide rather than too narrow where such noise dominates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trak_cli.attribution.lds.ranks import rank_correlation, rank_rows, row_blocks, spearman
from trak_cli.types import Float64, FloatArray

#: Largest targets × subsets × resamples for which every resample is ranked again.
RERANK_LIMIT = 300_000_000

_RESAMPLES_AT_ONCE = 64


@dataclass(frozen=True)
class Bootstrap:
    """How to resample.

    Attributes:
        resamples: how many times; with 0, intervals and p-values are NaN.
        seed: of the generator that draws subsets and targets.
        level: of the intervals.
        rerank: True: "reranked"; False: "linear"; None: by the amount of work.
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
class PValue:
    """A two-sided p-value, as a bootstrap of R resamples can tell it: min(1, 2 (count + 1) / (R + 1)).

    ``count`` is the number of resamples on the rarer side of zero. With count = 0 the value is 2 / (R + 1), the smallest
    that R resamples can give, whatever the true one is.

    Attributes:
        value: the p-value, NaN without resamples.
        is_upper_bound: count = 0: the p-value is at most ``value``.
    """

    value: float
    is_upper_bound: bool = False

    def __str__(self) -> str:
        """Three decimals: "0.034"; an upper bound, rounded up, as "< 0.002"; "" for NaN."""
        if math.isnan(self.value):
            return ""
        if self.is_upper_bound:
            return f"< {math.ceil(round(1000 * self.value, 6)) / 1000:.3f}"
        return f"{self.value:.3f}" if self.value >= 0.0005 else "< 0.001"


@dataclass(frozen=True)
class Difference:
    """LDS of ``first`` minus LDS of ``second`` on the same resamples, over the targets that are constant in neither."""

    first: str
    second: str
    interval: Interval
    p_value: PValue

    def reversed(self) -> Difference:
        """The same comparison as ``second`` minus ``first``."""
        interval = Interval(-self.interval.estimate, -self.interval.high, -self.interval.low)
        return Difference(self.second, self.first, interval, self.p_value)


@dataclass(frozen=True)
class Comparison:
    """Intervals of several LDS and of their differences.

    Attributes:
        sets: the LDS of every score set.
        differences: of every two score sets, in the order of ``sets``.
        method: "reranked" or "linear".
    """

    sets: dict[str, Interval]
    differences: tuple[Difference, ...]
    method: str


def compare(predictions: Mapping[str, Float64], outputs: FloatArray, settings: Bootstrap) -> Comparison:
    """Intervals of the LDS of several score sets and of the difference between every two of them, in the given order.

    Args:
        predictions: for every name, the sums of scores over each subset (t, s).
        outputs: outputs of the retrained models (s, t).
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
    draws = _draws(outputs.shape, settings)
    means = [_contrast_means(contrasts, resample(subsets), targets) for subsets, targets in draws]
    drawn = np.concatenate([np.empty((0, len(contrasts))), *means])

    intervals = [interval_of(float(e), d, settings.level) for e, d in zip(estimates, drawn.T, strict=True)]
    differences = tuple(
        Difference(names[a], names[b], interval, p_value_of(values))
        for (a, b), interval, values in zip(pairs, intervals[len(names) :], drawn.T[len(names) :], strict=True)
    )
    return Comparison(dict(zip(names, intervals, strict=False)), differences, "reranked" if rerank else "linear")


def _draws(shape: tuple[int, int], settings: Bootstrap) -> Iterator[tuple[Float64, Float64]]:
    """Yield how often each subset (B, s) and each target (B, t) occurs, for a few resamples at a time."""
    generator = np.random.default_rng(settings.seed)
    for start in range(0, settings.resamples, _RESAMPLES_AT_ONCE):
        counts: tuple[list[Float64], list[Float64]] = ([], [])
        for _ in range(min(_RESAMPLES_AT_ONCE, settings.resamples - start)):
            for size, rows in zip(shape, counts, strict=True):
                rows.append(np.bincount(generator.integers(0, size, size), minlength=size).astype(np.float64))
        yield np.array(counts[0]), np.array(counts[1])


def _contrast_means(contrasts: Sequence[tuple[int, ...]], correlations: list[Float64], counts: Float64) -> Float64:
    """Mean over targets, weighted by ``counts`` (B, t), of every single set or difference of two sets: (B, contrasts).

    Targets that are NaN (constant) in one of the sets are left out.
    """
    means = np.full((len(counts), len(contrasts)), np.nan)
    for column, (first, *second) in enumerate(contrasts):
        values = correlations[first] - correlations[second[0]] if second else correlations[first]
        finite = np.isfinite(values)
        weights = np.where(finite, counts, 0.0).sum(axis=1)
        sums = np.where(finite, values * counts, 0.0).sum(axis=1)
        np.divide(sums, weights, out=means[:, column], where=weights > 0)
    return means


def interval_of(estimate: float, drawn: Float64, level: float) -> Interval:
    """The percentile interval of resampled values; NaN without finite ones."""
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def p_value_of(drawn: Float64) -> PValue:
    """The two-sided p-value of zero among resampled values; NaN without finite ones."""
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return PValue(float("nan"))
    rarer = int(min((finite <= 0).sum(), (finite >= 0).sum()))
    value = 2 * (rarer + 1) / (len(finite) + 1)
    return PValue(min(1.0, value), is_upper_bound=rarer == 0 and value < 1)


#: Maps ``counts`` (B, s), how often each column occurs in each of B resamples, to the correlations (B, t) of every array.
Resampler = Callable[[Float64], list[Float64]]


def reranking(arrays: Sequence[FloatArray], reference: FloatArray) -> Resampler:
    """Correlations of the rows of each (t, s) array with those of ``reference``, ranked again: O(t · s) a resample."""
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
    """Correlations to first order in the counts: one matrix product for any number of resamples."""
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
