"""Intervals and paired comparisons: against a bootstrap written out, and for their coverage."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from trak_cli.attribution.lds.bootstrap import (
    RERANK_LIMIT,
    Bootstrap,
    PValue,
    compare,
    expanding,
    reranking,
    spearman_expansion,
)

RERANKED = Bootstrap(resamples=200, rerank=True)
LINEAR = dataclasses.replace(RERANKED, rerank=False)
both_ways = pytest.mark.parametrize("way", [RERANKED, LINEAR], ids=["reranked", "linear"])


def bootstrap_interval(predictions, outputs, settings):
    """The interval of one set of predictions."""
    return compare({"scores": predictions}, outputs, settings).sets["scores"]


def _data(t=40, s=60, strengths=(0.5,), seed=0):
    """Outputs (s, t), and for each strength r predictions (t, s) correlated with them by about r on every target."""
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((s, t))
    noise = [generator.standard_normal((t, s)) for _ in strengths]
    return [r * outputs.T + np.sqrt(1 - r * r) * e for r, e in zip(strengths, noise, strict=True)], outputs


def test_reranked_is_spearman_of_the_repeated_columns():
    (predictions,), outputs = _data(t=5, s=20)
    predictions = np.rint(predictions)
    counts = np.array([np.bincount(drawn, minlength=20) for drawn in np.random.default_rng(1).integers(0, 20, (6, 20))])
    (got,) = reranking([predictions], outputs.T)(counts.astype(np.float64))
    for row, repeats in zip(got, counts, strict=True):
        columns = np.repeat(np.arange(20), repeats)
        expected = [spearmanr(p[columns], o[columns]).statistic for p, o in zip(predictions, outputs.T, strict=True)]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_expansion_is_the_derivative_of_reranked():
    (predictions,), outputs = _data(t=6, s=25)
    predictions = np.rint(3 * predictions)
    value, influence = spearman_expansion(predictions, outputs.T)
    exact = reranking([predictions], outputs.T)
    np.testing.assert_allclose(exact(np.ones((1, 25)))[0][0], value, atol=1e-12)
    step = 1e-5 * np.eye(25)
    derivative = (exact(1 + step)[0] - exact(1 - step)[0]) / 2e-5
    np.testing.assert_allclose(derivative.T, influence, atol=1e-8)
    np.testing.assert_allclose(influence.sum(axis=1), 0, atol=1e-12)


def test_the_linear_method_agrees_with_the_exact_one():
    predictions, outputs = _data(t=100, s=200, strengths=(0.3, 0.7))
    named = dict(zip("ab", predictions, strict=True))
    exact, linear = compare(named, outputs, RERANKED), compare(named, outputs, LINEAR)
    assert (exact.method, linear.method) == ("reranked", "linear")
    pairs = [(exact.sets[name], linear.sets[name]) for name in "ab"]
    pairs.append((exact.differences[0].interval, linear.differences[0].interval))
    for one, other in pairs:
        assert one.estimate == other.estimate
        width = one.high - one.low
        assert abs(one.low - other.low) < 0.25 * width
        assert abs(one.high - other.high) < 0.25 * width


def test_draws_are_independent_of_how_many_are_taken_at_once(monkeypatch):
    (predictions,), outputs = _data()
    expected = bootstrap_interval(predictions, outputs, RERANKED)
    monkeypatch.setattr("trak_cli.attribution.lds.bootstrap._RESAMPLES_AT_ONCE", 7)
    assert bootstrap_interval(predictions, outputs, RERANKED) == expected


def test_the_seed_decides():
    (predictions,), outputs = _data()
    one = bootstrap_interval(predictions, outputs, RERANKED)
    assert one == bootstrap_interval(predictions, outputs, RERANKED)
    assert one != bootstrap_interval(predictions, outputs, dataclasses.replace(RERANKED, seed=1))


def test_small_work_is_reranked_and_large_work_is_not():
    (predictions,), outputs = _data(t=10, s=10)
    assert compare({"a": predictions}, outputs, Bootstrap(resamples=10)).method == "reranked"
    (predictions,), outputs = _data(t=1000, s=1000)
    few = Bootstrap(resamples=RERANK_LIMIT // outputs.size + 1)
    assert compare({"a": predictions}, outputs, few).method == "linear"


@both_ways
def test_both_sources_widen_the_interval(way):
    """Targets that differ widen it though every correlation is exact; few subsets widen it though targets are alike."""
    generator = np.random.default_rng(0)
    outputs = generator.standard_normal((200, 30))
    signs = np.where(np.arange(30) < 15, 1.0, -1.0)
    targets_differ = bootstrap_interval(outputs.T * signs[:, None], outputs, way)
    assert targets_differ.high - targets_differ.low > 0.5
    shared = generator.standard_normal((30, 1)) @ np.ones((1, 300))
    noisy = shared + generator.standard_normal((30, 1))
    subsets_few = bootstrap_interval(noisy.T.copy(), shared, way)
    assert subsets_few.high - subsets_few.low > 0.2


@both_ways
def test_intervals_cover_the_truth(way):
    """Strengths vary over targets and subsets share noise: the truth is inside about 95 times in 100."""
    inside, rounds, t, s = 0, 100, 40, 50
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        strengths = generator.uniform(0.2, 0.6, t)
        outputs = (generator.standard_normal((s, 1)) + generator.standard_normal((s, t))) / np.sqrt(2)
        noise = (generator.standard_normal((s, 1)) + generator.standard_normal((s, t))) / np.sqrt(2)
        predictions = (strengths * outputs + np.sqrt(1 - strengths**2) * noise).T
        interval = bootstrap_interval(predictions, outputs, way)
        # Spearman's correlation of normal variables is (6/π) asin(r/2); this is its mean over r uniform in [0.2, 0.6].
        truth = np.mean(6 / np.pi * np.arcsin(np.linspace(0.2, 0.6, 1001) / 2))
        inside += interval.low <= truth <= interval.high
    assert 88 <= inside <= 100


@both_ways
def test_a_paired_difference_sees_what_separate_intervals_do_not(way):
    predictions, outputs = _data(t=30, s=60, strengths=(0.5,))
    generator = np.random.default_rng(1)
    worse = predictions[0] + 0.6 * generator.standard_normal(predictions[0].shape)
    result = compare({"better": predictions[0], "worse": worse}, outputs, way)
    (difference,) = result.differences
    assert (difference.first, difference.second) == ("better", "worse")
    assert result.sets["better"].low < result.sets["worse"].high
    assert difference.interval.low > 0
    assert difference.p_value.value < 0.05
    gap = result.sets["better"].estimate - result.sets["worse"].estimate
    assert difference.interval.estimate == pytest.approx(gap)


@both_ways
def test_equal_sets_differ_by_nothing(way):
    (predictions,), outputs = _data()
    (difference,) = compare({"a": predictions, "b": 2 * predictions}, outputs, way).differences
    assert (difference.interval.low, difference.interval.high, difference.p_value) == (0, 0, PValue(1.0))


@both_ways
def test_equal_methods_rarely_differ_significantly(way):
    called = 0
    for seed in range(60):
        predictions, outputs = _data(t=20, s=40, strengths=(0.4, 0.4), seed=seed)
        (difference,) = compare(dict(zip("ab", predictions, strict=True)), outputs, way).differences
        called += difference.p_value.value < 0.05
    assert called <= 7


@both_ways
def test_the_smallest_p_value_is_an_upper_bound_set_by_the_number_of_resamples(way):
    predictions, outputs = _data(strengths=(0.1, 0.9))
    (difference,) = compare(dict(zip("ab", predictions, strict=True)), outputs, way).differences
    assert difference.interval.high < 0
    assert difference.p_value == PValue(2 / 201, is_upper_bound=True)
    assert difference.reversed().p_value == difference.p_value


@both_ways
def test_a_p_value_with_resamples_on_both_sides_of_zero_is_no_upper_bound(way):
    predictions, outputs = _data(strengths=(0.4, 0.42))
    (difference,) = compare(dict(zip("ab", predictions, strict=True)), outputs, way).differences
    assert difference.interval.low < 0 < difference.interval.high
    assert not difference.p_value.is_upper_bound
    assert difference.p_value.value > 2 / 201


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (PValue(2 / 1001, is_upper_bound=True), "< 0.002"),
        (PValue(2 / 201, is_upper_bound=True), "< 0.010"),
        (PValue(2 / 1000, is_upper_bound=True), "< 0.002"),
        (PValue(2 / 21, is_upper_bound=True), "< 0.096"),
        (PValue(4 / 1001), "0.004"),
        (PValue(4 / 100_001), "< 0.001"),
        (PValue(1.0), "1.000"),
        (PValue(float("nan")), ""),
    ],
)
def test_an_upper_bound_is_printed_as_one_and_rounded_up(p_value, text):
    assert str(p_value) == text


def test_a_single_resample_is_never_significant():
    predictions, outputs = _data(strengths=(0.1, 0.9))
    named = dict(zip("ab", predictions, strict=True))
    (difference,) = compare(named, outputs, Bootstrap(resamples=1, rerank=True)).differences
    assert difference.p_value == PValue(1.0)


def test_a_reversed_difference_swaps_the_sets_the_sign_and_the_ends_of_the_interval():
    predictions, outputs = _data(strengths=(0.3, 0.6))
    first, second = predictions
    (difference,) = compare({"a": first, "b": second}, outputs, RERANKED).differences
    (expected,) = compare({"b": second, "a": first}, outputs, RERANKED).differences
    found = difference.reversed()
    assert (found.first, found.second) == ("b", "a")
    assert found.interval.estimate == pytest.approx(expected.interval.estimate)
    assert found.interval.low == pytest.approx(expected.interval.low)
    assert found.interval.high == pytest.approx(expected.interval.high)


def test_all_pairs_are_compared_in_order():
    predictions, outputs = _data(strengths=(0.2, 0.4, 0.6))
    result = compare(dict(zip("xyz", predictions, strict=True)), outputs, LINEAR)
    assert list(result.sets) == ["x", "y", "z"]
    assert [(d.first, d.second) for d in result.differences] == [("x", "y"), ("x", "z"), ("y", "z")]


@both_ways
def test_constant_targets_count_nowhere(way):
    predictions, outputs = _data(strengths=(0.3, 0.6))
    first, second = predictions
    first[3], outputs[:, 5] = 0.0, 1.0
    result = compare({"a": first, "b": second}, outputs, way)
    (difference,) = result.differences
    rows = [j for j in range(40) if j not in (3, 5)]
    clean = compare({"a": first[rows], "b": second[rows]}, outputs[:, rows], way)
    assert difference.interval.estimate == pytest.approx(clean.differences[0].interval.estimate)
    assert result.sets["a"].estimate == pytest.approx(clean.sets["a"].estimate)
    assert np.isfinite([difference.interval.low, difference.interval.high]).all()


@both_ways
def test_nothing_but_constants_has_no_interval(way):
    interval = bootstrap_interval(np.zeros((3, 10)), np.random.default_rng(0).standard_normal((10, 3)), way)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()


def test_the_level_is_the_share_of_resamples_inside():
    (predictions,), outputs = _data()
    wide = bootstrap_interval(predictions, outputs, RERANKED)
    narrow = bootstrap_interval(predictions, outputs, dataclasses.replace(RERANKED, level=0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    median = bootstrap_interval(predictions, outputs, dataclasses.replace(RERANKED, level=0.0))
    assert narrow.low < median.low == median.high < narrow.high


def test_expanding_takes_several_resamples_at_once():
    (predictions,), outputs = _data(t=4, s=10)
    counts = np.random.default_rng(0).integers(0, 3, (5, 10)).astype(np.float64)
    value, influence = spearman_expansion(predictions, outputs.T)
    (got,) = expanding([predictions], outputs.T)(counts)
    for row, weights in zip(got, counts, strict=True):
        np.testing.assert_allclose(row, value + influence @ (weights - 1), atol=1e-12)
