"""Streamed extremes against a full sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.topk import TopK


def _oracle(scores, k):
    """Full stable sort: ties stay in the order of their rows."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    bottom = np.argsort(scores, axis=1, kind="stable")[:, :k]
    return top, bottom


def _check(ends, scores, k):
    for end, expected in zip((ends.top, ends.bottom), _oracle(scores, k), strict=True):
        np.testing.assert_array_equal(end.indices, expected)
        np.testing.assert_array_equal(end.values, np.take_along_axis(scores, expected, 1))
        assert end.indices.dtype == np.int64
        assert end.values.dtype == np.float32


def _streamed(scores, k, cuts):
    kept = TopK(len(scores), k)
    for rows in np.split(np.arange(scores.shape[1]), cuts):
        if len(rows):
            kept.update(scores[:, rows], int(rows[0]))
    return kept


def _scores(levels, rows=40, seed=0):
    """Few levels give many ties; zeros of both signs among them."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels + 1, (6, rows)).astype(np.float32)
    return np.where(generator.random(scores.shape) < 0.5, scores, -scores)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(0, 3), st.lists(st.integers(0, 40), max_size=5).map(sorted), st.integers(0, 1000))
def test_equals_a_full_sort_with_any_ties_and_blocks(k, levels, cuts, seed):
    scores = _scores(levels, seed=seed)
    _check(_streamed(scores, k, cuts).result(), scores, k)


def test_equals_a_full_sort_on_floats_of_every_size():
    generator = np.random.default_rng(0)
    scores = (generator.standard_normal((5, 500)) * 10.0 ** generator.integers(-44, 38, (5, 500))).astype(np.float32)
    scores[0, :4] = np.inf, -np.inf, np.inf, -np.inf
    _check(_streamed(scores, 20, [100, 333]).result(), scores, 20)


def test_zeros_of_either_sign_tie():
    scores = np.array([[-0.0, 0.0, -0.0]], np.float32)
    np.testing.assert_array_equal(_streamed(scores, 3, [1]).result().top.indices, [[0, 1, 2]])
    np.testing.assert_array_equal(_streamed(scores, 3, [1]).result().bottom.indices, [[0, 1, 2]])


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(4)), st.integers(0, 2), st.integers(1, 12))
def test_merging_is_associative_and_takes_any_order(order, levels, k):
    scores = _scores(levels)

    def parts():
        result = []
        for start in range(0, 40, 10):
            part = TopK(len(scores), k)
            part.update(scores[:, start : start + 10], start)
            result.append(part)
        return result

    left = parts()
    for other in order[1:]:
        left[order[0]].merge(left[other])
    right = parts()
    right[order[2]].merge(right[order[3]])
    right[order[1]].merge(right[order[2]])
    right[order[0]].merge(right[order[1]])
    _check(left[order[0]].result(), scores, k)
    _check(right[order[0]].result(), scores, k)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        TopK(1, 2).update(np.array([[np.nan]], np.float32), 0)
    with pytest.raises(ValueError, match="k = 3"):
        TopK(1, 2).merge(TopK(1, 3))
    with pytest.raises(ValueError, match="2\\^32"):
        TopK(1, 2).update(np.zeros((1, 2), np.float32), 2**32 - 2)


def test_partial_results_can_be_stored_and_resumed():
    scores = _scores(2)
    first, second = (_streamed(scores[:, :25], 7, [10]), TopK(len(scores), 7))
    second.update(scores[:, 25:], 25)
    again = TopK.restore(first.result(), 7)
    again.merge(second)
    _check(again.result(), scores, 7)
