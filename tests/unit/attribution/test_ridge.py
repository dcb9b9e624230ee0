"""The ridge: its units, and inverting with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.estimator.ridge import Ridge
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose, precondition
from trak_cli.errors import ConfigError


def _features(n, k, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32)


def _spectrum(features):
    gram = GramSum(features.shape[1])
    gram.add(features, np.ones(len(features), np.float32))
    return decompose(gram.result())


def test_units():
    features = _features(50, 4)
    spectrum = _spectrum(features)
    mean = (features.astype(np.float64) ** 2).sum() / 4
    assert Ridge(0.25, "absolute").resolve(spectrum) == 0.25
    assert Ridge(3, "mean_diagonal").resolve(spectrum) == pytest.approx(3 * mean)
    assert Ridge(3, "mean_norm").resolve(spectrum) == pytest.approx(3 * 4 * mean / 50)


@pytest.mark.parametrize("unit", ["mean_diagonal", "mean_norm", "mean_weighted_norm"])
def test_relative_ridges_scale_with_the_gram_matrix(unit):
    features, ridge = _features(50, 4), Ridge(1, unit)
    assert ridge.resolve(_spectrum(8 * features)) == pytest.approx(64 * ridge.resolve(_spectrum(features)))


def test_the_mean_norm_depends_neither_on_the_number_of_samples_nor_on_weights():
    features, ridge = _features(50, 4), Ridge(1, "mean_norm")
    assert ridge.resolve(_spectrum(np.tile(features, (3, 1)))) == pytest.approx(ridge.resolve(_spectrum(features)))
    weighted = GramSum(4)
    weighted.add(features, np.full(50, 0.1))
    assert ridge.resolve(decompose(weighted.result())) == pytest.approx(ridge.resolve(_spectrum(features)))


def test_the_weighted_norm_is_what_a_sample_adds_to_the_trace_and_the_floor_bounds_it():
    features, weights = _features(50, 4), np.linspace(0, 1, 50)
    gram = GramSum(4)
    gram.add(features, weights)
    spectrum = decompose(gram.result())
    squares = (features.astype(np.float64) ** 2).sum(axis=1)
    weighted, norm = (weights * squares).mean(), squares.mean()
    assert Ridge(2).resolve(spectrum) == pytest.approx(2 * weighted)
    assert Ridge(2, floor=0.3).resolve(spectrum) == pytest.approx(max(2 * weighted, 0.3 * norm))
    assert Ridge(0.2, floor=0.3).resolve(spectrum) == pytest.approx(max(0.2 * weighted, 0.3 * norm))


def _with_outputs(n, k, noise, seed=0):
    """A spectrum, and the variance that a ridge regression of the same outputs explains, as a function of λ."""
    generator = np.random.default_rng(seed)
    features = _features(n, k, seed) * np.geomspace(1, 0.1, k, dtype=np.float32)
    weights = generator.uniform(0.1, 1, n)
    outputs = (2 + features @ generator.standard_normal(k) + noise * generator.standard_normal(n)).astype(np.float32)
    gram = GramSum(k)
    gram.add(features, weights, outputs=outputs)
    X = features.astype(np.float64)
    centred = outputs - np.average(outputs.astype(np.float64), weights=weights)

    def explained(ridge):
        v = np.linalg.solve((X.T * weights) @ X + ridge * np.eye(k), X.T @ (weights * centred))
        return weights @ centred**2 - weights @ (centred - X @ v) ** 2

    return decompose(gram.result()), explained


@pytest.mark.parametrize(("n", "k"), [(60, 7), (9, 7), (5, 40), (19, 40)])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_explained_share_is_that_of_the_ridge_regression_of_the_outputs(n, k, noise):
    spectrum, explained = _with_outputs(n, k, noise)
    most = explained(1e-9 * spectrum.mean_square)
    for ridge in np.geomspace(1e-4, 1e3, 8) * spectrum.mean_square:
        assert spectrum.explained(ridge) == pytest.approx(explained(ridge) / most, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 5), st.integers(3, 60), st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_bounded_ridge_is_the_largest_that_explains_enough(noise, n, share, seed):
    spectrum, _ = _with_outputs(n, 12, noise, seed)
    free, bounded = Ridge(2).resolve(spectrum), Ridge(2, explained=share).resolve(spectrum)
    assert bounded <= free
    assert spectrum.explained(bounded) >= share - 1e-9
    if bounded < free:
        assert spectrum.explained(1.0001 * bounded) < share


def test_a_ridge_that_explains_enough_is_not_changed():
    spectrum, _ = _with_outputs(60, 7, 0.0)
    assert Ridge(1e-3, explained=0.5).resolve(spectrum) == Ridge(1e-3).resolve(spectrum)


def test_constant_outputs_bound_no_ridge():
    features = _features(30, 4)
    gram = GramSum(4)
    gram.add(features, np.ones(30), outputs=np.zeros(30))
    assert Ridge(2, explained=0.5).resolve(decompose(gram.result())) == Ridge(2).resolve(_spectrum(features))


def test_a_rule_about_outputs_needs_them():
    with pytest.raises(ValueError, match="outputs"):
        Ridge(2, explained=0.5).resolve(_spectrum(_features(30, 4)))


def test_a_rule_reads_as_a_formula():
    assert str(Ridge(2, floor=0.3)) == "max(2 × mean weighted ‖x‖², 0.3 × mean ‖x‖²)"
    assert str(Ridge(2, explained=0.5)) == "2 × mean weighted ‖x‖², or less, to explain 50% of the variance of the outputs"
    assert str(Ridge(0.5, "absolute")) == "0.5"


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-6, 1e6), st.integers(1, 40))
def test_precondition_is_the_linear_solve(ridge, n):
    features, targets = _features(n, 8), _features(5, 8, seed=1)
    gram = features.astype(np.float64).T @ features
    expected = np.linalg.solve(gram + ridge * np.eye(8), targets.T.astype(np.float64)).T
    got = precondition(_spectrum(features), ridge, targets)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


def test_a_full_rank_gram_needs_no_ridge():
    features, targets = _features(100, 8), _features(5, 8, seed=1)
    gram = features.astype(np.float64).T @ features
    np.testing.assert_allclose(precondition(_spectrum(features), 0.0, targets) @ gram, targets, atol=1e-12)


@pytest.mark.parametrize("features", [_features(5, 8), np.zeros((20, 8), np.float32), np.ones((20, 8), np.float32)])
def test_a_singular_gram_without_ridge_is_refused_and_a_ridge_is_proposed(features):
    spectrum = _spectrum(features)
    with pytest.raises(ConfigError) as caught:
        precondition(spectrum, 0.0, np.ones((1, 8), np.float32))
    (problem,) = caught.value.problems
    assert problem.where == "estimator.ridge"
    assert problem.found.startswith("λ = 0 ")
    assert f"to {spectrum.values[-1]:.3g}" in problem.found
    assert "estimator.ridge=1" in problem.remedy


def test_a_ridge_lost_in_rounding_is_refused_too():
    with pytest.raises(ConfigError, match=r"estimator\.ridge"):
        precondition(_spectrum(_features(5, 8)), 1e-20, np.ones((1, 8), np.float32))
