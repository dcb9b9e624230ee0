"""Reading a ridge, resolving it, and inverting with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.estimator.ridge import Ridge, describe_ridge, parse_ridge, resolve
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose, precondition
from trak_cli.errors import ConfigError


def _features(n, k, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32)


def _spectrum(features):
    gram = GramSum(features.shape[1])
    gram.add(features, np.ones(len(features), np.float32))
    return decompose(gram.result())


@pytest.mark.parametrize(
    ("text", "ridge"),
    [
        ("auto", Ridge("weighted", 1)),
        ("0", Ridge("absolute", 0)),
        ("0.5", Ridge("absolute", 0.5)),
        ("1e-3", Ridge("absolute", 0.001)),
        ("3x", Ridge("relative", 3)),
        (".5x", Ridge("relative", 0.5)),
        ("1.5e2x", Ridge("relative", 150)),
        ("2n", Ridge("norm", 2)),
        ("2w", Ridge("weighted", 2)),
        ("2w|0.3n", Ridge("weighted", 2, Ridge("norm", 0.3))),
    ],
)
def test_parse(text, ridge):
    assert parse_ridge(text) == ridge


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "-1x", "nan", "inf", "1e999", "1_0", "3 x", "3X", "x3", "AUTO", "1e", "٣", "1\n", "1n|", "|1n", "1|2|3"],
)
def test_anything_else_is_refused_with_a_remedy(text):
    with pytest.raises(ConfigError) as caught:
        parse_ridge(text)
    (problem,) = caught.value.problems
    assert problem.where == "estimator.ridge"
    assert problem.found == repr(text)
    assert "estimator.ridge=1w" in problem.remedy


def test_units_of_each_kind():
    features = _features(50, 4)
    spectrum = _spectrum(features)
    mean = (features.astype(np.float64) ** 2).sum() / 4
    assert resolve(parse_ridge("0.25"), spectrum) == 0.25
    assert resolve(parse_ridge("3x"), spectrum) == pytest.approx(3 * mean)
    assert resolve(parse_ridge("3n"), spectrum) == pytest.approx(3 * 4 * mean / 50)
    assert resolve(parse_ridge("auto", "2x"), spectrum) == pytest.approx(2 * mean)


@pytest.mark.parametrize("text", ["1x", "1n"])
def test_relative_ridges_scale_with_the_gram(text):
    features, ridge = _features(50, 4), parse_ridge(text)
    assert resolve(ridge, _spectrum(8 * features)) == pytest.approx(64 * resolve(ridge, _spectrum(features)))


def test_the_norm_of_a_sample_grows_neither_with_their_number_nor_with_weights():
    features, ridge = _features(50, 4), parse_ridge("1n")
    assert resolve(ridge, _spectrum(np.tile(features, (3, 1)))) == pytest.approx(resolve(ridge, _spectrum(features)))
    weighted = GramSum(4)
    weighted.add(features, np.full(50, 0.1))
    assert resolve(ridge, decompose(weighted.result())) == pytest.approx(resolve(ridge, _spectrum(features)))


def test_the_weighted_norm_is_what_a_sample_adds_to_the_trace_and_the_larger_of_two_is_taken():
    features, weights = _features(50, 4), np.linspace(0, 1, 50)
    gram = GramSum(4)
    gram.add(features, weights)
    spectrum = decompose(gram.result())
    squares = (features.astype(np.float64) ** 2).sum(axis=1)
    weighted, norm = (weights * squares).mean(), squares.mean()
    assert resolve(parse_ridge("2w"), spectrum) == pytest.approx(2 * weighted)
    assert resolve(parse_ridge("2w|0.3n"), spectrum) == pytest.approx(max(2 * weighted, 0.3 * norm))
    assert resolve(parse_ridge("0.2w|0.3n"), spectrum) == pytest.approx(max(0.2 * weighted, 0.3 * norm))
    assert "larger of 2 × their mean weighted" in describe_ridge("2w|0.3n")


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
def test_a_singular_gram_without_ridge_is_refused_and_one_is_proposed(features):
    spectrum = _spectrum(features)
    with pytest.raises(ConfigError) as caught:
        precondition(spectrum, 0.0, np.ones((1, 8), np.float32))
    (problem,) = caught.value.problems
    assert problem.where == "estimator.ridge"
    assert problem.found.startswith("0 ")
    assert f"to {spectrum.values[-1]:.3g}" in problem.found
    assert "estimator.ridge=1w" in problem.remedy


def test_a_ridge_lost_in_rounding_is_refused_too():
    with pytest.raises(ConfigError, match=r"estimator\.ridge"):
        precondition(_spectrum(_features(5, 8)), 1e-20, np.ones((1, 8), np.float32))
