"""Terms in the Gram matrix: counts, units of the ridge, and which estimators take them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores_oracle import scores, weights_of

from trak_cli.attribution.estimator.rows import clip_rows, clip_threshold, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines
from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.estimator.weights import Terms, add_rows, simulate_for, weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import normalize_targets, sample_weight, score_block, target_factor
from trak_cli.config.estimators import shipped_estimators

MEMBERS = shipped_estimators()

SPEC = MEMBERS["early_training"]


def _data(seed=0, n=70, k=12):
    """X, q that does not follow from f, f, and terms."""
    rng = np.random.default_rng(seed)
    X, Z = (rng.standard_normal((n, k)).astype(np.float32) for _ in range(2))
    counts = rng.integers(1, 30, n).astype(np.float32)
    return X, rng.random(n).astype(np.float32), rng.normal(2, 3, n).astype(np.float32), Terms(Z, counts)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=5), st.integers(2, 40), st.integers(0, 99))
def test_counts_are_summed_however_rows_arrive(pieces, k, seed):
    """Also where rows stand for the matrix because they are few, and over more than a chunk."""
    rng = np.random.default_rng(seed)
    n = sum(pieces)
    Z, counts = rng.standard_normal((n, k)).astype(np.float32), rng.integers(0, 50, n).astype(np.float32)
    counts[0] = 1
    whole, parts = GramSum(k), GramSum(k)
    whole.add(Z, np.ones(n), counts)
    for rows in np.split(np.arange(n), np.cumsum(pieces)[:-1]):
        parts.add(Z[rows], np.ones(len(rows)), counts[rows])
    one, other = whole.result(), parts.result()
    assert one.n == other.n == int(counts.sum())
    assert one.mean_square == other.mean_square
    assert one.mean_square == pytest.approx(float((Z.astype(np.float64) ** 2).sum() / counts.sum()))
    for a, b in ((one.matrix, other.matrix), (one.rows, other.rows)):
        assert (a is None and b is None) or np.array_equal(a, b)
    spectrum, wide = decompose(one), Z.astype(np.float64)
    np.testing.assert_allclose((spectrum.vectors * spectrum.values) @ spectrum.vectors.T, wide.T @ wide, atol=1e-8 * n)


def test_counts_of_one_are_samples():
    X, *_ = _data()
    plain, counted = GramSum(12), GramSum(12)
    plain.add(X, np.ones(70))
    counted.add(X, np.ones(70), np.ones(70))
    assert plain.result()[1:3] == counted.result()[1:3]
    np.testing.assert_array_equal(plain.result().matrix, counted.result().matrix)


def test_scores_in_pieces_are_the_formula_entry_by_entry():
    data = [_data(seed) for seed in range(2)]
    T = [np.random.default_rng(9).standard_normal((5, 12)).astype(np.float32) for _ in data]
    factors, kernels, lengths = [], [], []
    for (X, q, f, terms), targets in zip(data, T, strict=True):
        limit = clip_threshold(SPEC, X)
        X = clip_rows(X.astype(np.float64), limit)
        training = simulate_for(SPEC, X, q, f, 70)
        total = GramSum(12)
        for rows in np.array_split(np.arange(70), 3):
            weights = weigh(SPEC, training, X[rows], q[rows])
            assert weights.of_terms
            add_rows(total, X[rows], weights, Terms(terms.features[rows], terms.counts[rows]))
        spectrum = decompose(total.result())
        factors.append(target_factor(SPEC, targets, spectrum, SPEC.ridge_in(spectrum), limit))
        Z = terms.features.astype(np.float64)
        A = sum(np.outer(z, z) for z in Z) + 5 * (Z**2).sum() / terms.counts.sum() * np.eye(12)
        kernels.append(targets @ np.linalg.inv(A) @ X.T)
        lengths.append(np.sqrt(np.diagonal(targets @ np.linalg.inv(A) @ targets.T))[:, None])
    X, q, f, terms = zip(*data, strict=True)
    alike = [kernel / length for kernel, length in zip(kernels, lengths, strict=True)]
    wide = [(t.astype(float), x.astype(float)) for t, x in zip(T, X, strict=True)]
    cosine = np.abs(np.mean([cosines(unit_rows(t), x) for t, x in wide], axis=0))
    expected = np.mean(alike, axis=0) * np.mean(lengths, axis=0) * 0.5 * cosine / (cosine + SPEC.shrinkage / np.sqrt(2))
    np.testing.assert_allclose(scores(SPEC, X, q, T, f, terms), expected, rtol=1e-9)
    found = score_block(SPEC, normalize_targets(SPEC, factors), X, sample_weight(SPEC, [np.full(70, 0.5)] * 2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("spec", "takes"),
    [
        (SPEC, True),
        (EstimatorSpec("t0", weights="early_training"), True),
        (dataclasses.replace(SPEC, unit_norm=True, clip_norm=0.0), False),
        *((MEMBERS[name], False) for name in ("trak", "balanced", "trak_soft", "dot", "cosine")),
    ],
)
def test_estimators_that_take_no_terms_do_not_see_them(spec, takes):
    X, q, f, terms = _data()
    T = X[:4] + 1
    assert spec.uses_curvature == takes
    assert (gram_key(spec, "terms") == gram_key(spec)) != takes
    with_terms, without = scores(spec, [X], [q], [T], [f], [terms]), scores(spec, [X], [q], [T], [f])
    assert np.array_equal(with_terms, without) != takes


def test_a_single_log_odds_keeps_its_simulated_training():
    """Where q is the sigmoid of −f of all samples, each has one term: the simulated training weighs it."""
    X, _, f, terms = _data()
    q = 1 / (1 + np.exp(f))
    weights = weights_of(SPEC, X, q, f)
    assert not weights.of_terms
    assert weights.gram.std() > 0
    np.testing.assert_array_equal(scores(SPEC, [X], [q], [X], [f], [terms]), scores(SPEC, [X], [q], [X], [f]))


def test_a_residual_ignores_terms():
    X, _, f, _ = _data()
    assert not weights_of(SPEC, X, f, f).of_terms
