"""The streamed scores against the formula written out, and the laws that the formula obeys."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores_oracle import scores

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import soften, thresholds
from trak_cli.attribution.estimator.weights import weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import normalize_targets, sample_weight, score_block, target_factor
from trak_cli.config.estimators import shipped_estimators
from trak_cli.errors import InputError

MEMBERS = shipped_estimators()

HALF = EstimatorSpec("half", gram_exponent=1, weight_exponent=0.5, ridge=1, ridge_unit="mean_diagonal")
FAMILY = [
    *(member for member in MEMBERS.values() if not member.simulates_training),  # for those: test_simulated_training.py
    HALF,
    EstimatorSpec("small-ridge", ridge=0.1, ridge_unit="mean_diagonal"),
    EstimatorSpec("absolute", ridge=7, ridge_unit="absolute"),
    EstimatorSpec("fisher-unit", gram_exponent=2, unit_norm=True, ridge=3, ridge_unit="mean_diagonal"),
    EstimatorSpec("no-weight", weight_exponent=0, ridge=3, ridge_unit="mean_diagonal"),
    EstimatorSpec("equal-targets", gram_exponent=1.0, ridge=1, normalize_targets=True),
    EstimatorSpec("equal-unit", unit_norm=True, ridge=1, normalize_targets=True),
    EstimatorSpec("equal-scores", metric="identity", averaging="scores", normalize_targets=True),
    EstimatorSpec("clipped", gram_exponent=1.0, ridge=1, clip_norm=0.9),
    EstimatorSpec(
        "clipped-equal", ridge=0.3, ridge_unit="mean_norm", normalize_targets=True, clip_norm=1.2, averaging="scores"
    ),
    EstimatorSpec("shrunk", gram_exponent=1.0, ridge=1, clip_norm=0.9, normalize_targets=True, shrinkage=0.2),
    EstimatorSpec("shrunk-unit", unit_norm=True, ridge=1, shrinkage=0.05, averaging="scores"),
    EstimatorSpec("shrunk-soft", metric="identity", shrinkage=0.3, soft_threshold=0.4),
    EstimatorSpec("own-weights", weight_exponent=0.5, averaging="scores", ridge=3, ridge_unit="mean_diagonal"),
    EstimatorSpec("soft-scores", averaging="scores", soft_threshold=0.7, ridge=1, ridge_unit="mean_diagonal"),
]
members = pytest.mark.parametrize("spec", FAMILY, ids=lambda spec: spec.name)


def _data(n=60, t=7, k=10, checkpoints=3, seed=0):
    generator = np.random.default_rng(seed)
    X = [generator.standard_normal((n, k)).astype(np.float32) for _ in range(checkpoints)]
    q = [generator.uniform(-0.3, 1, n).astype(np.float32) for _ in range(checkpoints)]
    T = [generator.standard_normal((t, k)).astype(np.float32) for _ in range(checkpoints)]
    return X, q, T


def _streamed(spec, X, q, T, rows=17):
    factors = []
    for x, out_to_loss, targets in zip(X, q, T, strict=True):
        spectrum, ridge, limit = None, 0.0, clip_threshold(spec, x)
        if spec.needs_gram:
            gram = GramSum(x.shape[1])
            normed = training_rows(spec, x, limit)
            gram.add(normed, weigh(spec, None, normed, out_to_loss).gram)
            spectrum = decompose(gram.result())
            ridge = spec.ridge_in(spectrum)
        factors.append(target_factor(spec, targets, spectrum, ridge, limit))
    blocks = []
    for start in range(0, len(X[0]), rows):
        block = slice(start, start + rows)
        weights = sample_weight(spec, [values[block] for values in q])
        blocks.append(score_block(spec, normalize_targets(spec, factors), (x[block] for x in X), weights))
    found = np.concatenate(blocks, axis=1)
    return soften(found, thresholds(found, spec.soft_threshold)) if spec.soft_threshold else found


def _close(got, expected, tolerance=2e-5):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_trak_entry_by_entry():
    """τ(i, j) = mean_m[x_iᵀ (XᵀX + λI)⁻¹ t_j] · mean_m[q_i], each piece written as loops."""
    X, q, T = _data(n=9, t=2, k=3, checkpoints=2)
    got = scores(EstimatorSpec("trak", ridge=2.5, ridge_unit="absolute"), X, q, T)
    for i in range(9):
        for j in range(2):
            kernel = 0.0
            for x, t in zip(X, T, strict=True):
                A = sum(np.outer(row, row) for row in x.astype(np.float64)) + 2.5 * np.eye(3)
                kernel += float(x[i].astype(np.float64) @ np.linalg.inv(A) @ t[j].astype(np.float64)) / 2
            assert got[j, i] == pytest.approx(kernel * (float(q[0][i]) + float(q[1][i])) / 2, rel=1e-9)


def test_cosine_is_the_cosine():
    (X,), (q,), (T,) = _data(checkpoints=1)
    got = scores(MEMBERS["cosine"], [X], [q], [T])
    expected = X[5] @ T[2] / np.linalg.norm(X[5]) / np.linalg.norm(T[2]) * np.sign(q[5])
    assert got[2, 5] == pytest.approx(expected, rel=1e-5)


def test_dot_of_one_checkpoint_is_tracin():
    (X,), (q,), (T,) = _data(checkpoints=1)
    np.testing.assert_allclose(scores(MEMBERS["dot"], [X], [q], [T]), T.astype(float) @ (X * q[:, None]).T, atol=1e-5)


@members
def test_streamed_equals_the_formula(spec):
    X, q, T = _data()
    X[0][4] = 0
    T[1][2] = 0
    got = _streamed(spec, X, q, T)
    assert got.dtype == np.float32
    _close(got, scores(spec, X, q, T))


@pytest.mark.parametrize("spec", [MEMBERS["trak"], MEMBERS["cosine"], HALF], ids=lambda spec: spec.name)
@pytest.mark.parametrize("unit", [1e-18, 1e17])
def test_units_of_the_gradients_do_not_leave_float32(spec, unit):
    X, q, T = _data()
    X, T = [x * np.float32(unit) for x in X], [t * np.float32(unit) for t in T]
    _close(_streamed(spec, X, q, T), scores(spec, X, q, T))


def test_a_preconditioned_target_may_be_beyond_float32():
    """A weak direction of tiny gradients: its component of A⁻¹t is about 1e40, and the scores are ordinary numbers."""
    X, q, T = _data()
    X, T = [x * np.float32(1e-30) for x in X], [t * np.float32(1e-30) for t in T]
    for x in X:
        x[:, 0] *= np.float32(1e-6)
    spec = EstimatorSpec("no-ridge", ridge=0, ridge_unit="absolute")
    _close(_streamed(spec, X, q, T), scores(spec, X, q, T), 1e-3)


def test_a_score_beyond_float32_is_refused():
    X, q, T = _data()
    with pytest.raises(InputError, match="too large for float32"):
        _streamed(MEMBERS["dot"], [x * np.float32(1e30) for x in X], q, [t * np.float32(1e30) for t in T])


def test_checkpoints_must_pair_up():
    X, q, T = _data()
    factors = [target_factor(MEMBERS["dot"], t, None, 0.0) for t in T]
    with pytest.raises(ValueError, match="shorter"):
        score_block(MEMBERS["dot"], factors, X[:2], sample_weight(MEMBERS["dot"], q))


def test_positive_scores_raise_the_target_of_a_linear_model():
    """Ridge regression in the features: adding a gradient step on sample i moves f(j) in the direction of the score's sign."""
    (X,), (q,), (T,) = _data(checkpoints=1)
    got = scores(EstimatorSpec("trak", ridge=1, ridge_unit="mean_diagonal"), [X], [q], [T])
    gram = X.astype(np.float64).T @ X
    A = gram + np.trace(gram) / len(gram) * np.eye(len(gram))
    for i in (0, 7, 30):
        step = np.linalg.solve(A, float(q[i]) * X[i].astype(np.float64))
        np.testing.assert_allclose(got[:, i], T.astype(np.float64) @ step, rtol=1e-9)


@members
@settings(deadline=None, max_examples=10)
@given(st.permutations(range(20)))
def test_permuting_training_rows_permutes_scores(spec, order):
    X, q, T = _data(n=20)
    permuted = scores(spec, [x[order] for x in X], [values[order] for values in q], T)
    _close(permuted, scores(spec, X, q, T)[:, order], 1e-9)


@pytest.mark.parametrize("spec", [MEMBERS["trak"], HALF], ids=lambda spec: spec.name)
@settings(deadline=None, max_examples=20)
@given(st.integers(-10, 10).map(lambda power: 2.0**power))
def test_a_relative_ridge_takes_out_the_units_of_each_checkpoint(spec, unit):
    X, q, T = _data()
    rescaled = scores(spec, [X[0] * np.float32(unit), *X[1:]], q, [T[0] * np.float32(unit), *T[1:]])
    _close(rescaled, scores(spec, X, q, T), 1e-9)


def test_scaling_training_features_alone_divides_the_scores():
    (X,), q, T = _data(checkpoints=1)
    _close(
        scores(MEMBERS["trak"], [X * np.float32(4)], q, T),
        scores(MEMBERS["trak"], [X], q, T) / 4,
        1e-9,
    )


@pytest.mark.parametrize("spec", [spec for spec in FAMILY if spec.needs_gram], ids=lambda spec: spec.name)
def test_a_huge_ridge_leaves_the_dot_product(spec):
    (X,), q, T = _data(checkpoints=1)
    damped = scores(dataclasses.replace(spec, ridge=1e9, ridge_unit="absolute"), [X], q, T) * 1e9
    _close(damped, scores(dataclasses.replace(spec, metric="identity"), [X], q, T), 1e-6)


@pytest.mark.parametrize("spec", [spec for spec in FAMILY if not spec.shrinkage], ids=lambda spec: spec.name)
def test_a_checkpoint_given_twice_changes_nothing(spec):
    """But for shrinking, which takes checkpoints to be independent and believes a mean of more of them more."""
    X, q, T = _data(checkpoints=2)
    _close(scores(spec, X * 2, q * 2, T * 2), scores(spec, X, q, T), 1e-12)


def test_sample_weights_are_averaged_before_the_power():
    first, second = np.array([0.0, -1.0, 0.5, 0.0]), np.array([0.5, 0.5, 0.5, 0.0])
    spec = EstimatorSpec("a", weight_exponent=0.5)
    np.testing.assert_allclose(sample_weight(spec, [first, second]), [0.5, -0.5, np.sqrt(0.5), 0])


def test_sample_weight_without_exponent_is_the_sign_and_one_at_zero():
    spec = EstimatorSpec("a", weight_exponent=0)
    np.testing.assert_array_equal(sample_weight(spec, [np.array([0.2, -0.1, 0.0, -0.0])]), [1, -1, 1, 1])


def test_averaging_scores_is_the_mean_of_single_checkpoints():
    X, q, T = _data(checkpoints=3)
    spec = EstimatorSpec("a", weight_exponent=0.5, gram_exponent=1.0, averaging="scores")
    single = [scores(spec, [x], [values], [t]) for x, values, t in zip(X, q, T, strict=True)]
    _close(scores(spec, X, q, T), np.mean(single, axis=0), 1e-12)
    assert not np.allclose(scores(spec, X, q, T), scores(dataclasses.replace(spec, averaging="kernels"), X, q, T))


def test_normalized_targets_give_every_checkpoint_the_same_influence():
    """A target that is ten times as long under one checkpoint has the same scores but for one factor."""
    X, q, T = _data(checkpoints=2)
    spec = EstimatorSpec("a", ridge=1, normalize_targets=True)
    before, longer = scores(spec, X, q, T), scores(spec, X, q, [T[0] * 10, T[1]])
    factors = longer[:, :1] / before[:, :1]
    assert ((factors > 1) & (factors < 10)).all()
    _close(longer, before * factors, 1e-6)
    T[0][3] = 0  # no length to bring to another
    assert np.isfinite(scores(spec, X, q, T)).all()
    _close(_streamed(spec, X, q, T), scores(spec, X, q, T))


def test_normalized_targets_do_not_depend_on_the_units_of_a_checkpoint():
    """Gradients of one checkpoint in other units, training samples and targets alike, weigh no more and no less."""
    X, q, T = _data(checkpoints=2)
    spec = EstimatorSpec("a", ridge=1, normalize_targets=True)
    _close(scores(spec, [X[0] * 7, X[1]], q, [T[0] * 7, T[1]]), scores(spec, X, q, T), 1e-6)


def test_normalizing_targets_changes_nothing_with_one_checkpoint():
    X, q, T = _data(checkpoints=1)
    equal = EstimatorSpec("a", ridge=1, normalize_targets=True)
    _close(scores(equal, X, q, T), scores(dataclasses.replace(equal, normalize_targets=False), X, q, T), 1e-12)


@pytest.mark.parametrize("spec", [EstimatorSpec("a"), EstimatorSpec("b", weight_exponent=0.5)], ids=["trak", "root"])
def test_with_one_checkpoint_both_ways_of_averaging_are_the_same(spec):
    X, q, T = _data(checkpoints=1)
    _close(scores(dataclasses.replace(spec, averaging="scores"), X, q, T), scores(spec, X, q, T), 1e-12)
