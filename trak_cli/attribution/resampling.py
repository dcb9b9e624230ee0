"""Spearman correlations under resampled columns: ranked anew, or by a first-order expansion that ranks once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trak_cli.attribution.ranks import rank_correlation, rank_rows, row_blocks
from trak_cli.types import Float64, FloatArray

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
