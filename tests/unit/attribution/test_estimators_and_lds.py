"""The streamed pieces give what the formulas give when they are written out."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from trak_cli.attribution import (
    MEMBERS,
    Bootstrap,
    EstimatorSpec,
    GramSum,
    TopK,
    check_ground_truth,
    compare,
    decompose,
    front,
    gram_key,
    lds,
    parse_ridge,
    resolve,
    score_block,
    scores,
    spec_problems,
    target_factor,
)
from trak_cli.errors import ConfigError

SPECS = [*MEMBERS.values(), EstimatorSpec("fisher", gram_exponent=2, ridge="3x"), EstimatorSpec("unit", unit_norm=True)]


def data(seed: int, n: int = 50, t: int = 7, k: int = 12, checkpoints: int = 2) -> tuple[list, list, list]:
    generator = np.random.default_rng(seed)
    X = [generator.standard_normal((n, k)).astype(np.float32) for _ in range(checkpoints)]
    q = [generator.uniform(-1, 1, n).astype(np.float32) for _ in range(checkpoints)]
    return X, q, [generator.standard_normal((t, k)).astype(np.float32) for _ in range(checkpoints)]


def streamed(spec: EstimatorSpec, X: list, q: list, T: list, chunk: int) -> np.ndarray:
    factors = []
    for features, weights, targets in zip(X, q, T, strict=True):
        spectrum = None
        ridge = 0.0
        if spec.needs_gram:
            total = GramSum(features.shape[1], spec.gram_exponent, spec.unit_norm)
            for start in range(0, len(features), chunk):
                total.add(features[start : start + chunk], weights[start : start + chunk])
            spectrum = decompose(total.result())
            ridge = resolve(parse_ridge(spec.ridge), spectrum)
        factors.append(target_factor(spec, targets, spectrum, ridge))
    weight = front(spec, q)
    parts = [
        score_block(spec, factors, (one[start : start + chunk] for one in X), weight[start : start + chunk])
        for start in range(0, len(weight), chunk)
    ]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), chunk=st.integers(1, 60))
def test_streamed_scores_are_the_formula(spec: EstimatorSpec, seed: int, chunk: int) -> None:
    X, q, T = data(seed)
    expected = scores(spec, X, q, T)
    np.testing.assert_allclose(streamed(spec, X, q, T, chunk), expected, atol=2e-5 * np.abs(expected).max())


def test_the_papers_estimator_written_with_an_inverse() -> None:
    X, q, T = data(3)
    kernels = [x @ np.linalg.inv(x.T.astype(float) @ x + 0.5 * np.eye(12)) @ t.T for x, t in zip(X, T, strict=True)]
    expected = (np.mean(kernels, axis=0) * np.mean(q, axis=0)[:, None]).T
    np.testing.assert_allclose(scores(EstimatorSpec("trak", ridge="0.5"), X, q, T), expected, rtol=1e-6)


def test_a_very_large_ridge_gives_the_direction_of_dot() -> None:
    X, q, T = data(4)
    large, dot = scores(EstimatorSpec("trak", ridge="1e9"), X, q, T), scores(MEMBERS["dot"], X, q, T)
    np.testing.assert_allclose(large * 1e9, dot, rtol=1e-4, atol=1e-6)


def test_estimators_that_weight_alike_share_a_gram() -> None:
    assert gram_key(EstimatorSpec("a", ridge="3x")) == gram_key(EstimatorSpec("b", front_exponent=0)) == "plain"
    assert len({gram_key(spec) for spec in SPECS if spec.needs_gram}) == 4


@pytest.mark.parametrize("ridge", ["-1", "nan", "x", "1y", ""])
def test_a_ridge_that_is_none_is_refused(ridge: str) -> None:
    assert [problem.where for problem in spec_problems(EstimatorSpec("trak", ridge=ridge))] == ["estimator.ridge"]


def test_a_singular_gram_without_a_ridge_proposes_one() -> None:
    total = GramSum(12)
    total.add(np.ones((5, 12), np.float32), np.ones(5, np.float32))
    with pytest.raises(ConfigError, match=r"estimator\.ridge=1x"):
        target_factor(EstimatorSpec("trak", ridge="0"), np.ones((1, 12), np.float32), decompose(total.result()), 0.0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), k=st.integers(1, 12), cuts=st.lists(st.integers(1, 39), max_size=3, unique=True))
def test_top_k_is_the_full_sort_however_the_rows_come(seed: int, k: int, cuts: list[int]) -> None:
    values = np.random.default_rng(seed).integers(-5, 5, (3, 40)).astype(np.float32)  # many ties
    edges = [0, *sorted(cuts), 40]
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = TopK(3, k)
        part.update(values[:, start:stop], start)
        parts.append(TopK.restore(part.result(), k))
    whole = parts.pop()
    for part in parts:
        whole.merge(part)
    found = whole.result()
    np.testing.assert_array_equal(found.top.indices, np.argsort(-values, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(found.bottom.indices, np.argsort(values, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(found.top.values, np.take_along_axis(values, found.top.indices, axis=1))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_lds_is_the_mean_spearman_correlation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values, masks = generator.standard_normal((6, 30)), generator.random((20, 30)) < 0.5
    outputs = generator.integers(0, 4, (20, 6)).astype(float)  # ties
    found = lds(values, masks, outputs)
    expected = [spearmanr(masks @ values[j], outputs[:, j]).statistic for j in range(6)]
    np.testing.assert_allclose(found.per_target, expected, atol=1e-12)
    again = lds(values * 3, masks, np.exp(outputs))
    np.testing.assert_allclose(again.per_target, found.per_target, atol=1e-12)


def test_constant_targets_are_left_out_and_counted() -> None:
    generator = np.random.default_rng(0)
    values, masks = generator.standard_normal((3, 30)), generator.random((20, 30)) < 0.5
    outputs = generator.standard_normal((20, 3))
    outputs[:, 1] = 2.0
    values[2] = 0.0
    found = lds(values, masks, outputs)
    assert (found.constant_outputs, found.constant_predictions) == (1, 1)
    assert found.mean == found.per_target[0]


def test_the_interval_holds_the_estimate_and_a_better_set_is_told_apart() -> None:
    generator = np.random.default_rng(1)
    truth, masks = generator.standard_normal((40, 60)), generator.random((80, 60)) < 0.5
    outputs = masks @ truth.T + generator.standard_normal((80, 40))
    good = lds(truth, masks, outputs).predictions
    chance = lds(generator.standard_normal((40, 60)), masks, outputs).predictions
    found = compare({"good": good, "chance": chance}, outputs, Bootstrap(200, 0))
    assert found.sets["good"].low < found.sets["good"].estimate < found.sets["good"].high
    assert found.sets["chance"].low < 0.1 < found.sets["good"].low
    assert found.differences[0].interval.low > 0
    assert found.differences[0].p_value < 0.05


@pytest.mark.parametrize(
    ("masks", "outputs", "said"),
    [
        (np.ones((9, 30), bool), np.ones((30, 4)), "transposed"),
        (np.eye(9, dtype=bool)[:5], np.ones((5, 3)), r"\(subsets, 4\)"),
        (np.eye(9)[:5], np.ones((5, 4)), "bool"),
        (np.eye(9, dtype=bool)[:5], np.full((5, 4), np.nan), "NaN"),
        (np.zeros((5, 9), bool), np.arange(20.0).reshape(5, 4), "empty"),
    ],
)
def test_a_ground_truth_that_does_not_fit_says_what_is_wanted(masks: np.ndarray, outputs: np.ndarray, said: str) -> None:
    problems = check_ground_truth(masks, outputs, 9, 4)

    assert any(re.search(said, str(problem)) for problem in problems), problems
