"""Soft-thresholding: the operator as the paper writes it, and where its threshold comes from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trak_cli.attribution.estimator.threshold import REFERENCE_ROWS, reference_rows, soften, thresholds

small = st.floats(-100, 100, width=32)


def paper(value: float, limit: float) -> float:
    """S(τ; λ) = (τ − λ) 1{τ > λ} + (τ + λ) 1{τ < −λ} (Park et al. 2023, section 3.2, step 5)."""
    return (value - limit) * (value > limit) + (value + limit) * (value < -limit)


@given(arrays(np.float32, (3, 8), elements=small), st.floats(0, 50))
def test_the_operator_of_the_paper(scores, limit):
    found = soften(scores, np.full(3, limit))
    expected = [[paper(float(value), limit) for value in row] for row in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("share", "zeros"), [(0.0, 1), (0.5, 6), (0.9, 10)])
def test_the_share_is_what_becomes_zero(share, zeros):
    scores = np.random.default_rng(0).standard_normal((4, 11)).astype(np.float32)
    found = soften(scores, thresholds(scores, share))
    assert ((found == 0).sum(axis=1) == zeros).all()
    kept = found != 0
    assert (np.sign(found[kept]) == np.sign(scores[kept])).all()


@given(arrays(np.float32, (2, 9), elements=small), st.sampled_from([0.25, 0.5, 0.75]), st.integers(-5, 5))
def test_the_unit_of_scores_does_not_matter(scores, share, power):
    unit = np.float32(2.0**power)
    scaled = soften(scores * unit, thresholds(scores * unit, share))
    np.testing.assert_allclose(scaled, soften(scores, thresholds(scores, share)) * unit, rtol=1e-5, atol=1e-5)


def test_every_target_has_its_own_threshold():
    scores = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    np.testing.assert_array_equal(soften(scores, thresholds(scores, 0.5)), [[0, 0, 1], [0, 0, 10]])


def test_reference_rows_are_all_or_evenly_spread():
    np.testing.assert_array_equal(reference_rows(50), np.arange(50))
    many = reference_rows(10 * REFERENCE_ROWS)
    assert len(many) == REFERENCE_ROWS
    assert many[0] == 0
    assert many[-1] == 10 * REFERENCE_ROWS - 1
    assert set(np.diff(many)) <= {10, 11}
