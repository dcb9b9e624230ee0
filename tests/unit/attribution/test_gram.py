"""The streamed Gram against the same sum written out in float64."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.estimator.ridge import RIDGE_UNITS, Ridge
from trak_cli.attribution.linalg.gram import CHUNK_ROWS, Gram, GramSum, merged
from trak_cli.attribution.linalg.spectrum import decompose, precondition, singular_problems
from trak_cli.errors import InputError


def _data(n=2500, k=12, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, k)).astype(np.float32), generator.uniform(0, 1, n).astype(np.float32)


def _oracle(features, weights):
    total = np.zeros((features.shape[1], features.shape[1]))
    for x, weight in zip(features.astype(np.float64), weights.astype(np.float64), strict=True):
        total += weight * np.outer(x, x)
    return total


def _streamed(features, weights, cuts=(), outputs=None):
    gram = GramSum(features.shape[1])
    for rows in np.split(np.arange(len(features)), cuts):
        gram.add(features[rows], weights[rows], outputs=None if outputs is None else outputs[rows])
    return gram.result()


def _outputs(features, seed=1):
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(len(features))
    return (3 + features @ generator.standard_normal(features.shape[1]) + noise).astype(np.float32)


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


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2500), max_size=6).map(sorted), st.sampled_from([3, 900, 2500]), st.sampled_from([12, 2000]))
def test_the_response_is_the_product_with_centred_outputs_and_its_bits_do_not_depend_on_how_the_rows_arrive(cuts, n, k):
    features, q = _data(n, k)
    outputs = _outputs(features)
    expected = _streamed(features, q, outputs=outputs).response
    centred = outputs - np.average(outputs.astype(np.float64), weights=q)
    np.testing.assert_allclose(
        expected, features.T.astype(np.float64) @ (q * centred), rtol=1e-6, atol=1e-6 * np.abs(expected).max()
    )
    cuts = [cut for cut in cuts if cut < n]
    np.testing.assert_array_equal(_streamed(features, q, cuts, outputs).response, expected)


def test_rows_without_outputs_leave_no_response():
    features, q = _data(n=20)
    gram = GramSum(12)
    gram.add(features[:5], q[:5], outputs=q[:5])
    gram.add(features[5:], q[5:])
    assert gram.result().response is None


def test_the_product_is_symmetric_to_the_last_bit():
    matrix = _streamed(*_data()).matrix
    np.testing.assert_array_equal(matrix, matrix.T)


def test_float32_features_are_squared_in_float64():
    features = np.full((CHUNK_ROWS * 2, 1), 1 + 2.0**-20, np.float32)
    gram = _streamed(features, np.ones(len(features), np.float32))
    assert gram.matrix[0, 0] == len(features) * (1 + 2.0**-20) ** 2


def test_a_result_can_be_read_before_the_end():
    features, q = _data(n=1500)
    gram = GramSum(12)
    gram.add(features[:5], q[:5])
    assert gram.result().rows.shape == (5, 12)
    gram.add(features[5:1200], q[5:1200])
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


@pytest.mark.parametrize(("n", "k"), [(4, 30), (15, 30), (1500, 3001), (0, 4)])
def test_few_rows_stand_for_the_matrix(n, k):
    features, weights = _data(n, k)
    gram = _streamed(features, weights, [n // 3])
    assert gram.matrix is None
    assert gram.rows.shape == (n, k)
    np.testing.assert_allclose(gram.rows.T @ gram.rows, (features.T * weights.astype(np.float64)) @ features, atol=1e-4)
    assert gram.mean_square == pytest.approx((features.astype(np.float64) ** 2).sum() / max(n, 1))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 3), st.floats(1e-3, 1e3))
def test_few_rows_have_the_spectrum_of_the_matrix(n, seed, ridge):
    features, weights = _data(n, 25, seed)
    targets = np.random.default_rng(seed).standard_normal((3, 25)).astype(np.float32)
    weights[: n // 3] = 0
    few, whole = decompose(_streamed(features, weights)), decompose(Gram(_oracle(features, weights), n))
    assert (few.complete, whole.complete, few.dim, whole.dim) == (False, True, 25, 25)
    np.testing.assert_allclose(few.values, whole.values[-len(few.values) :], atol=1e-9)
    np.testing.assert_allclose(whole.values[: -len(few.values)], 0, atol=1e-9)
    np.testing.assert_allclose(few.vectors.T @ few.vectors, np.eye(len(few.values)), atol=1e-9)
    assert few.mean_diag == pytest.approx(whole.mean_diag, abs=1e-12)
    expected = np.linalg.solve(_oracle(features, weights) + ridge * np.eye(25), targets.T.astype(np.float64)).T
    np.testing.assert_allclose(precondition(few, ridge, targets), expected, rtol=1e-6, atol=1e-9)
    for unit in RIDGE_UNITS:
        whole_with_norm = dataclasses.replace(whole, mean_square=few.mean_square)
        assert Ridge(2, unit).resolve(few) == pytest.approx(Ridge(2, unit).resolve(whole_with_norm))


def test_few_rows_of_very_different_size():
    """Eigenvalues over ten orders of magnitude: small ones and their vectors are as they should be."""
    generator = np.random.default_rng(0)
    rows = np.geomspace(1, 1e-5, 12)[:, None] * generator.standard_normal((12, 40))
    spectrum = decompose(Gram(None, 12, rows=rows))
    roots = np.linalg.svd(rows, compute_uv=False)[::-1]
    np.testing.assert_allclose(np.sqrt(spectrum.values), roots, rtol=1e-4)
    np.testing.assert_allclose(spectrum.vectors * spectrum.values @ spectrum.vectors.T, rows.T @ rows, atol=1e-13)
    np.testing.assert_allclose(spectrum.vectors.T @ spectrum.vectors, np.eye(12), atol=1e-4)


def test_few_rows_of_zeros():
    spectrum = decompose(Gram(None, 3, rows=np.zeros((3, 8))))
    np.testing.assert_array_equal(precondition(spectrum, 0.5, np.ones((1, 8), np.float32)), np.full((1, 8), 2.0))


def test_few_rows_without_a_ridge_are_singular():
    features, weights = _data(n=4, k=30)
    (problem,) = singular_problems(decompose(_streamed(features, weights)), 0.0)
    assert "from 0 to" in problem.found


def test_rounding_below_zero_is_no_eigenvalue():
    features, q = _data(n=25, k=30)
    assert decompose(_streamed(features, q)).values.min() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_few_rows_that_are_not_finite_are_refused(value):
    with pytest.raises(InputError, match="NaN or infinite"):
        decompose(Gram(None, 1, rows=np.full((1, 2), value)))


def test_a_gram_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        decompose(Gram(np.full((2, 2), np.nan), 3))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 300), max_size=5).map(sorted), st.sampled_from([5, 40, 300]), st.sampled_from([6, 60, 500]))
def test_merged_parts_are_the_sum_of_outer_products(cuts, n, k):
    features, q = _data(n, k)
    outputs, parts = _outputs(features), []
    for rows in np.split(np.arange(n), [cut for cut in cuts if cut < n]):
        part = GramSum(k)
        part.add(features[rows], q[rows], outputs=outputs[rows])
        parts.append(part.partial())
    found, whole = merged(parts), _streamed(features, q, outputs=outputs)
    assert (found.n, found.over, found.rows is None) == (n, "samples", whole.rows is None)
    assert found.mean_square == pytest.approx(whole.mean_square)
    matrix = found.rows.T @ found.rows if found.matrix is None else found.matrix
    np.testing.assert_allclose(matrix, _oracle(features, q), rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.response, whole.response, rtol=1e-9, atol=1e-9 * np.abs(whole.response).max())
