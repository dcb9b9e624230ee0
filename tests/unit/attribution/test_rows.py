"""Rows of unit length and clipped rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trak_cli.attribution.estimator.rows import (
    clip_rows,
    clip_threshold,
    float32_lengths,
    lengths_of_rows,
    median_length,
    training_rows,
    unit_rows,
)
from trak_cli.attribution.estimator.spec import EstimatorSpec


def _rows(n, k, seed):
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((n, k)) * np.exp(2 * generator.standard_normal((n, 1)))).astype(np.float32)


@given(n=st.integers(1, 30), k=st.integers(1, 9), c=st.floats(0.1, 10), seed=st.integers(0, 9))
def test_clipped_rows_keep_their_direction_and_short_ones_their_bits(n, k, c, seed):
    rows = _rows(n, k, seed)
    limit = c * median_length(rows)
    clipped = clip_rows(rows, limit)
    assert clipped.dtype == rows.dtype
    for before, after in zip(rows, clipped, strict=True):
        length = float(np.linalg.norm(before.astype(np.float64)))
        if length <= limit:
            assert np.array_equal(before, after)
        else:
            np.testing.assert_allclose(after, before * (limit / length), rtol=1e-6)


def test_clipping_does_not_change_what_was_given():
    rows = _rows(20, 4, 0)
    before = rows.copy()
    clip_rows(rows, 0.1)
    np.testing.assert_array_equal(rows, before)


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 5))
def test_the_limit_has_the_units_of_the_features(scale, seed):
    rows, spec = _rows(21, 5, seed).astype(np.float64), EstimatorSpec("a", clip_norm=1.5)
    assert clip_threshold(spec, scale * rows) == pytest.approx(scale * clip_threshold(spec, rows))
    assert clip_threshold(spec, rows) == pytest.approx(1.5 * np.median([np.linalg.norm(row) for row in rows]))


def test_no_clipping_and_rows_of_zeros():
    rows = _rows(9, 3, 1)
    assert clip_threshold(EstimatorSpec("a"), rows) == math.inf
    assert clip_threshold(EstimatorSpec("a", clip_norm=2.0), np.zeros((9, 3))) == math.inf
    assert training_rows(EstimatorSpec("a"), rows, math.inf) is rows
    np.testing.assert_array_equal(training_rows(EstimatorSpec("a", unit_norm=True), rows, math.inf), unit_rows(rows))


@pytest.mark.parametrize("unit", [1e-38, 1e-20, 1e-3, 1.0, 1e18, 1e37])
def test_float32_lengths_are_the_lengths_to_float32_precision_in_any_unit(unit: float) -> None:
    features = np.random.default_rng(3).standard_normal((40, 300)).astype(np.float32) * np.float32(unit)
    features[7] = 0
    features[9] *= np.float32(1e-3)
    np.testing.assert_allclose(float32_lengths(features), lengths_of_rows(features), rtol=2e-6)
