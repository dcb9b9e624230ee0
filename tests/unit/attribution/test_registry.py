"""Metrics that users register."""

import numpy as np
import pytest
from scores_oracle import scores

from trak_cli.attribution.estimator.describe import describe_formula
from trak_cli.attribution.estimator.registry import Metric, metric_named, metric_names, register_metric
from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.estimator.validation import spec_problems
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight, score_block, target_factor
from trak_cli.errors import ConfigError


@register_metric("diagonal")
class Diagonal(Metric):
    """B = 1 / (diag(G) + λ)."""

    def apply(self, targets, spectrum, ridge):
        return targets / (spectrum.diagonal() + ridge)


@register_metric("doubled")
class Doubled(Metric):
    """B = 2 I."""

    needs_gram = False

    def apply(self, targets, spectrum, ridge):
        assert spectrum is None
        return 2 * targets


def _data(n: int = 60, k: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X, T = generator.standard_normal((n, k)).astype(np.float32), generator.standard_normal((5, k)).astype(np.float32)
    return X, generator.uniform(0.1, 1, n).astype(np.float32), T


def test_the_metrics_of_the_program_are_registered_first():
    assert metric_names()[:2] == ("gram", "identity")
    assert metric_named("gram").needs_gram
    assert not metric_named("identity").needs_gram


def test_an_estimator_can_name_a_registered_metric():
    spec = EstimatorSpec("mine", metric="diagonal", ridge=2.0)
    assert spec_problems(spec) == []
    assert gram_key(spec) == gram_key(EstimatorSpec("other"))
    assert "diagonal(Σ x xᵀ, λ)" in describe_formula(spec)


def test_a_metric_without_gram_matrix_has_no_ridge():
    spec = EstimatorSpec("mine", metric="doubled", ridge=2.0)
    assert [problem.where for problem in spec_problems(spec)] == ["estimator.ridge"]


def test_scores_apply_the_metric_streamed_and_written_out():
    X, q, T = _data()
    spec = EstimatorSpec("mine", metric="diagonal", gram_exponent=1.0, ridge=2.0, ridge_unit="absolute")
    expected = (T / ((q[:, None] * X.astype(np.float64) ** 2).sum(axis=0) + 2)) @ X.T * q
    np.testing.assert_allclose(scores(spec, [X], [q], [T]), expected, rtol=1e-9)
    gram = GramSum(12)
    gram.add(X, q)
    factor = target_factor(spec, T, decompose(gram.result()), 2.0)
    np.testing.assert_allclose(score_block(spec, [factor], [X], sample_weight(spec, [q])), expected, rtol=1e-4, atol=1e-5)
    doubled = scores(EstimatorSpec("two", metric="doubled"), [X], [q], [T])
    np.testing.assert_allclose(doubled, 2 * scores(EstimatorSpec("one", metric="identity"), [X], [q], [T]))


def test_sums_over_subsets_need_no_code_of_their_own():
    X, q, T = _data()
    gram = GramSum(12)
    gram.add(X, q)
    spectrum, targets, sums = decompose(gram.result()), T.astype(np.float64), X.astype(np.float64)[:4].T
    for ridge, (values, lengths) in zip(
        (0.5, 3.0), metric_named("diagonal").subset_sums(targets, sums, spectrum, (0.5, 3.0)), strict=True
    ):
        B = np.diag(1 / (spectrum.diagonal() + ridge))
        np.testing.assert_allclose(values, targets @ B @ sums)
        np.testing.assert_allclose(lengths[:, 0], np.sqrt(np.diag(targets @ B @ targets.T)))


def test_a_spectrum_reconstructs_the_gram_matrix():
    X, q, _ = _data(n=5)  # fewer rows than coordinates: the spectrum is not complete
    gram = GramSum(12)
    gram.add(X, q)
    spectrum, expected = decompose(gram.result()), (X.astype(np.float64).T * q) @ X
    np.testing.assert_allclose(spectrum.matrix(), expected, atol=1e-12)
    np.testing.assert_allclose(spectrum.diagonal(), np.diagonal(expected), atol=1e-12)


def test_a_name_belongs_to_one_class():
    register_metric("diagonal")(Diagonal)  # a module that is imported again
    with pytest.raises(ConfigError, match="another name"):
        register_metric("gram")(Diagonal)


def test_a_metric_without_apply_is_refused():
    class Nothing(Metric):
        """Has no formula."""

    with pytest.raises(ConfigError, match="without apply"):
        register_metric("nothing")(Nothing)


def test_an_unknown_metric_names_the_known_ones_and_the_key_for_extensions():
    (problem,) = spec_problems(EstimatorSpec("mine", metric="digonal"))
    assert "identity" in problem.expected
    assert "extensions" in problem.remedy
    with pytest.raises(ConfigError, match=r"estimator\.metric"):
        metric_named("digonal")
