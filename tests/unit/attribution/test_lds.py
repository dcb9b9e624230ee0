"""The LDS against scipy's Spearman correlation, target by target, and the laws that it obeys."""

import sys
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ConstantInputWarning, rankdata, spearmanr

from trak_cli.attribution.lds.lds import lds, streamed_predictions, subset_predictions
from trak_cli.attribution.lds.ranks import rank_rows, spearman
from trak_cli.types import Rows


def _data(t=8, n=50, s=30, noise=1.0, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal((t, n)).astype(np.float32)
    masks = generator.random((s, n)) < 0.5
    outputs = masks @ scores.T.astype(np.float64) + noise * np.sqrt(n) * generator.standard_normal((s, t))
    return scores, masks, outputs


def _oracle(scores, masks, outputs):
    sums = [[sum(float(row[i]) for i in np.flatnonzero(mask)) for mask in masks] for row in scores]
    with warnings.catch_warnings(action="ignore", category=ConstantInputWarning):
        return np.array([spearmanr(p, o).statistic for p, o in zip(sums, outputs.T, strict=True)])


def test_equals_scipy_target_by_target():
    scores, masks, outputs = _data()
    result = lds(scores, masks, outputs)
    expected = _oracle(scores, masks, outputs)
    np.testing.assert_allclose(result.per_target, expected, atol=1e-12)
    assert result.mean == pytest.approx(expected.mean())
    assert np.isfinite(result.per_target).all()


def test_equals_scipy_with_many_ties_on_both_sides():
    scores, masks, outputs = _data(s=200)
    scores = np.rint(scores)
    outputs = np.rint(outputs / 4)
    np.testing.assert_allclose(lds(scores, masks, outputs).per_target, _oracle(scores, masks, outputs), atol=1e-12)


def test_sums_of_scores_over_blocks(monkeypatch):
    scores, masks, _ = _data(t=20, n=33)
    module = sys.modules[subset_predictions.__module__]
    monkeypatch.setattr(module, "_TARGETS_AT_ONCE", 7)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 10)
    expected = [[row[mask].astype(np.float64).sum() for mask in masks] for row in scores]
    np.testing.assert_allclose(subset_predictions(scores, masks), expected, atol=1e-12)


def test_sums_do_not_depend_on_how_scores_are_streamed():
    scores, masks, _ = _data(t=20, n=33)
    tiles = [(Rows(a, b), Rows(c, d)) for a, b in ((7, 20), (0, 7)) for c, d in ((0, 10), (10, 11), (11, 33))]
    blocks = [(at, rows, scores[at.start : at.stop, rows.start : rows.stop]) for at, rows in tiles]
    np.testing.assert_allclose(streamed_predictions(blocks, masks, 20), subset_predictions(scores, masks), atol=1e-12)


def test_constant_targets_are_left_out():
    scores, masks, outputs = _data()
    outputs[:, 2] = 7.0
    scores[4] = 0
    scores[5], outputs[:, 5] = 0, 1.0
    result = lds(scores, masks, outputs)
    assert np.flatnonzero(np.isnan(result.per_target)).tolist() == [2, 4, 5]
    kept = [0, 1, 3, 6, 7]
    assert result.mean == pytest.approx(_oracle(scores, masks, outputs)[kept].mean())


def test_equal_scores_and_subsets_of_one_size_are_constant_despite_rounding():
    generator = np.random.default_rng(0)
    masks = np.array([generator.permutation(20_000) < 10_000 for _ in range(40)])
    scores = np.full((1, 20_000), 0.1)  # sums of 0.1 depend on how they are grouped
    result = lds(scores, masks, generator.standard_normal((40, 1)))
    assert np.isnan(result.mean)


def test_a_perfect_prediction_has_lds_one_and_a_reversed_one_minus_one():
    scores, masks, outputs = _data(noise=0)
    np.testing.assert_array_equal(lds(scores, masks, outputs).per_target, 1)
    np.testing.assert_array_equal(lds(-scores, masks, outputs).per_target, -1)


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_only_the_order_of_outputs_and_the_direction_of_scores_count(factor, seed):
    scores, masks, outputs = _data(seed=seed)
    expected = lds(scores, masks, outputs).per_target
    monotone = np.arctan(outputs / 10) ** 3
    np.testing.assert_allclose(lds(scores, masks, monotone).per_target, expected, atol=1e-12)
    np.testing.assert_allclose(lds(scores * np.float32(factor), masks, outputs).per_target, expected, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(30)))
def test_the_order_of_subsets_does_not_count(order):
    scores, masks, outputs = _data()
    permuted = lds(scores, masks[order], outputs[order])
    np.testing.assert_allclose(permuted.per_target, lds(scores, masks, outputs).per_target, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=4))
def test_ranks_average_ties(rows):
    values = np.array(rows, np.float64)
    np.testing.assert_array_equal(rank_rows(values).balance(np.ones(7)), rankdata(values, axis=1) - 4)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(-3, 3), min_size=7, max_size=7),
    st.lists(st.integers(0, 3), min_size=7, max_size=7).filter(any),
)
def test_counted_ranks_are_the_ranks_of_repeated_columns(row, counts):
    values, repeats = np.array([row], np.float64), np.array(counts)
    repeated = rankdata(np.repeat(values[0], repeats)) - (repeats.sum() + 1) / 2
    got = np.repeat(rank_rows(values).balance(repeats.astype(np.float64))[0], repeats)
    np.testing.assert_array_equal(got, repeated)


def test_shapes_that_do_not_fit_are_refused():
    scores, masks, outputs = _data()
    with pytest.raises(ValueError, match=r"\(subsets, targets\)"):
        lds(scores, masks, outputs.T)


def test_ranking_is_one_pass_over_large_arrays():
    """2,000 targets × 500 subsets take a tenth of a second; row by row in Python they would take many."""
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 2000, 500))
    start = time.perf_counter()
    spearman(first, second)
    assert time.perf_counter() - start < 3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.25, 8), subsets=st.integers(1, 7), rows=st.integers(1, 40))
def test_sums_are_linear_in_real_weights_and_weights_of_zero_and_one_are_masks(seed, scale, subsets, rows):
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal((3, rows)).astype(np.float32)
    masks = generator.random((subsets, rows)) < 0.5
    weights = generator.uniform(-1, 2, (subsets, rows)).astype(np.float32)
    np.testing.assert_array_equal(subset_predictions(scores, masks), subset_predictions(scores, masks.astype(np.float32)))
    np.testing.assert_allclose(subset_predictions(scores, weights), scores.astype(float) @ weights.T.astype(float), atol=1e-9)
    both = subset_predictions(scores, masks) + np.float32(scale) * subset_predictions(scores, weights)
    together = masks.astype(np.float32) + np.float32(scale) * weights
    np.testing.assert_allclose(subset_predictions(scores, together), both, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_out_and_what_is_kept_rank_subsets_of_one_size_alike(seed):
    scores, _, _ = _data(seed=seed)
    generator = np.random.default_rng(seed)
    masks = np.stack([generator.permutation(50) < 45 for _ in range(30)])
    outputs = generator.standard_normal((30, 8))
    kept, left_out = lds(scores, masks, outputs), lds(-scores, ~masks, outputs)
    np.testing.assert_allclose(kept.per_target, left_out.per_target, atol=1e-12)
