"""Shrinking the scores of pairs that are little alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scores_oracle import scores

from trak_cli.attribution.estimator.rows import unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.estimators import shipped_estimators

MEMBERS = shipped_estimators()

PLAIN = EstimatorSpec("plain", ridge=1)


def data(seed: int = 0, checkpoints: int = 2) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    X = [generator.standard_normal((40, 9)).astype(np.float32) for _ in range(checkpoints)]
    T = [generator.standard_normal((6, 9)).astype(np.float32) for _ in range(checkpoints)]
    return X, [generator.uniform(0, 1, 40).astype(np.float32) for _ in X], T


def shrunk(shrinkage: float) -> EstimatorSpec:
    return dataclasses.replace(PLAIN, shrinkage=shrinkage)


@given(st.floats(-1, 1), st.floats(1e-6, 10))
def test_the_factor_is_a_share_that_grows_with_the_likeness(cosine: float, shrinkage: float) -> None:
    one, opposite, more = shrinkage_factor(np.array([cosine, -cosine, np.clip(1.1 * cosine, -1, 1)]), shrinkage)
    assert 0 <= one <= 1
    assert one == opposite
    assert more >= one - 1e-12  # but for rounding


def test_the_factor_is_one_half_at_the_shrinkage_itself() -> None:
    np.testing.assert_allclose(shrinkage_factor(np.array([0.0, 0.1, -0.1, 0.9]), 0.1), [0, 0.5, 0.5, 0.9])


def test_four_checkpoints_shrink_like_one_with_half_the_shrinkage() -> None:
    cosine = np.linspace(-1, 1, 21)
    np.testing.assert_allclose(shrinkage_factor(cosine, 0.2, 4), shrinkage_factor(cosine, 0.1))


def test_a_score_is_multiplied_by_the_shrinkage_factor_of_its_mean_cosine() -> None:
    X, q, T = data()
    cosine = np.mean([unit_rows(t.astype(float)) @ unit_rows(x.astype(float)).T for x, t in zip(X, T, strict=True)], axis=0)
    expected = scores(PLAIN, X, q, T) * np.abs(cosine) / (np.abs(cosine) + 0.3 / np.sqrt(2))
    np.testing.assert_allclose(scores(shrunk(0.3), X, q, T), expected, rtol=1e-9)


def test_no_sign_changes_and_little_shrinking_changes_little() -> None:
    X, q, T = data(1)
    plain = scores(PLAIN, X, q, T)
    assert np.array_equal(np.sign(scores(shrunk(5.0), X, q, T)), np.sign(plain))
    np.testing.assert_allclose(scores(shrunk(1e-9), X, q, T), plain, rtol=1e-5)


@pytest.mark.parametrize("name", ["trak", "early_training", "dot", "cosine"])
def test_the_units_of_a_target_do_not_matter(name: str) -> None:
    """Its scores grow as they do without shrinking."""
    X, q, T = (list(map(np.float64, some)) for some in data(2, checkpoints=1))
    spec = dataclasses.replace(MEMBERS[name], shrinkage=0.2)
    outputs = [np.log(1 / one - 1) for one in q]
    larger = scores(spec, X, q, [1000 * T[0]], outputs)
    plain = scores(spec, X, q, T, outputs)
    np.testing.assert_allclose(larger, plain * (1 if spec.unit_norm else 1000), rtol=1e-5)


def test_cosines_of_rows_of_any_length() -> None:
    (X,), _, (T,) = data(3, checkpoints=1)
    X[4], T[2] = 0, 0
    found = cosines(unit_rows(T), 1e-12 * X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit_rows(T) @ unit_rows(X).T, atol=1e-6)
    assert not found[:, 4].any()
    assert not found[2].any()
