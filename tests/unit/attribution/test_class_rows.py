"""The other classes in the Gram matrix and in the weights, and which estimators take them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scores_oracle import scores, weights_of

from trak_cli.attribution.estimator.simulated_training import flow_rows
from trak_cli.attribution.estimator.spec import gram_key
from trak_cli.attribution.estimator.weights import ClassRows, add_rows, simulate_for, weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.config.estimators import shipped_estimators

MEMBERS = shipped_estimators()
SPEC = MEMBERS["early_training"]


def data(n=61, k=11, seed=0):
    """X, q, f and other classes."""
    rng = np.random.default_rng(seed)
    X, others = (rng.normal(size=(n, k)).astype(np.float32) for _ in range(2))
    f = (X @ rng.normal(size=k) + 2).astype(np.float32)
    q = (1 / (1 + np.exp(f.astype(np.float64)))).astype(np.float32)
    return X, q, f, ClassRows(2 * others, rng.uniform(0.1, 0.9, n).astype(np.float32))


def weighted(X, q, f, classes):
    spec = dataclasses.replace(SPEC, clip_norm=0.0)
    training = simulate_for(spec, X[flow_rows(len(X))], q, f, len(X))
    return spec, weigh(spec, training, X, q, classes), weigh(spec, training, X, q)


def test_the_weight_is_the_geometric_mean_of_the_simulated_q_and_the_residual():
    X, q, f, classes = data()
    _, both, simulated = weighted(X, q, f, classes)
    np.testing.assert_allclose(both.sample, np.sqrt(simulated.sample * classes.residuals), rtol=1e-12)
    np.testing.assert_array_equal(both.gram, both.sample)


@pytest.mark.parametrize("n", [4, 61])
@pytest.mark.parametrize("size", [1, 7, 61])
def test_the_gram_matrix_covers_the_other_classes_whatever_the_blocks(n, size):
    X, q, f, classes = data(n)
    _, weights, _ = weighted(X, q, f, classes)
    total = GramSum(X.shape[1])
    for start in range(0, n, size):
        rows = slice(start, start + size)
        part = weights._replace(gram=weights.gram[rows], sample=weights.sample[rows])
        add_rows(total, X[rows], part, ClassRows(classes.features[rows], classes.residuals[rows]), f[rows])
    found = decompose(total.result())
    W, Z = weights.gram[:, None], np.concatenate([X, classes.features]).astype(np.float64)
    expected = (X * W).T.astype(np.float64) @ X + (classes.features * W).T.astype(np.float64) @ classes.features
    np.testing.assert_allclose(found.matrix(), expected, rtol=1e-9, atol=1e-9)
    assert found.n == n
    assert found.over == "classes"
    np.testing.assert_allclose(found.mean_square, (Z * Z).sum() / n, rtol=1e-9)
    mean = (weights.gram @ f) / weights.gram.sum()
    np.testing.assert_allclose(found.vectors @ found.response, X.T.astype(np.float64) @ (weights.gram * (f - mean)), atol=1e-8)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_only_the_default_takes_them(name):
    X, q, f, classes = data()
    spec, takes = MEMBERS[name], name == "early_training"
    assert (gram_key(spec, "classes") == gram_key(spec)) != takes
    with_classes, without = scores(spec, [X], [q], [X], [f], [classes]), scores(spec, [X], [q], [X], [f])
    assert np.array_equal(with_classes, without) != takes


def test_their_gram_matrix_has_a_name_of_its_own():
    assert len({gram_key(SPEC), gram_key(SPEC, "terms"), gram_key(SPEC, "classes")}) == 3
    assert gram_key(SPEC, "classes").endswith("-all_classes")


def test_a_residual_of_a_regression_is_not_replaced():
    X, _, f, classes = data()
    np.testing.assert_array_equal(weights_of(SPEC, X, f, f, classes).sample, f)
