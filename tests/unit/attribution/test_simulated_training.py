"""The simulated training: against gradient flow written out in tiny steps, and the laws that it keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores_oracle import scores

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows
from trak_cli.attribution.estimator.simulated_training import FLOW_ROWS, WINDOW, flow_rows, follows_log_loss, simulate
from trak_cli.attribution.estimator.weights import simulate_for, weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import normalize_targets, sample_weight, score_block, target_factor
from trak_cli.config.estimators import shipped_estimators

MEMBERS = shipped_estimators()

SPEC = MEMBERS["early_training"]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _data(n=80, k=12, margin=2.0, seed=0):
    """Features, and outputs whose mean is ``margin``."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, k)) * generator.uniform(0.2, 2, k) + generator.standard_normal(k)
    f = generator.standard_normal(n)
    return X, f - f.mean() + margin


def _flow(X, target, window):
    """Euler's method with tiny steps: T where the mean output reaches the target, and q̄ over the first part of it."""
    step = 0.02 / np.linalg.eigvalsh(X.T @ X)[-1]
    v, time, outputs = np.zeros(X.shape[1]), 0.0, [np.zeros(len(X))]
    while outputs[-1].mean() < target:
        v = v + step * X.T @ _sigmoid(-outputs[-1])
        outputs.append(X @ v)
        time += step
    end = max(int(window * len(outputs)), 1)
    return time, _sigmoid(-np.array(outputs[:end])).mean(axis=0)


@pytest.mark.parametrize("margin", [1.0, 3.0])
@pytest.mark.parametrize(("n", "k"), [(80, 12), (15, 40)])
def test_it_is_gradient_flow(n, k, margin):
    X, f = _data(n, k, margin)
    found = simulate(X, f, n)
    duration, mean_q = _flow(X, margin, WINDOW)
    unit = 1 / ((X**2).sum() / n)
    assert found.arrived
    assert found.duration * unit == pytest.approx(duration, rel=0.15)  # its steps grow by a quarter: it is no solver
    np.testing.assert_allclose(found.mean_q(X), mean_q, rtol=0.1)


def test_its_steps_are_those_of_direct_solutions_for_any_number_of_features():
    X, f = _data(500, 290, 3.0)
    found, v, before = simulate(X, f, 500), np.zeros(290), 0.0
    inside = found.times[:-1]  # the last one is interpolated
    for time, expected in zip(inside[1:], found.parameters.T[1:-1], strict=True):
        q = _sigmoid(-(X @ v))
        system = np.eye(290) + (time - before) * (X.T * (q * (1 - q))) @ X
        v, before = v + (time - before) * np.linalg.solve(system, X.T @ q), time
        np.testing.assert_allclose(expected, v, rtol=0, atol=1e-8 * np.abs(v).max())
    assert len(inside) > 5


def test_short_training_weights_samples_equally_and_long_training_the_hard_ones():
    X, _ = _data(200, 6)
    X[:10] = -X[:10].mean(axis=0) + 0.1 * X[:10]  # ten samples against the rest
    ratios = {margin: simulate(X, np.full(200, margin), 200).mean_q(X) for margin in (0.02, 2.0)}
    assert np.ptp(ratios[0.02]) < 0.02
    assert ratios[2.0][:10].min() > ratios[2.0][10:].mean()


def test_the_unit_of_the_features_does_not_matter():
    X, f = _data()
    one, other = simulate(X, f, 80), simulate(1e3 * X, f, 80)
    assert one.duration == pytest.approx(other.duration)
    np.testing.assert_allclose(one.mean_q(X), other.mean_q(1e3 * X))


def test_a_subset_of_rows_estimates_the_whole():
    X, f = _data(4000, 8)
    whole, part = simulate(X, f, 4000), simulate(X[::4], f[::4], 4000)
    np.testing.assert_allclose(part.mean_q(X), whole.mean_q(X), rtol=0.05)


@pytest.mark.parametrize("copies", [30, 1_000, 100_000])
@pytest.mark.parametrize("margin", [0.5, 3.0])
def test_more_samples_of_the_same_kind_only_make_training_shorter(margin, copies):
    X, f = _data(200, 12, margin)
    one, many = simulate(X, f, 200), simulate(X, f, 200 * copies)
    assert many.duration * copies == pytest.approx(one.duration, rel=0.05)
    np.testing.assert_allclose(many.mean_q(X), one.mean_q(X), rtol=0.03)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 10**9))
def test_rows_of_the_flow_are_spread_over_all(rows):
    chosen = flow_rows(rows)
    assert chosen[0] == 0
    assert chosen[-1] == rows - 1
    assert len(np.unique(chosen)) == len(chosen) == min(rows, FLOW_ROWS)


def test_parts_of_the_output_that_features_cannot_reach_are_reported():
    X, f = _data(30, 2, margin=500.0)
    X[:, 0] = np.where(np.arange(30) % 2, 1, -1)  # the samples contradict each other
    found = simulate(X - X.mean(axis=0), f, 30)
    assert not found.arrived
    assert np.isfinite(found.mean_q(X)).all()
    nothing = simulate(np.zeros((5, 3)), np.ones(5), 5)
    assert not nothing.arrived
    np.testing.assert_allclose(nothing.mean_q(np.zeros((2, 3))), 0.5)


def test_an_untrained_model_is_at_the_start_of_the_simulated_training():
    X, f = _data(margin=-1.0)
    np.testing.assert_allclose(simulate(X, f, 80).mean_q(X), 0.5, atol=1e-2)


def test_only_log_odds_can_be_simulated():
    X, f = _data()
    assert follows_log_loss(f, _sigmoid(-f).astype(np.float32))
    assert not follows_log_loss(f, f)
    assert simulate_for(SPEC, X, f, f, 80) is None
    assert simulate_for(MEMBERS["trak"], X, _sigmoid(-f), f, 80) is None
    assert (f < 0).any()
    plain = weigh(SPEC, None, X, f)
    np.testing.assert_array_equal(plain.gram, np.ones(80))
    np.testing.assert_array_equal(plain.sample, f)


def test_means_of_probabilities_that_are_not_a_function_of_f_get_equal_weights():
    """Sums over tokens: q is the mean of 1 − p over the tokens, f the sum of their log-odds."""
    X, f = _data()
    q = np.random.default_rng(3).random(80).astype(np.float32)
    training = simulate_for(SPEC, X, q, f, 80)
    assert (training.duration, training.arrived) == (0, True)
    weights = weigh(SPEC, training, X, q)
    for factor in (weights.gram, weights.sample):
        np.testing.assert_array_equal(factor, np.full(80, 0.5))


@pytest.mark.parametrize("squared", [False, True])
def test_scores_in_pieces_are_the_formula(squared):
    """Gram, weights and scores from chunks of rows, as the stages take them; also where q does not follow from f."""
    data = [_data(seed=seed) for seed in range(2)]
    X, f = [one.astype(np.float32) for one, _ in data], [one for _, one in data]
    q = [one / 3 if squared else _sigmoid(-one) for one in f]
    T = [np.random.default_rng(9).standard_normal((5, 12)).astype(np.float32) for _ in data]
    factors, ratios = [], []
    for x, out_to_loss, outputs, targets in zip(X, q, f, T, strict=True):
        threshold = clip_threshold(SPEC, x)
        x = training_rows(SPEC, x, threshold)
        training = simulate_for(SPEC, x, out_to_loss, outputs, 80)
        assert (training is None) == squared
        total, ratio = GramSum(12), []
        for rows in np.array_split(np.arange(80), 3):
            weights = weigh(SPEC, training, x[rows], out_to_loss[rows])
            total.add(x[rows], weights.gram, outputs=outputs[rows])
            ratio.append(weights.sample)
        spectrum = decompose(total.result())
        factors.append(target_factor(SPEC, targets, spectrum, SPEC.ridge_in(spectrum), threshold))
        ratios.append(np.concatenate(ratio))
    found = score_block(SPEC, normalize_targets(SPEC, factors), X, sample_weight(SPEC, ratios))
    expected = scores(SPEC, X, q, T, f)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
