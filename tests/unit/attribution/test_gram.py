"""The streamed Gram against the same sum written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution import GramSum, decompose
from trak_cli.attribution.gram import CHUNK_ROWS, Gram
from trak_cli.errors import InputError


def _data(n=2500, k=12, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, k)).astype(np.float32), generator.uniform(0, 1, n).astype(np.float32)


def _oracle(features, weights):
    total = np.zeros((features.shape[1], features.shape[1]))
    for x, weight in zip(features.astype(np.float64), weights.astype(np.float64), strict=True):
        total += weight * np.outer(x, x)
    return total


def _streamed(features, weights, cuts=()):
    gram = GramSum(features.shape[1])
    for rows in np.split(np.arange(len(features)), cuts):
        gram.add(features[rows], weights[rows])
    return gram.result()


def test_equals_the_sum_of_outer_products():
    features, weights = _data()
    features[3] = 0
    weights[5] = 0
    gram = _streamed(features, weights, [700, 701])
    np.testing.assert_allclose(gram.matrix, _oracle(features, weights), rtol=0, atol=1e-10)
    assert gram.mean_square == pytest.approx((features.astype(np.float64) ** 2).sum() / len(features))
    assert gram.matrix.dtype == np.float64
    assert gram.n == len(features)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2500), max_size=6).map(sorted))
def test_the_bits_do_not_depend_on_how_the_rows_arrive(cuts):
    features, q = _data()
    expected, found = _streamed(features, q), _streamed(features, q, cuts)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert found.mean_square == expected.mean_square


def test_is_symmetric_to_the_last_bit():
    matrix = _streamed(*_data()).matrix
    np.testing.assert_array_equal(matrix, matrix.T)


def test_float32_features_are_squared_in_float64():
    features = np.full((CHUNK_ROWS * 2, 1), 1 + 2.0**-20, np.float32)
    gram = _streamed(features, np.ones(len(features), np.float32))
    assert gram.matrix[0, 0] == len(features) * (1 + 2.0**-20) ** 2


def test_a_result_may_be_taken_on_the_way():
    features, q = _data(n=1500)
    gram = GramSum(12)
    gram.add(features[:1200], q[:1200])
    assert gram.result().n == 1200
    gram.add(features[1200:], q[1200:])
    np.testing.assert_array_equal(gram.result().matrix, _streamed(features, q).matrix)


def test_rows_of_another_width_are_a_mistake():
    with pytest.raises(ValueError, match="k = 12"):
        GramSum(12).add(np.zeros((3, 11), np.float32), np.zeros(3, np.float32))


def test_spectrum_rebuilds_the_gram():
    gram = _streamed(*_data())
    spectrum = decompose(gram)
    np.testing.assert_allclose(spectrum.vectors * spectrum.values @ spectrum.vectors.T, gram.matrix, atol=1e-9)
    assert spectrum.mean_diag == pytest.approx(spectrum.values.mean())
    assert spectrum.n == 2500


def test_rounding_below_zero_is_no_eigenvalue():
    features, q = _data(n=4, k=30)
    assert decompose(_streamed(features, q)).values.min() == 0


def test_a_gram_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        decompose(Gram(np.full((2, 2), np.nan), 3))
